/**
 * Compressed cluster descriptor: where a compressed cluster lies and how many sectors it touches (spec, "Compressed
 * Clusters Descriptor"). Pure.
 *
 *    63  62  61           x  x-1               0     x = 62 - (cluster_bits - 8), 49 to 61
 *   +---+---+---------------+-------------------+
 *   | 0 | 1 | sectors - 1   | host offset       |    not aligned to anything
 *   +---+---+---------------+-------------------+
 *
 * `sectors` counts those after the one that the offset lies in. The stream may end anywhere in the last of them.
 */
import type { HostOffset } from '../disk.js';
import { SECTOR_BYTES } from './limits.js';

export interface CompressedDescriptor {
  readonly host: HostOffset;
  /** Bytes from `host` to the end of the last sector; the stream is at most this long. */
  readonly length: number;
}

/** The entry, as low and high word, for `length` bytes of compressed data at `host`. */
export function encodeCompressedDescriptor(host: HostOffset, length: number, clusterBits: number): [number, number] {
  const shift = 62 - (clusterBits - 8) - 32;
  const additional = Math.floor((host + length - 1) / SECTOR_BYTES) - Math.floor(host / SECTOR_BYTES);
  const high = 0x4000_0000 + additional * 2 ** shift + Math.floor(host / 0x1_0000_0000);
  return [host % 0x1_0000_0000, high];
}

/** Compressed data must lie below this offset: the descriptor has no more bits for it. */
export function compressedOffsetLimit(clusterBits: number): HostOffset {
  return Math.min(2 ** (62 - (clusterBits - 8)), 2 ** 53);
}

export function decodeCompressedDescriptor(low: number, high: number, clusterBits: number): CompressedDescriptor {
  const shift = 62 - (clusterBits - 8) - 32;
  const sectors = ((high & 0x3fff_ffff) >>> shift) + 1;
  const host = (high & (2 ** shift - 1)) * 0x1_0000_0000 + (low >>> 0);
  return { host, length: sectors * SECTOR_BYTES - (host % SECTOR_BYTES) };
}
