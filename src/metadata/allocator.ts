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
}

export class Allocator {
  readonly #options: AllocatorOptions;
  /** No cluster below it is free, as far as is known. */
  #firstFree = 0;
  /** Ranges of clusters that nothing names any more, in the order they were freed. */
  readonly #waiting: { readonly first: number; count: number }[] = [];

  constructor(options: AllocatorOptions) {
    this.#options = options;
  }

  /** Ranges of clusters that wait to be freed. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** The first free run, of at most `want` clusters; refcount 1 from now on. Throws `LIMIT` or `CORRUPT`. */
  allocate(want: number): ClusterRun {
    this.#options.beforeChange();
    const { refcounts } = this.#options;
    const first = refcounts.nextFree(this.#firstFree);
    const count = refcounts.freeLength(first, want);
    const run = this.#take(first, count);
    this.#firstFree = first + count;
    return run;
  }

  /** Exactly `count` contiguous clusters, for a table. */
  allocateContiguous(count: number): HostOffset {
    this.#options.beforeChange();
    const { refcounts, geometry } = this.#options;
    if (count >= geometry.refcountBlockEntries) {
      const first = refcounts.reserveAtEnd(count);
      this.#checkPlace(first, count);
      return first * geometry.clusterSize;
    }
    let first = refcounts.nextFree(this.#firstFree);
    this.#firstFree = first;
    for (;;) {
      const length = refcounts.freeLength(first, count);
      if (length === count) return this.#take(first, count).host;
      first = refcounts.nextFree(first + length);
    }
  }

  /** The clusters that `length` bytes from `host` on touch lose one reference each, at the next flush. */
  free(host: HostOffset, length: number): void {
    this.#options.beforeChange();
    const { clusterSize } = this.#options.geometry;
    const first = Math.floor(host / clusterSize);
    const count = divideUp(host + length, clusterSize) - first;
    const previous = this.#waiting.at(-1);
    if (previous !== undefined && previous.first + previous.count === first) previous.count += count;
    else this.#waiting.push({ first, count });
  }

  /**
   * Lowers the refcounts of what was freed. Nothing stable names it any more. A cluster whose count is 0 already, in an
   * image with wrong refcounts, is passed over: the flush that has just made everything stable has not failed.
   */
  applyFrees(): void {
    // Taken over first: whatever happens, no range may be lowered twice.
    const ranges = this.#waiting.splice(0);
    for (const { first, count } of ranges) {
      this.#options.refcounts.lower(first, count);
      this.#firstFree = Math.min(this.#firstFree, first);
    }
  }

  #take(first: number, count: number): ClusterRun {
    this.#checkPlace(first, count);
    this.#options.refcounts.add(first, count, 1);
    return { host: first * this.#options.geometry.clusterSize, count };
  }

  #checkPlace(first: number, count: number): void {
    const { clusterSize } = this.#options.geometry;
    const start = first * clusterSize;
    const end = start + count * clusterSize;
    if (end > MAX_HOST_OFFSET) {
      throw new Qcow2Error('LIMIT', `the image file would reach ${hex(end)}; host offsets stop at 2^53 - 1`);
    }
    this.#options.guard.check(start, end - start, 'clusters that count as free');
  }
}
