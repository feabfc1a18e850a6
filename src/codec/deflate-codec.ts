/**
 * Deflate codec, compression_type 0: a raw deflate stream without a zlib header (spec, "Compressed Clusters Descriptor").
 * The work is pako's.
 *
 * Writing uses the parameters that QEMU writes with, so that any reader's window of 12 bits is enough: level 6, 12 bits,
 * memory level 9.
 */
import { Z_DEFAULT_STRATEGY, Z_FINISH, ZStream, zlibDeflate, zlibDeflateInit2, zlibDeflateReset } from 'pako';
import { assert } from '../util/assert.js';
import type { ClusterCodec } from './cluster-codec.js';
import { Inflater } from './inflate.js';
import { setBuffers } from './stream-buffers.js';

const LEVEL = 6;
/** The only method of the format. */
const Z_DEFLATED = 8;
/** Negative: raw. */
const WINDOW_BITS = -12;
const MEMORY_LEVEL = 9;
const Z_OK = 0;
const Z_STREAM_END = 1;

export class DeflateCodec implements ClusterCodec {
  readonly #inflater = new Inflater();
  /** Made at the first write: most images are only read. */
  #deflater: ZStream | null = null;

  compress(cluster: Uint8Array): Uint8Array<ArrayBuffer> | null {
    const stream = this.#startedDeflater();
    const output = new Uint8Array(cluster.length - 1);
    setBuffers(stream, cluster, output);
    if (zlibDeflate(stream, Z_FINISH) !== Z_STREAM_END) return null;
    return output.slice(0, output.length - stream.avail_out);
  }

  decompress(source: Uint8Array, target: Uint8Array<ArrayBuffer>, where: string): void {
    this.#inflater.inflate(source, target, where);
  }

  #startedDeflater(): ZStream {
    if (this.#deflater === null) {
      this.#deflater = new ZStream();
      const status = zlibDeflateInit2(this.#deflater, LEVEL, Z_DEFLATED, WINDOW_BITS, MEMORY_LEVEL, Z_DEFAULT_STRATEGY);
      assert(status === Z_OK, `deflate starts (${status})`);
    } else {
      zlibDeflateReset(this.#deflater);
    }
    return this.#deflater;
  }
}
