/**
 * Cache sizes: how many slots the two table caches get. Memory is bounded whatever the size of the image: by default at most
 * 8 MiB for L2 tables and 1 MiB for refcounts, and less where the whole image needs less.
 */
import { Qcow2Error } from '../errors.js';
import type { Geometry } from '../format/geometry.js';
import { SCRATCH_BYTES } from '../kernels/kernels.js';
import { divideUp } from '../util/integers.js';

const DEFAULT_L2_BYTES = 8 * 1024 * 1024;
const DEFAULT_REFCOUNT_BYTES = 1024 * 1024;
const SMALLEST_SLOTS = 2;
const SMALLEST_DEFAULT_SLOTS = 4;
/** The kernels' memory is addressed with 32 bits; both caches together stay far below. */
const LARGEST_BYTES = 512 * 1024 * 1024;

export interface CacheSizes {
  readonly slotBytes: number;
  readonly l2Slots: number;
  readonly refcountSlots: number;
}

export interface CacheRequest {
  readonly l2CacheBytes?: number | undefined;
  readonly refcountCacheBytes?: number | undefined;
  /** False: no refcounts are needed, the image is opened read-only. */
  readonly writable: boolean;
}

export function chooseCacheSizes(geometry: Geometry, diskSize: number, request: CacheRequest): CacheSizes {
  const slotBytes = Math.min(geometry.clusterSize, SCRATCH_BYTES);
  const wholeL2Slots = divideUp(diskSize, (slotBytes / 8) * geometry.clusterSize);
  const defaultL2Slots = Math.max(SMALLEST_DEFAULT_SLOTS, Math.min(wholeL2Slots, DEFAULT_L2_BYTES / slotBytes));
  const defaultRefcountSlots = Math.max(SMALLEST_DEFAULT_SLOTS, DEFAULT_REFCOUNT_BYTES / slotBytes);
  return {
    slotBytes,
    l2Slots: slotsFor('l2CacheBytes', request.l2CacheBytes, slotBytes, defaultL2Slots),
    refcountSlots: request.writable
      ? slotsFor('refcountCacheBytes', request.refcountCacheBytes, slotBytes, defaultRefcountSlots)
      : 0,
  };
}

function slotsFor(name: string, bytes: number | undefined, slotBytes: number, standard: number): number {
  if (bytes === undefined) return standard;
  if (!(bytes >= 0) || bytes > LARGEST_BYTES) {
    throw new Qcow2Error('BAD_ARGUMENT', `${name} is ${bytes}; it must be 0 to ${LARGEST_BYTES}`);
  }
  return Math.max(SMALLEST_SLOTS, Math.floor(bytes / slotBytes));
}
