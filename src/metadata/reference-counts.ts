/**
 * Reference counts: how often each host cluster is named, counted in memory by the check. Two bytes a cluster, in pages
 * that are made where something is counted, so that four million clusters take 8 MiB and the holes of a sparse file
 * take nothing.
 *
 * Clusters are numbered below 2^32. A count of `MARK` or more stands in a map; the page then holds `MARK`. Counts stop at what the width of the image's
 * refcounts can hold: a reference more is not counted, and the caller is told.
 */
import { Qcow2Error } from '../errors.js';

const PAGE_BITS = 13;
const PAGE_ENTRIES = 2 ** PAGE_BITS;
const ENTRY_MASK = PAGE_ENTRIES - 1;
const MARK = 0xffff;
/** 512 MiB, the counts of 268 million clusters. */
const MOST_PAGES = 32768;

export class ReferenceCounts {
  readonly #pages = new Map<number, Uint16Array>();
  readonly #large = new Map<number, number>();
  readonly #most: number;
  #end = 0;
  #lastIndex = -1;
  #lastPage: Uint16Array | undefined;

  /** @param most the largest count, `geometry.maxRefcount`. */
  constructor(most: number) {
    this.#most = most;
  }

  /** One past the last cluster that was ever counted. */
  get end(): number {
    return this.#end;
  }

  get(cluster: number): number {
    const page = this.#page(cluster >>> PAGE_BITS);
    if (page === undefined) return 0;
    const count = page[cluster & ENTRY_MASK]!;
    return count === MARK ? this.#large.get(cluster)! : count;
  }

  /** Counts one reference more. False when the count is at its limit and stays there. Throws `LIMIT`, see `set`. */
  increment(cluster: number): boolean {
    const page = this.#pageFor(cluster);
    const entry = cluster & ENTRY_MASK;
    const count = page[entry]!;
    if (count < MARK - 1 && count < this.#most) {
      page[entry] = count + 1;
      return true;
    }
    const value = count === MARK ? this.#large.get(cluster)! : count;
    if (value >= this.#most) return false;
    this.set(cluster, value + 1);
    return true;
  }

  /** Throws `LIMIT` when so many places of the file are counted that memory would not be bounded. */
  set(cluster: number, count: number): void {
    const page = this.#pageFor(cluster);
    page[cluster & ENTRY_MASK] = Math.min(count, MARK);
    if (count >= MARK) this.#large.set(cluster, count);
    else if (this.#large.size > 0) this.#large.delete(cluster);
  }

  /** Whether anything may be counted in `first .. end`. False is certain. */
  mayCount(first: number, end: number): boolean {
    const last = Math.floor((Math.min(end, this.#end) - 1) / PAGE_ENTRIES);
    for (let index = Math.floor(first / PAGE_ENTRIES); index <= last; index++) {
      if (this.#pages.has(index)) return true;
    }
    return false;
  }

  clear(): void {
    this.#pages.clear();
    this.#large.clear();
    this.#end = 0;
    this.#lastIndex = -1;
  }

  #page(index: number): Uint16Array | undefined {
    if (index !== this.#lastIndex) {
      this.#lastIndex = index;
      this.#lastPage = this.#pages.get(index);
    }
    return this.#lastPage;
  }

  #pageFor(cluster: number): Uint16Array {
    if (cluster >= this.#end) this.#end = cluster + 1;
    const index = cluster >>> PAGE_BITS;
    const known = this.#page(index);
    if (known !== undefined) return known;
    if (this.#pages.size >= MOST_PAGES) {
      const most = MOST_PAGES * PAGE_ENTRIES;
      throw new Qcow2Error('LIMIT', `more than ${most} clusters would have to be counted, or they lie too far apart`);
    }
    const page = new Uint16Array(PAGE_ENTRIES);
    this.#pages.set(index, page);
    this.#lastPage = page;
    return page;
  }
}
