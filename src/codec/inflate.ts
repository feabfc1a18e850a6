/**
 * Inflate: a compressed cluster of type 0 is a raw deflate stream without a zlib header, written with a window of 12
 * bits (spec, "Compressed Clusters Descriptor" and compression_type). The work is pako's.
 *
 * The stream ends where a cluster is full; the bytes after it belong to somebody else and are not looked at.
 */
import { Z_FINISH, ZStream, zlibInflate, zlibInflateInit2, zlibInflateReset } from 'pako';
import { Qcow2Error } from '../errors.js';
import { setBuffers } from './stream-buffers.js';

/** Raw, and wide enough for streams of any window. */
const RAW_WINDOW_BITS = -15;
const Z_OK = 0;

export class Inflater {
  readonly #stream = new ZStream();

  constructor() {
    const status = zlibInflateInit2(this.#stream, RAW_WINDOW_BITS);
    if (status !== Z_OK) throw new Error(`internal: inflate could not be started (${status})`);
  }

  /**
   * Fills exactly `target`, one cluster, from `source`. Throws `BAD_IMAGE`, naming `where`, for a damaged stream or one
   * that holds less than a cluster.
   */
  inflate(source: Uint8Array, target: Uint8Array<ArrayBuffer>, where: string): void {
    const stream = this.#stream;
    zlibInflateReset(stream);
    setBuffers(stream, source, target);
    const status = zlibInflate(stream, Z_FINISH);
    if (stream.avail_out > 0) {
      const got = target.length - stream.avail_out;
      const reason = stream.msg || `status ${status}`;
      throw new Qcow2Error(
        'BAD_IMAGE',
        `${where}: the deflate stream gave ${got} of ${target.length} bytes (${reason})`,
      );
    }
  }
}
