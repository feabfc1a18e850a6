/**
 * Cluster codec: how the compressed clusters of one image are packed (spec, "compression_type" and "Compressed Clusters
 * Descriptor"). Type 0 is raw deflate, type 1 is zstd.
 *
 * - A stream holds exactly one cluster and is shorter than it; what does not get shorter is stored plainly.
 * - A stream ends where the cluster is full. What follows in its last sector belongs to others and must not be looked at.
 */
import { Qcow2Error } from '../errors.js';
import { DeflateCodec } from './deflate-codec.js';
import { ZstdCodec } from './zstd-codec.js';

export interface ClusterCodec {
  /** The stream of `cluster`, a whole cluster, or null where it would not be shorter than the cluster. */
  compress(cluster: Uint8Array): Uint8Array<ArrayBuffer> | null;
  /**
   * Fills exactly `target`, one cluster, from the start of `source`. Throws `BAD_IMAGE`, naming `where`, for a damaged stream
   * or one that holds less or, where that can be told, more than a cluster.
   */
  decompress(source: Uint8Array, target: Uint8Array<ArrayBuffer>, where: string): void;
}

/** The values of compression_type. */
export const COMPRESSION_ZLIB = 0;
export const COMPRESSION_ZSTD = 1;

/** The codec of an image. Cheap: what a codec needs is set up when it is first used. Throws `UNSUPPORTED`. */
export function codecFor(compressionType: number): ClusterCodec {
  switch (compressionType) {
    case COMPRESSION_ZLIB:
      return new DeflateCodec();
    case COMPRESSION_ZSTD:
      return new ZstdCodec();
    default:
      throw new Qcow2Error(
        'UNSUPPORTED',
        `compression_type is ${compressionType}; 0 (zlib) and 1 (zstd) are supported`,
      );
  }
}
