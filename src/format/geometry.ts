/**
 * Geometry: the sizes that follow from `cluster_bits` and `refcount_order` (spec, "Host cluster management" and
 * "Cluster mapping"). All of one image's address arithmetic starts here.
 */
import { divideUp } from '../util/integers.js';

export interface Geometry {
  readonly clusterBits: number;
  /** Bytes. */
  readonly clusterSize: number;
  /** Bytes of an L2 entry: 8, or 16 with extended L2 entries. */
  readonly l2EntryBytes: number;
  /** Bytes that can be allocated apart from their cluster: a 32nd of it with extended L2 entries, else the whole. */
  readonly subclusterSize: number;
  /** Entries of one L2 table. */
  readonly l2Entries: number;
  /** Guest bytes that one L2 table maps. */
  readonly l2Coverage: number;
  /** log2 of the refcount width in bits. */
  readonly refcountOrder: number;
  readonly refcountBits: number;
  /** The largest refcount that fits, at most 2^53 - 1. */
  readonly maxRefcount: number;
  /** Entries of one refcount block, that is, clusters it counts. */
  readonly refcountBlockEntries: number;
}

export const SUBCLUSTERS = 32;

export function geometryOf(clusterBits: number, refcountOrder: number, extendedL2 = false): Geometry {
  const clusterSize = 2 ** clusterBits;
  const refcountBits = 2 ** refcountOrder;
  const l2EntryBytes = extendedL2 ? 16 : 8;
  const l2Entries = clusterSize / l2EntryBytes;
  return {
    clusterBits,
    clusterSize,
    l2EntryBytes,
    subclusterSize: extendedL2 ? clusterSize / SUBCLUSTERS : clusterSize,
    l2Entries,
    l2Coverage: l2Entries * clusterSize,
    refcountOrder,
    refcountBits,
    // Width 64 is kept to the signed range, as QEMU does, and to what a double holds.
    maxRefcount: Math.min(2 ** refcountBits - 1, Number.MAX_SAFE_INTEGER),
    refcountBlockEntries: (clusterSize * 8) / refcountBits,
  };
}

/** Entries of the L1 table that a disk of `size` bytes needs. */
export function l1EntriesFor(geometry: Geometry, size: number): number {
  return divideUp(size, geometry.l2Coverage);
}
