/**
 * L2 tables: what each guest byte maps to (spec, "Cluster mapping"). Finds the slice of the table that an offset needs, in
 * the cache, and has the entry format read or change a run of entries there.
 *
 * - A table with COPIED in its L1 entry is changed in place, in the cache. Any other is copied to new clusters first.
 * - A new table is written whole at once; the L1 entry that names it is written by the flush, after it.
 */
import type { GuestOffset, HostOffset } from '../disk.js';
import type { CompressedDescriptor } from '../format/compressed-descriptor.js';
import type { Geometry } from '../format/geometry.js';
import type { Storage } from '../storage/storage.js';
import type { Allocator } from './allocator.js';
import type { ClusterPart, EntryRange, L2EntryFormat } from './l2-entries.js';
import type { MappedRun } from './mapped-run.js';
import type { OffsetTable } from './offset-table.js';
import type { TableCache } from './table-cache.js';

export interface L2TablesOptions {
  readonly storage: Storage;
  readonly geometry: Geometry;
  readonly format: L2EntryFormat;
  readonly l1: OffsetTable;
  readonly cache: TableCache;
  /** Null for an image opened read-only. */
  readonly allocator: Allocator | null;
  /** Called between the allocation of a new table and its first write. */
  readonly beforeNewTable: () => void;
}

/** In messages. */
export const NEW_L2_TABLE = 'a new L2 table';

export class L2Tables {
  readonly #options: L2TablesOptions;
  readonly #sliceEntries: number;

  constructor(options: L2TablesOptions) {
    this.#options = options;
    this.#sliceEntries = options.cache.slotBytes / options.geometry.l2EntryBytes;
  }

  /** The run that starts at `offset`, of at most `limit` bytes. Throws `CORRUPT` for a bad entry. */
  runAt(offset: GuestOffset, limit: number): MappedRun {
    const { geometry, l1, format } = this.#options;
    const cluster = Math.floor(offset / geometry.clusterSize);
    const within = offset - cluster * geometry.clusterSize;
    const count = Math.ceil((within + limit) / geometry.clusterSize);
    const table = l1.get(Math.floor(cluster / geometry.l2Entries));
    if (table === 0) {
      const rest = geometry.l2Coverage - (offset % geometry.l2Coverage);
      return { kind: 'unallocated', length: Math.min(limit, rest), reserved: null };
    }
    const run = format.run(this.#range(table, cluster, count), within);
    return run.length > limit ? { ...run, length: limit } : run;
  }

  /** The part of the cluster at `guest` that must be carried over when the cluster moves; null for none. */
  storedPart(guest: GuestOffset): ClusterPart | null {
    const { geometry, l1, format } = this.#options;
    const cluster = guest / geometry.clusterSize;
    const table = l1.get(Math.floor(cluster / geometry.l2Entries));
    return table === 0 ? null : format.stored(this.#range(table, cluster, 1));
  }

  /** Makes the tables of the clusters ours before data is allocated for them, so that the data lies in one piece behind them. */
  prepare(cluster: number, count: number): void {
    const { l2Entries } = this.#options.geometry;
    for (let at = cluster; at < cluster + count; at += l2Entries - (at % l2Entries)) this.#writableTable(at);
  }

  /**
   * Guest clusters `cluster .. cluster + count` become data at `host`, refcount one: from `part.from` in the first to
   * `part.to` in the last. What they named before is freed.
   */
  linkData(cluster: number, count: number, host: HostOffset, part: ClusterPart): void {
    const { format, geometry } = this.#options;
    this.#change(cluster, count, (range, done) => {
      const size = range.end - range.first;
      const from = done === 0 ? part.from : 0;
      const to = done + size === count ? part.to : geometry.clusterSize;
      format.link(range, host + done * geometry.clusterSize, { from, to });
    });
  }

  /** The cluster becomes data at `host`, which others refer to as well and which the caller has counted once more. */
  linkShared(cluster: number, host: HostOffset): void {
    this.#change(cluster, 1, (range) => this.#options.format.share(range, host));
  }

  linkCompressed(cluster: number, descriptor: CompressedDescriptor): void {
    this.#change(cluster, 1, (range) => this.#options.format.linkCompressed(range, descriptor));
  }

  /** The clusters read as zeroes from now on (version 3). `keep` leaves what they have allocated in place. */
  linkZero(cluster: number, count: number, options: { readonly keep: boolean }): void {
    this.#change(cluster, count, (range) => this.#options.format.zero(range, options.keep));
  }

  /** A part of a cluster that is not compressed, in whole subclusters, reads as zeroes from now on. */
  linkZeroPart(cluster: number, part: ClusterPart): void {
    this.#change(cluster, 1, (range) => this.#options.format.zeroPart(range, part));
  }

  /** The clusters map to nothing: the backing file shows through, or zeroes. */
  unlink(cluster: number, count: number): void {
    this.#change(cluster, count, (range) => this.#options.format.clear(range));
  }

  /** The entries of up to `count` clusters in the slice of `cluster`, loaded. */
  #range(table: HostOffset, cluster: number, count: number): EntryRange & { readonly offset: HostOffset } {
    const { geometry, cache } = this.#options;
    const index = cluster % geometry.l2Entries;
    const slice = Math.floor(index / this.#sliceEntries);
    const first = index - slice * this.#sliceEntries;
    const offset = table + slice * cache.slotBytes;
    const end = Math.min(this.#sliceEntries, first + count);
    return { address: cache.load(offset), first, end, guest: cluster * geometry.clusterSize, offset };
  }

  /** Has the entries of a range changed, slice by slice, in tables that are ours alone. */
  #change(cluster: number, count: number, change: (range: EntryRange, done: number) => void): void {
    const { cache } = this.#options;
    let done = 0;
    while (done < count) {
      const at = cluster + done;
      const table = this.#writableTable(at);
      const range = this.#range(table, at, count - done);
      change(range, done);
      cache.markDirty(range.offset);
      done += range.end - range.first;
    }
  }

  /** The offset of the L2 table of a cluster, which is ours alone: made or copied where it was not, with the cluster's slice in the cache. */
  #writableTable(cluster: number): HostOffset {
    const { l1, storage, cache, geometry } = this.#options;
    const l1Index = Math.floor(cluster / geometry.l2Entries);
    const allocator = this.#options.allocator!;
    const old = l1.get(l1Index);
    if (old !== 0 && l1.copied(l1Index)) return old;
    const content = new Uint8Array(geometry.clusterSize);
    // A shared table is never dirty in the cache: it is copied before its first change.
    if (old !== 0) {
      storage.announce?.('l2_alloc_cow_read');
      storage.read(old, content);
    }
    const host = allocator.allocateContiguous(1, NEW_L2_TABLE);
    cache.forget(host, geometry.clusterSize);
    this.#options.beforeNewTable();
    storage.announce?.('l2_alloc_write');
    storage.write(host, content);
    l1.set(l1Index, host, { copied: true });
    const slice = Math.floor((cluster % geometry.l2Entries) / this.#sliceEntries) * cache.slotBytes;
    cache.keep(host + slice, content.subarray(slice, slice + cache.slotBytes));
    if (old !== 0) {
      cache.forget(old, geometry.clusterSize);
      allocator.free(old, geometry.clusterSize);
    }
    return host;
  }
}
