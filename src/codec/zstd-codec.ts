/**
 * Zstd codec, compression_type 1: a cluster is the content of one zstd frame, or of several in a row (RFC 8878, section
 * 3.1). QEMU writes one.
 *
 * The library decompresses whole frames and takes all bytes it is given for them. So each frame is cut out exactly before;
 * what follows when the cluster is full is not looked at.
 */
import { Qcow2Error } from '../errors.js';
import { Zstd } from '../kernels/zstd-module.js';
import type { ClusterCodec } from './cluster-codec.js';
import { zstdFrameLength } from './zstd-frame-length.js';

let shared: Zstd | undefined;

/** The engine is synchronous, so that all images of a thread can share one module and its buffers. */
function zstd(): Zstd {
  shared ??= new Zstd();
  return shared;
}

export class ZstdCodec implements ClusterCodec {
  compress(cluster: Uint8Array): Uint8Array<ArrayBuffer> | null {
    return zstd().compress(cluster, cluster.length - 1);
  }

  decompress(source: Uint8Array, target: Uint8Array<ArrayBuffer>, where: string): void {
    let filled = 0;
    let at = 0;
    while (filled < target.length) {
      const rest = source.subarray(at);
      const length = zstdFrameLength(rest, where);
      const result = zstd().decompress(rest.subarray(0, length), target.subarray(filled));
      if (result.kind === 'too-long') {
        throw new Qcow2Error(
          'BAD_IMAGE',
          `${where}: the zstd frame holds more than the ${target.length} bytes of a cluster`,
        );
      }
      if (result.kind === 'damaged') {
        throw new Qcow2Error('BAD_IMAGE', `${where}: the zstd frame is damaged (error ${result.code})`);
      }
      filled += result.length;
      at += length;
    }
  }
}
