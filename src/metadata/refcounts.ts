/**
 * Refcounts: how often each host cluster is used (spec, "Host cluster management"). Two levels: the refcount table, held
 * whole, names refcount blocks, whose slices are in a cache and worked on by the kernels.
 *
 * - A missing block counts 0 for all its clusters. It is made when the first of them is to be allocated, and lies behind the run
 *   that is, so that this one stays in one piece; where there is no room, in the first cluster that it counts.
 * - A new block is written before the table entry that names it; a new table before the header names it.
 * - Counts are changed in the cache only. `write` brings them to the file; lowering is the allocator's business.
 */
import { Qcow2Error } from '../errors.js';
import type { Geometry } from '../format/geometry.js';
import { MAX_REFCOUNT_TABLE_BYTES } from '../format/limits.js';
import type { Kernels } from '../kernels/kernels.js';
import type { Storage } from '../storage/storage.js';
import { divideUp, hex } from '../util/integers.js';
import type { HeaderState } from './header-state.js';
import type { OffsetTable } from './offset-table.js';
import type { OverlapGuard } from './overlap-guard.js';
import { encodeOnes } from './refcount-ones.js';
import { RefcountSlices, type RefcountSlicesOptions } from './refcount-slices.js';
import type { TableCache } from './table-cache.js';

/** In messages. */
export const NEW_REFCOUNT_BLOCK = 'a new refcount block';

/** A storage that may be able to make room before it is written, and to fail without harm (`GuardedStorage.reserve`). */
export interface RoomyStorage extends Storage {
  reserve?(size: number): void;
}

export interface RefcountsOptions extends RefcountSlicesOptions {
  readonly storage: RoomyStorage;
  readonly header: HeaderState;
  readonly guard: OverlapGuard;
}

export class Refcounts {
  readonly table: OffsetTable;
  /** How often any count was changed: a long job sees by it that what it has counted is stale. */
  changes = 0;
  readonly #storage: RoomyStorage;
  readonly #header: HeaderState;
  readonly #geometry: Geometry;
  readonly #kernels: Kernels;
  readonly #cache: TableCache;
  readonly #guard: OverlapGuard;
  readonly #slices: RefcountSlices;

  constructor(options: RefcountsOptions) {
    const { storage, header, geometry, kernels, cache } = options;
    this.#storage = storage;
    this.#header = header;
    this.#geometry = geometry;
    this.#kernels = kernels;
    this.#cache = cache;
    this.table = options.table;
    this.#guard = options.guard;
    this.#slices = new RefcountSlices(options);
  }

  get(cluster: number): number {
    return this.#slices.get(cluster);
  }

  /** The same for whoever shows it: a bigint where a number would be rounded, above 2^53 - 1. */
  exact(cluster: number): number | bigint {
    return this.#slices.exact(cluster);
  }

  /** The first cluster at or after `from` that is free; it may lack a block. */
  nextFree(from: number): number {
    return this.#slices.nextFree(from);
  }

  /** The first of `count` free clusters in a row that all have a block already; null where there are none. */
  freeRun(count: number): number | null {
    return this.#slices.freeRun(count);
  }

  hasBlock(index: number): boolean {
    return this.#slices.hasBlock(index);
  }

  /** Sets one count. The block must exist (`ensureBlock`). */
  set(cluster: number, value: number): void {
    const slice = this.#slices.slice(cluster, 1)!;
    this.#kernels.refcountSet(slice.address, this.#geometry.refcountOrder, slice.first, value);
    this.#cache.markDirty(slice.offset);
    this.changes++;
  }

  /**
   * Adds `delta` to the counts of `count` clusters. Throws `CORRUPT` where a count would fall below 0 or its block is
   * missing, `LIMIT` where it would not fit its width; the clusters before that one are changed then.
   */
  add(first: number, count: number, delta: number): void {
    let done = 0;
    this.changes++;
    this.#storage.announce?.('refblock_alloc');
    this.#storage.announce?.('refblock_load');
    while (done < count) {
      const cluster = first + done;
      const slice = this.#slices.slice(cluster, count - done);
      if (slice === null) this.#refuseChange(cluster, 0, delta);
      const { address, offset, first: from, end } = slice;
      const failed = this.#kernels.refcountAdd(address, this.#geometry.refcountOrder, from, end - from, delta);
      if (failed >= 0) {
        const bad = cluster + failed - from;
        this.#refuseChange(bad, this.exact(bad), delta);
      }
      this.#cache.markDirty(offset);
      done += end - from;
    }
  }

