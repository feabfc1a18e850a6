/**
 * Refcount slices: the counts as they are, looked up and searched (spec, "Host cluster management"). The refcount table, held whole,
 * names refcount blocks; parts of them are in a cache, where the kernels work on them. A missing block counts 0 for all its clusters.
 */
import type { Geometry } from '../format/geometry.js';
import type { Kernels } from '../kernels/kernels.js';
import { exactRefcountEntry } from '../kernels/refcount-entry.js';
import type { OffsetTable } from './offset-table.js';
import type { TableCache } from './table-cache.js';

export interface RefcountSlicesOptions {
  readonly geometry: Geometry;
  readonly kernels: Kernels;
  readonly cache: TableCache;
  readonly table: OffsetTable;
}

/** A part of a refcount block that is in the cache: entries `first .. end` count the clusters from `cluster` on. */
export interface RefcountSlice {
  readonly address: number;
  readonly offset: number;
  readonly first: number;
  readonly end: number;
}

export class RefcountSlices {
  readonly #table: OffsetTable;
  readonly #geometry: Geometry;
  readonly #kernels: Kernels;
  readonly #cache: TableCache;
  readonly #sliceEntries: number;

  constructor({ table, geometry, kernels, cache }: RefcountSlicesOptions) {
    this.#table = table;
    this.#geometry = geometry;
    this.#kernels = kernels;
    this.#cache = cache;
    this.#sliceEntries = (cache.slotBytes * 8) / geometry.refcountBits;
  }

  /** The count of one cluster. */
  get(cluster: number): number {
    const slice = this.slice(cluster, 1);
    if (slice === null) return 0;
    return this.#kernels.refcountGet(slice.address, this.#geometry.refcountOrder, slice.first);
  }

  /** The same for whoever shows it: a bigint where a number would be rounded. */
  exact(cluster: number): number | bigint {
    const slice = this.slice(cluster, 1);
    if (slice === null) return 0;
    return exactRefcountEntry(this.#kernels.bytes, slice.address, this.#geometry.refcountOrder, slice.first);
  }

  /** The first cluster at or after `from` that is free; it may lack a block. */
  nextFree(from: number): number {
    let cluster = from;
    for (;;) {
      const slice = this.slice(cluster, Infinity);
      if (slice === null) return cluster;
      const { address, first, end } = slice;
      const used = this.#kernels.refcountUsedLength(address, this.#geometry.refcountOrder, first, end);
      cluster += used;
      if (first + used < end) return cluster;
    }
  }

  /** How many clusters from `from` on, at most `want`, no block counts a use of. */
  lengthWithoutUse(from: number, want: number): number {
    const { refcountBlockEntries } = this.#geometry;
    let length = 0;
    while (length < want) {
      const at = from + length;
      const free = this.freeInSlice(at, want - length);
      length += free?.length ?? refcountBlockEntries - (at % refcountBlockEntries);
      if (free?.stops) return length;
    }
    return Math.min(length, want);
  }

  /** Free clusters from `cluster` on in its slice, and whether one in use follows there. Null: no block. */
  freeInSlice(cluster: number, want: number): { readonly length: number; readonly stops: boolean } | null {
    const slice = this.slice(cluster, want);
    if (slice === null) return null;
    const { address, first, end } = slice;
    const length = this.#kernels.refcountFreeLength(address, this.#geometry.refcountOrder, first, end);
    return { length, stops: first + length < end };
  }

  /** The first of `count` free clusters in a row that all have a block already; null where there are none. */
  freeRun(count: number): number | null {
    const end = this.blocksInUse() * this.#geometry.refcountBlockEntries;
    let start = 0;
    for (let at = 0; at < end;) {
      const run = this.#runAt(at);
      at += run.length;
      if (!run.free) start = at;
      if (at - start >= count) return start;
    }
    return null;
  }

  /** Whether `cluster` is free, and how many after it are the same, as far as one slice tells. No block: not free. */
  #runAt(cluster: number): { readonly free: boolean; readonly length: number } {
    const { refcountOrder, refcountBlockEntries } = this.#geometry;
    const slice = this.slice(cluster, Infinity);
    if (slice === null) return { free: false, length: refcountBlockEntries - (cluster % refcountBlockEntries) };
    const { address, first, end } = slice;
    const used = this.#kernels.refcountUsedLength(address, refcountOrder, first, end);
    if (used > 0) return { free: false, length: used };
    return { free: true, length: this.#kernels.refcountFreeLength(address, refcountOrder, first, end) };
  }

  /** Whether there is a block of this number. */
  hasBlock(index: number): boolean {
    return index < this.#table.entries && this.#table.get(index) !== 0;
  }

  /** The number of the block that counts `cluster`. */
  blockOf(cluster: number): number {
    return Math.floor(cluster / this.#geometry.refcountBlockEntries);
  }

  /** One more than the number of the last block. */
  blocksInUse(): number {
    let count = this.#table.entries;
    while (count > 0 && this.#table.get(count - 1) === 0) count--;
    return count;
  }

  /** The cached slice with the count of `cluster` and as many after it as lie in it, at most `count`. Null: no block. */
  slice(cluster: number, count: number): RefcountSlice | null {
    const index = this.blockOf(cluster);
    const block = index < this.#table.entries ? this.#table.get(index) : 0;
    if (block === 0) return null;
    const entry = cluster - index * this.#geometry.refcountBlockEntries;
    const sliceIndex = Math.floor(entry / this.#sliceEntries);
    const offset = block + sliceIndex * this.#cache.slotBytes;
    const first = entry - sliceIndex * this.#sliceEntries;
    return { address: this.#cache.load(offset), offset, first, end: Math.min(this.#sliceEntries, first + count) };
  }
}
