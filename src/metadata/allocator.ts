/**
 * Allocator: hands out free clusters, first fit, and takes back those that are no longer named.
 *
 * - What is handed out has refcount 0, and is neither the header, the active L1 table nor the refcount table: an image whose
 *   refcounts are wrong must not lose these.
 * - Freed clusters wait: their refcounts are lowered by `applyFrees`, which the write order calls once the entries that
 *   named them are gone from the file stably (invariants 3 and 4 of `write-order.ts`).
 */
import type { HostOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import type { Geometry } from '../format/geometry.js';
import { MAX_HOST_OFFSET } from '../format/limits.js';
import { divideUp, hex } from '../util/integers.js';
import type { Refcounts } from './refcounts.js';

export interface ClusterRun {
  readonly host: HostOffset;
  /** Clusters. */
  readonly count: number;
}

/** A range of the file that must never be handed out. */
export interface FixedRange {
  readonly name: string;
  readonly offset: HostOffset;
  /** Bytes. */
  readonly length: number;
}

export interface AllocatorOptions {
  readonly refcounts: Refcounts;
  readonly geometry: Geometry;
  /** The header, the L1 table, the refcount table, as they lie now. */
  readonly fixedRanges: () => readonly FixedRange[];
  /** Called before the first change of a refcount since the image was opened or was last clean. */
  readonly beforeChange: () => void;
}

export class Allocator {
  readonly #options: AllocatorOptions;
  /** No cluster below it is free, as far as is known. */
  #firstFree = 0;
  /** First cluster and count, alternating. */
  readonly #waiting: number[] = [];

  constructor(options: AllocatorOptions) {
    this.#options = options;
  }

  /** Clusters that wait to be freed. */
  get waiting(): number {
    let clusters = 0;
    for (let index = 1; index < this.#waiting.length; index += 2) clusters += this.#waiting[index]!;
    return clusters;
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
    const last = this.#waiting.length;
    if (last > 0 && this.#waiting[last - 2]! + this.#waiting[last - 1]! === first) this.#waiting[last - 1]! += count;
    else this.#waiting.push(first, count);
  }

  /** Lowers the refcounts of what was freed. Nothing stable names it any more. */
  applyFrees(): void {
    const { refcounts } = this.#options;
    for (let index = 0; index < this.#waiting.length; index += 2) {
      const first = this.#waiting[index]!;
      refcounts.add(first, this.#waiting[index + 1]!, -1);
      this.#firstFree = Math.min(this.#firstFree, first);
    }
    this.#waiting.length = 0;
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
    for (const range of this.#options.fixedRanges()) {
      if (start < range.offset + range.length && range.offset < end) {
        const where = `${hex(start)} to ${hex(end)}`;
        throw new Qcow2Error('CORRUPT', `the clusters at ${where} have refcount 0, but the ${range.name} lies there`);
      }
    }
  }
}
