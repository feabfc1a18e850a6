/**
 * Allocator: hands out free clusters, first fit, and takes back those that are no longer named.
 *
 * - What is handed out has refcount 0 and overlaps no metadata: an image whose refcounts are wrong must not lose that.
 * - Freed clusters wait: their refcounts are lowered by `applyFrees`, which the write order calls once the entries that
 *   named them are gone from the file stably (invariants 3 and 4 of `write-order.ts`).
 */
import type { HostOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import type { Geometry } from '../format/geometry.js';
import { MAX_HOST_OFFSET } from '../format/limits.js';
import { divideUp, hex } from '../util/integers.js';
import type { AccessPurpose } from '../storage/access-purpose.js';
import type { Corruption } from './corruption.js';
import type { FreeReason } from './discard-policy.js';
import type { OverlapGuard } from './overlap-guard.js';
import type { Refcounts } from './refcounts.js';

export interface ClusterRun {
  readonly host: HostOffset;
  /** Clusters. */
  readonly count: number;
}

export interface AllocatorOptions {
  readonly refcounts: Refcounts;
  readonly geometry: Geometry;
  readonly guard: OverlapGuard;
  /** Called before the first change of a refcount since the image was opened or was last clean. */
  readonly beforeChange: () => void;
  readonly corruption: Corruption;
  /** Clusters freed for one of these reasons are given back to the host. */
  readonly passedDown: ReadonlySet<FreeReason>;
  readonly punchHole: (host: HostOffset, length: number) => void;
  /** Tells the storage what the accesses that follow are for. */
  readonly announce: (purpose: AccessPurpose) => void;
}

interface FreedRange {
  readonly first: number;
  count: number;
  readonly reason: FreeReason;
}

export class Allocator {
  readonly #options: AllocatorOptions;
  /** No cluster below it is free, as far as is known. */
  #firstFree = 0;
  #generation = 0;
  /** Where the next compressed data may go, in a cluster that holds some already; null for none. */
  #packAt: HostOffset | null = null;
  /** Ranges of clusters that nothing names any more, in the order they were freed. */
  readonly #waiting: FreedRange[] = [];

  constructor(options: AllocatorOptions) {
    this.#options = options;
  }

  /** Changes when clusters have become free: what was known of the content of any place in the file is not known any more. */
  get generation(): number {
    return this.#generation;
  }

  /** Ranges of clusters that wait to be freed. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Where the last of the next `count` single clusters would end. None is taken but for refcount blocks that are missing there. */
  endOfNext(count: number): HostOffset {
    const { refcounts, geometry } = this.#options;
    let at = this.#firstFree;
    for (let left = count; left > 0;) {
      const { first, count: free } = nextRun(refcounts, at, left);
      at = first + free;
      left -= free;
    }
    return at * geometry.clusterSize;
  }

  /** The first free run, of at most `want` clusters; refcount 1 from now on. Throws `LIMIT` or `CORRUPT`. */
  allocate(want: number): ClusterRun {
    this.#options.beforeChange();
    const { refcounts, announce } = this.#options;
    announce('cluster_alloc');
    const { first, count } = nextRun(refcounts, this.#firstFree, want);
    const run = this.#take(first, count);
    this.#firstFree = first + count;
    return run;
  }

  /** Exactly `count` contiguous clusters, for a table, which is `what` in messages. */
  allocateContiguous(count: number, what?: string): HostOffset {
    this.#options.beforeChange();
    const { refcounts, geometry, announce } = this.#options;
    announce('cluster_alloc');
    if (count >= geometry.refcountBlockEntries) {
      const between = refcounts.freeRun(count);
      if (between !== null) return this.#take(between, count, what).host;
      const first = refcounts.reserveAtEnd(count);
      this.#checkPlace(first, count, what);
      return first * geometry.clusterSize;
    }
    let first = refcounts.nextFree(this.#firstFree);
    this.#firstFree = first;
    for (;;) {
      const length = refcounts.freeLength(first, count);
      if (length === count) return this.#take(first, count, what).host;
      first = refcounts.nextFree(first + length);
    }
  }

  /**
   * Room for `length` bytes of compressed data, less than a cluster, not aligned. Each cluster that it touches is referred
   * to once more: several compressed clusters share one, as far as its refcount goes.
   */
  allocateBytes(length: number): HostOffset {
    this.#options.beforeChange();
    const { refcounts, geometry, announce } = this.#options;
    const { clusterSize } = geometry;
    announce('cluster_alloc_bytes');
    const start = this.#packAt;
    const room = start === null ? 0 : clusterSize - (start % clusterSize);
    const shared = start === null ? 0 : Math.floor(start / clusterSize);
    if (start === null || refcounts.get(shared) >= geometry.maxRefcount) {
      return this.#packFrom(this.allocate(1).host, length);
    }
    if (room < length) {
      // It may run over into the next cluster, if that is the one that is free.
      const { host } = this.allocate(1);
      if (host !== (shared + 1) * clusterSize) return this.#packFrom(host, length);
    }
    refcounts.add(shared, 1, 1);
    return this.#packFrom(start, length);
  }

  /**
   * The clusters that `length` bytes from `host` on touch, which are in use, are referred to once more. Returns false, and has
   * changed nothing, where a count would not fit its width.
   */
  share(host: HostOffset, length: number): boolean {
    this.#options.beforeChange();
    const { refcounts, geometry } = this.#options;
    const first = Math.floor(host / geometry.clusterSize);
    const count = divideUp(host + length, geometry.clusterSize) - first;
    for (let cluster = first; cluster < first + count; cluster++) {
      if (refcounts.get(cluster) >= geometry.maxRefcount) return false;
    }
    refcounts.add(first, count, 1);
    return true;
  }

  /**
   * The clusters that `length` bytes from `host` on touch lose one reference each, at the next flush. The reason decides
   * whether their place goes back to the host with the last of them.
   */
  free(host: HostOffset, length: number, reason: FreeReason = 'other'): void {
    this.#options.beforeChange();
    const { clusterSize } = this.#options.geometry;
    const first = Math.floor(host / clusterSize);
    const count = divideUp(host + length, clusterSize) - first;
    const previous = this.#waiting.at(-1);
    const follows = previous !== undefined && previous.first + previous.count === first;
    if (follows && previous.reason === reason) previous.count += count;
    else this.#waiting.push({ first, count, reason });
  }

  /**
   * Lowers the refcounts of what was freed. Nothing stable names it any more. A cluster whose count is 0 already, in an
   * image with wrong refcounts, is passed over: the flush that has just made everything stable has not failed.
   */
  applyFrees(): void {
    const { refcounts, passedDown } = this.#options;
    // Taken over first: whatever happens, no range may be lowered twice.
    if (this.#waiting.length > 0) this.#generation++;
    for (const range of this.#waiting.splice(0)) {
      this.#lower(range);
      this.#firstFree = Math.min(this.#firstFree, range.first);
      if (passedDown.has(range.reason)) this.#punchHoles(range);
    }
    const { clusterSize } = this.#options.geometry;
    if (this.#packAt !== null && refcounts.get(Math.floor(this.#packAt / clusterSize)) === 0) this.#packAt = null;
  }

  /** Gives those of the runs back to the host that are free, and whose reason is passed down. */
  passDown(runs: readonly ClusterRun[], reason: FreeReason): void {
    const { passedDown, geometry } = this.#options;
    if (!passedDown.has(reason)) return;
    for (const { host, count } of runs) this.#punchHoles({ first: host / geometry.clusterSize, count, reason });
  }

  /** A count that is too low already is told of, and no reason to fail: what it counts is not named any more. */
  #lower({ first, count }: FreedRange): void {
    const { refcounts, corruption, geometry, announce } = this.#options;
    announce('cluster_free');
    const passedOver = refcounts.lower(first, count);
    if (passedOver === 0) return;
    const { clusterSize } = geometry;
    const message = `of ${count} freed clusters from ${hex(first * clusterSize)} on, ${passedOver} had refcount 0 already`;
    corruption.report({ message, offset: first * clusterSize, size: count * clusterSize });
  }

  #punchHoles({ first, count }: FreedRange): void {
    const { refcounts, geometry, punchHole } = this.#options;
    const end = first + count;
    for (let at = first; at < end;) {
      const free = refcounts.freeLength(at, end - at);
      if (free > 0) punchHole(at * geometry.clusterSize, free * geometry.clusterSize);
      at += Math.max(1, free);
    }
  }

  #packFrom(start: HostOffset, length: number): HostOffset {
    const end = start + length;
    // A cluster that is full is not gone on with: the next one is not ours.
    this.#packAt = end % this.#options.geometry.clusterSize === 0 ? null : end;
    return start;
  }

  #take(first: number, count: number, what?: string): ClusterRun {
    this.#checkPlace(first, count, what);
    this.#options.refcounts.add(first, count, 1);
    return { host: first * this.#options.geometry.clusterSize, count };
  }

  #checkPlace(first: number, count: number, what = 'clusters that count as free'): void {
    const { clusterSize } = this.#options.geometry;
    const start = first * clusterSize;
    const end = start + count * clusterSize;
    if (end > MAX_HOST_OFFSET) {
      throw new Qcow2Error('LIMIT', `the image file would reach ${hex(end)}; host offsets stop at 2^53 - 1`);
    }
    this.#options.guard.check(start, end - start, what);
  }
}

/** The first run at or after `from` that is free and counted, of at most `want` clusters. A new block may take the first for itself. */
function nextRun(refcounts: Refcounts, from: number, want: number): { readonly first: number; readonly count: number } {
  for (let at = from; ;) {
    const first = refcounts.nextFree(at);
    const count = refcounts.freeLength(first, want);
    if (count > 0) return { first, count };
    at = first;
  }
}
