/**
 * Runtime options: how an image is worked with, apart from what is in its header. All may be changed while it is open
 * (`Qcow2Image.reopen`). Names and rules are QEMU's, in camel case.
 */
import { Qcow2Error } from '../errors.js';
import type { CacheOptions } from '../metadata/cache-sizes.js';
import type { DiscardOptions } from '../metadata/discard-policy.js';
import type { OverlapCheck } from '../metadata/overlap-options.js';

export interface RuntimeOptions extends CacheOptions {
  /**
   * Seconds after which unused table slices are dropped from memory; 0 for never. The engine has no timers: the worker, or
   * who embeds the engine, calls `cleanCaches()`. Default 600.
   */
  readonly cacheCleanInterval?: number | undefined;
  /** Refcounts are written late, behind the dirty bit. Version 3 only. Default: as the image says. */
  readonly lazyRefcounts?: boolean | undefined;
  /** The structures that are guarded against being written over. Default `cached`. */
  readonly overlapCheck?: OverlapCheck | undefined;
  /** Which freed clusters are given back to the host, where the storage can punch holes. */
  readonly discard?: DiscardOptions | undefined;
}

const DEFAULT_CLEAN_INTERVAL = 600;
const LARGEST_CLEAN_INTERVAL = 0xffff_ffff;

/** The runtime options among others, checked as far as the image need not be known. Throws `BAD_ARGUMENT`. */
export function runtimeOptions(options: RuntimeOptions): RuntimeOptions {
  const { cacheSize, l2CacheSize, refcountCacheSize, l2CacheEntrySize } = options;
  const { lazyRefcounts, overlapCheck, discard } = options;
  const caches = { cacheSize, l2CacheSize, refcountCacheSize, l2CacheEntrySize };
  return { ...caches, cacheCleanInterval: cleanInterval(options), lazyRefcounts, overlapCheck, discard };
}

/** Seconds. Throws `BAD_ARGUMENT`. */
export function cleanInterval({ cacheCleanInterval = DEFAULT_CLEAN_INTERVAL }: RuntimeOptions): number {
  if (Number.isInteger(cacheCleanInterval) && cacheCleanInterval >= 0 && cacheCleanInterval <= LARGEST_CLEAN_INTERVAL) {
    return cacheCleanInterval;
  }
  const limits = `0 to ${LARGEST_CLEAN_INTERVAL} seconds`;
  throw new Qcow2Error('BAD_ARGUMENT', `cacheCleanInterval is ${cacheCleanInterval}; it must be ${limits}`);
}

/**
 * The options after a change. What is not mentioned stays, with two exceptions: a new overlap template does away with the
 * old switches, and a new cache size with the old sizes that could contradict it. (Today's QEMU forgets the combined size
 * at every reopen that does not repeat it; here only a new size of one of the caches does that.)
 */
export function joinOptions(old: RuntimeOptions, changes: RuntimeOptions): RuntimeOptions {
  return {
    ...old,
    ...mentioned(changes),
    ...joinCacheSizes(old, changes),
    overlapCheck: joinOverlapChecks(old.overlapCheck, changes.overlapCheck),
    discard: { ...old.discard, ...mentioned(changes.discard ?? {}) },
  };
}

function joinCacheSizes(old: RuntimeOptions, changes: RuntimeOptions): CacheOptions {
  const { cacheSize, l2CacheSize, refcountCacheSize } = changes;
  if (cacheSize !== undefined) return { cacheSize, l2CacheSize, refcountCacheSize };
  const one = l2CacheSize !== undefined || refcountCacheSize !== undefined;
  return {
    cacheSize: one ? undefined : old.cacheSize,
    l2CacheSize: l2CacheSize ?? old.l2CacheSize,
    refcountCacheSize: refcountCacheSize ?? old.refcountCacheSize,
  };
}

function joinOverlapChecks(old: OverlapCheck | undefined, change: OverlapCheck | undefined): OverlapCheck | undefined {
  if (change === undefined) return old;
  if (typeof change === 'string' || change.template !== undefined) return change;
  const before = typeof old === 'string' ? { template: old } : old;
  return { ...before, ...mentioned(change) };
}

/** Without the keys whose value is undefined, which would hide an old value. */
function mentioned<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}