  /**
   * Lowers the counts of `count` clusters by one, but for those that are 0 already or have no block. Returns how many
   * were passed over.
   */
  lower(first: number, count: number): number {
    const { refcountOrder } = this.#geometry;
    let passedOver = 0;
    let done = 0;
    this.changes++;
    while (done < count) {
      const slice = this.#slices.slice(first + done, count - done);
      const used = slice && this.#kernels.refcountUsedLength(slice.address, refcountOrder, slice.first, slice.end);
      if (slice === null || !used) {
        passedOver++;
        done++;
        continue;
      }
      this.#kernels.refcountAdd(slice.address, refcountOrder, slice.first, used, -1);
      this.#cache.markDirty(slice.offset);
      done += used;
    }
    return passedOver;
  }

  /** How many clusters from `from` on, at most `want`, are free and have a block, or get one: which may be put into the first. */
  freeLength(from: number, want: number): number {
    const length = this.#slices.lengthWithoutUse(from, want);
    if (this.#placeBehind(from, length)) return length;
    for (let done = 0; done < length;) {
      this.ensureBlock(this.#slices.blockOf(from + done));
      const counted = this.#slices.freeInSlice(from + done, length - done)!;
      done += counted.length;
      if (counted.stops) return done;
    }
    return length;
  }

  /**
   * Makes the blocks that the free clusters `from .. from + count` lack, behind these clusters. False, and nothing has changed, where
   * they can't lie there.
   */
  #placeBehind(from: number, count: number): boolean {
    const { refcountBlockEntries, clusterSize } = this.#geometry;
    const start = from + count;
    const missing: number[] = [];
    // They may be the first that another block has to count.
    for (let index = this.#slices.blockOf(from); index * refcountBlockEntries < start + missing.length; index++) {
      if (!this.#slices.hasBlock(index)) missing.push(index);
    }
    if (missing.length === 0) return true;
    if (missing.at(-1)! >= this.table.entries) return false;
    if (this.#slices.lengthWithoutUse(start, missing.length) < missing.length) return false;
    this.#guard.check(start * clusterSize, missing.length * clusterSize, NEW_REFCOUNT_BLOCK);
    missing.forEach((index, place) => this.#writeBlock(index, start + place, { first: start, count: missing.length }));
    this.changes++;
    missing.forEach((index, place) => this.table.set(index, (start + place) * clusterSize, { copied: false }));
    for (let cluster = start; cluster < start + missing.length; cluster++) {
      if (this.get(cluster) === 0) this.add(cluster, 1, 1);
    }
    return true;
  }

  /** Writes block `index` to `cluster`. Of the clusters `ones` those that it counts have one reference. */
  #writeBlock(index: number, cluster: number, ones: { readonly first: number; readonly count: number }): void {
    const { clusterSize, refcountBlockEntries, refcountOrder } = this.#geometry;
    const from = Math.max(0, ones.first - index * refcountBlockEntries);
    const to = Math.min(refcountBlockEntries, ones.first + ones.count - index * refcountBlockEntries);
    const content = new Uint8Array(clusterSize);
    if (from < to) encodeOnes(content, refcountOrder, from, to - from);
    // Where there is no room nothing has failed yet: who looks for free clusters may go on without them.
    this.#storage.reserve?.((cluster + 1) * clusterSize);
    this.#cache.forget(cluster * clusterSize, clusterSize);
    this.#storage.announce?.('refblock_alloc_write');
    this.#storage.write(cluster * clusterSize, content);
  }

  /** Makes block `index`, at the first cluster that it counts, unless it is there. Grows the table as needed. */
  ensureBlock(index: number): void {
    if (this.#slices.hasBlock(index)) return;
    const { refcountBlockEntries } = this.#geometry;
    this.placeBlock(index, index * refcountBlockEntries);
  }

  /**
   * Makes block `index` at `cluster`, whose count must be 0 and which may be counted by the block itself. The caller
   * adds the count of `cluster` when another block counts it.
   */
  placeBlock(index: number, cluster: number): void {
    if (index >= this.table.entries) this.#growTable(index + 1);
    if (this.#slices.hasBlock(index)) return; // growing the table made it
    const { clusterSize } = this.#geometry;
    const host = cluster * clusterSize;
    this.#guard.check(host, clusterSize, NEW_REFCOUNT_BLOCK);
    this.#writeBlock(index, cluster, { first: cluster, count: 1 });
    this.changes++;
    this.table.set(index, host, { copied: false });
  }

  /**
   * Makes `count` contiguous clusters past everything that is counted, for a table that no block could hold at one
   * piece, with refcounts of 1. The blocks that count them come first. Returns the first of the `count` clusters.
   */
  reserveAtEnd(count: number): number {
    const plan = this.#planEnd(this.#slices.blocksInUse(), count);
    if (plan.firstBlock + plan.blocks > this.table.entries) {
      this.#growTable(plan.firstBlock + plan.blocks);
      return this.reserveAtEnd(count);
    }
    this.#writeEndBlocks(plan);
    this.changes++;
    for (let index = 0; index < plan.blocks; index++) {
      const host = (plan.firstCluster + index) * this.#geometry.clusterSize;
      this.table.set(plan.firstBlock + index, host, { copied: false });
    }
    return plan.firstCluster + plan.blocks;
  }

  /** Brings all counts to the file; a barrier before the table names new blocks. What it wrote is not stable yet. */
  write(): void {
    this.#cache.writeBack();
    if (!this.table.dirty) return;
    this.#storage.flush();
    this.table.write();
  }

  /** Where `count` clusters and the blocks that count both lie, from the first cluster of block `firstBlock` on. */
  #planEnd(firstBlock: number, count: number) {
    const { refcountBlockEntries } = this.#geometry;
    let blocks = 1;
    while (blocks * refcountBlockEntries < blocks + count) blocks = divideUp(blocks + count, refcountBlockEntries);
    return { firstBlock, blocks, firstCluster: firstBlock * refcountBlockEntries, used: blocks + count };
  }

  #writeEndBlocks(plan: { blocks: number; firstCluster: number; used: number }): void {
    const { clusterSize, refcountBlockEntries, refcountOrder } = this.#geometry;
    this.#guard.check(plan.firstCluster * clusterSize, plan.used * clusterSize, 'new refcount blocks and their table');
    for (let index = 0; index < plan.blocks; index++) {
      const content = new Uint8Array(clusterSize);
      const ones = Math.min(refcountBlockEntries, plan.used - index * refcountBlockEntries);
      encodeOnes(content, refcountOrder, 0, ones);
      const host = (plan.firstCluster + index) * clusterSize;
      this.#cache.forget(host, clusterSize);
      this.#storage.write(host, content);
    }
  }

  /** Moves the table past everything that it counts, with room for `needed` entries and half as many again. */
  #growTable(needed: number): void {
    const { clusterSize } = this.#geometry;
    const oldEntries = this.table.entries;
    const oldOffset = this.table.offset;
    const perCluster = clusterSize / 8;
    let clusters = divideUp(Math.max(needed, Math.ceil(oldEntries * 1.5)), perCluster);
    let plan = this.#planEnd(oldEntries, clusters);
    while (clusters * perCluster < Math.max(needed, plan.firstBlock + plan.blocks)) {
      clusters++;
      plan = this.#planEnd(oldEntries, clusters);
    }
    if (clusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
      const limit = `the limit is ${MAX_REFCOUNT_TABLE_BYTES}`;
      throw new Qcow2Error('LIMIT', `the refcount table would need ${clusters * clusterSize} bytes; ${limit}`);
    }
    const offset = (plan.firstCluster + plan.blocks) * clusterSize;
    this.#storage.reserve?.(offset + clusters * clusterSize);
    this.#storage.announce?.('reftable_grow');
    this.write();
    this.#storage.announce?.('refblock_alloc_write_blocks');
    this.#writeEndBlocks(plan);
    const content = this.table.encodeGrown(clusters * perCluster);
    const view = new DataView(content.buffer);
    for (let index = 0; index < plan.blocks; index++) {
      const host = (plan.firstCluster + index) * clusterSize;
      view.setBigUint64((oldEntries + index) * 8, BigInt(host));
    }
    this.#storage.announce?.('refblock_alloc_write_table');
    this.#storage.write(offset, content);
    this.#storage.flush();
    this.#storage.announce?.('refblock_alloc_switch_table');
    this.#header.setRefcountTable(offset, clusters);
    this.#storage.flush();
    this.table.adopt(offset, content);
    this.add(oldOffset / clusterSize, (oldEntries * 8) / clusterSize, -1);
  }

  #refuseChange(cluster: number, count: number | bigint, delta: number): never {
    const where = `the cluster at ${hex(cluster * this.#geometry.clusterSize)} has refcount ${count}`;
    if (Number(count) + delta < 0) throw new Qcow2Error('CORRUPT', `${where}; it cannot be lowered by ${-delta}`);
    throw new Qcow2Error('LIMIT', `${where}; with ${this.#geometry.refcountBits} bits it cannot be raised by ${delta}`);
  }
}
