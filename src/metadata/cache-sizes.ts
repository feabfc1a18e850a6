/**
 * Cache sizes: how many slots the two table caches get, from QEMU's options and by QEMU's rules (7.2).
 *
 *   l2CacheSize         at most so much for L2 tables, and never more than the whole disk needs. Default 32 MiB
 *   refcountCacheSize   so much for refcount blocks. Default 1 MiB, or 4 clusters where that is more
 *   cacheSize           both together: what the one that is given leaves is for the other. Where neither is given, the L2
 *                       tables get what the whole disk needs and refcounts the rest, at least 4 clusters
 *   l2CacheEntrySize    bytes of a slice, the unit of reading and writing
 *
 * All are bytes. Memory is bounded whatever the size of the image, and an untouched slot costs address space alone (measured:
 * eight memories of 32 MiB add 1.4 MiB to the process). QEMU's default for refcounts is 4 clusters; with its 64 KiB clusters that
 * counts 8 GiB of image, and a guest that trims a larger disk would read and write blocks in turns.
 */
import { Qcow2Error } from '../errors.js';
import type { Geometry } from '../format/geometry.js';
import { SCRATCH_BYTES } from '../kernels/kernels.js';
import { alignUp, divideUp, isPowerOfTwo } from '../util/integers.js';

/** What a caller may ask for. */
export interface CacheOptions {
  readonly cacheSize?: number | undefined;
  readonly l2CacheSize?: number | undefined;
  readonly refcountCacheSize?: number | undefined;
  readonly l2CacheEntrySize?: number | undefined;
}

export interface CacheSizes {
  readonly slotBytes: number;
  readonly l2Slots: number;
  /** 0 for an image opened read-only, which needs no refcounts. */
  readonly refcountSlots: number;
}

export interface CacheShape {
  readonly geometry: Geometry;
  /** Bytes. */
  readonly diskSize: number;
  readonly writable: boolean;
}

const DEFAULT_L2_BYTES = 32 * 1024 * 1024;
const DEFAULT_REFCOUNT_BYTES = 1024 * 1024;
const REFCOUNT_CLUSTERS = 4;
const SMALLEST_SLICE = 512;
/** The eviction of a `TableCache` needs two. */
const SMALLEST_SLOTS = 2;
/** The kernels' memory is addressed with 32 bits; both caches together stay far below. */
const LARGEST_BYTES = 512 * 1024 * 1024;

/** Throws `BAD_ARGUMENT` for options out of range, or that contradict each other as QEMU sees it. */
export function chooseCacheSizes(shape: CacheShape, options: CacheOptions): CacheSizes {
  const slotBytes = sliceBytes(shape.geometry.clusterSize, options.l2CacheEntrySize);
  const { l2, refcounts } = cacheBytes(shape, options);
  return {
    slotBytes,
    l2Slots: slotsFor('L2 cache', l2, slotBytes),
    refcountSlots: shape.writable ? slotsFor('refcount cache', refcounts, slotBytes) : 0,
  };
}

/** A slice passes through the scratch of the kernels, so a larger one than that is cut into several. */
function sliceBytes(clusterSize: number, wanted = clusterSize): number {
  if (!isPowerOfTwo(wanted) || wanted < SMALLEST_SLICE || wanted > clusterSize) {
    const limits = `a power of two from ${SMALLEST_SLICE} to ${clusterSize} (the cluster size)`;
    throw new Qcow2Error('BAD_ARGUMENT', `l2CacheEntrySize is ${wanted}; it must be ${limits}`);
  }
  return Math.min(wanted, SCRATCH_BYTES);
}

/** Bytes of the two caches before they are rounded to slots. */
function cacheBytes(shape: CacheShape, options: CacheOptions): { readonly l2: number; readonly refcounts: number } {
  const { cacheSize, l2CacheSize, refcountCacheSize } = options;
  const { clusterSize } = shape.geometry;
  checkBytes(options);
  const wholeL2 = wholeL2Bytes(shape);
  const l2 = Math.min(wholeL2, l2CacheSize ?? DEFAULT_L2_BYTES);
  const smallestRefcounts = REFCOUNT_CLUSTERS * clusterSize;
  if (cacheSize === undefined) {
    return { l2, refcounts: refcountCacheSize ?? Math.max(DEFAULT_REFCOUNT_BYTES, smallestRefcounts) };
  }
  if (l2CacheSize !== undefined) return { l2, refcounts: cacheSize - l2 };
  if (refcountCacheSize !== undefined) return { l2: cacheSize - refcountCacheSize, refcounts: refcountCacheSize };
  const refcounts = Math.max(Math.min(cacheSize, smallestRefcounts), cacheSize - wholeL2);
  return { l2: cacheSize - refcounts, refcounts };
}

function checkBytes({ cacheSize, l2CacheSize, refcountCacheSize }: CacheOptions): void {
  for (const [name, bytes] of Object.entries({ cacheSize, l2CacheSize, refcountCacheSize })) {
    if (bytes === undefined || (Number.isSafeInteger(bytes) && bytes >= 0)) continue;
    throw new Qcow2Error('BAD_ARGUMENT', `${name} is ${bytes}; it must be a number of bytes, 0 or more`);
  }
  if (cacheSize === undefined) return;
  if (l2CacheSize !== undefined && refcountCacheSize !== undefined) {
    throw new Qcow2Error(
      'BAD_ARGUMENT',
      'cacheSize, l2CacheSize and refcountCacheSize may not be set at the same time',
    );
  }
  const larger = (name: string, bytes: number | undefined) => {
    if (bytes === undefined || bytes <= cacheSize) return;
    throw new Qcow2Error('BAD_ARGUMENT', `${name} is ${bytes}; it may not exceed cacheSize, ${cacheSize}`);
  };
  larger('l2CacheSize', l2CacheSize);
  larger('refcountCacheSize', refcountCacheSize);
}

/** All L2 tables of the disk, in whole clusters. */
function wholeL2Bytes({ geometry, diskSize }: CacheShape): number {
  return alignUp(divideUp(diskSize, geometry.clusterSize) * geometry.l2EntryBytes, geometry.clusterSize);
}

function slotsFor(name: string, bytes: number, slotBytes: number): number {
  if (bytes > LARGEST_BYTES) {
    throw new Qcow2Error('BAD_ARGUMENT', `the ${name} would have ${bytes} bytes; the limit is ${LARGEST_BYTES}`);
  }
  return Math.max(SMALLEST_SLOTS, Math.floor(bytes / slotBytes));
}
