/**
 * Image tables: all metadata of an open image, wired together. The image layer asks it what guest clusters map to, has it
 * link new ones, and has it flush.
 */
import { AUTOCLEAR_RAW_DATA_FILE, INCOMPATIBLE_EXTENDED_L2 } from '../format/features.js';
import { l1EntriesFor, type Geometry } from '../format/geometry.js';
import { geometryOfHeader, hasDataFile, type Header } from '../format/header.js';
import { SCRATCH_BYTES, type Kernels, type KernelsFactory } from '../kernels/kernels.js';
import type { Storage } from '../storage/storage.js';
import { divideUp } from '../util/integers.js';
import { Allocator } from './allocator.js';
import { chooseCacheSizes } from './cache-sizes.js';
import { HeaderState } from './header-state.js';
import { EntryChecks, type L2EntryFormat, type Release } from './l2-entries.js';
import { ExtendedEntries } from './l2-extended.js';
import { StandardEntries } from './l2-standard.js';
import { L2Tables } from './l2-tables.js';
import { L1_HIGH_MASK, OffsetTable, REFCOUNT_TABLE_HIGH_MASK } from './offset-table.js';
import { OverlapGuard } from './overlap-guard.js';
import { Refcounts } from './refcounts.js';
import { TableCache } from './table-cache.js';
import { WriteOrder } from './write-order.js';

export interface ImageTablesOptions {
  /** The image file: metadata, and guest data unless that has a file of its own. */
  readonly storage: Storage;
  /** Where guest data lies: the same, or the external data file. */
  readonly data: Storage;
  readonly header: Header;
  readonly kernels: KernelsFactory;
  readonly writable: boolean;
  readonly l2CacheBytes?: number | undefined;
  readonly refcountCacheBytes?: number | undefined;
}

/** What only an image opened for writing has. */
export interface WritableTables {
  readonly refcounts: Refcounts;
  readonly allocator: Allocator;
  readonly guard: OverlapGuard;
  readonly order: WriteOrder;
}

export class ImageTables {
  readonly header: HeaderState;
  readonly geometry: Geometry;
  readonly l1: OffsetTable;
  readonly l2: L2Tables;
  readonly writable: WritableTables | null;
  readonly caches: readonly TableCache[];
  /** The image file. */
  readonly storage: Storage;
  /** Where guest data lies: the same, or the external data file. */
  readonly data: Storage;

  constructor(options: ImageTablesOptions) {
    const { storage, header } = options;
    this.storage = storage;
    this.header = new HeaderState(storage, header);
    this.data = options.data;
    this.geometry = geometryOfHeader(header);
    const sizes = chooseCacheSizes(this.geometry, header.size, options);
    const kernels = options.kernels({ slotBytes: sizes.slotBytes, slots: sizes.l2Slots + sizes.refcountSlots });
    this.l1 = new OffsetTable({
      storage,
      name: 'L1 table',
      offset: header.l1Offset,
      entries: header.l1Entries,
      clusterSize: this.geometry.clusterSize,
      highMask: L1_HIGH_MASK,
    });
    const l2Cache = new TableCache({
      kernels,
      storage,
      firstAddress: SCRATCH_BYTES,
      slotBytes: sizes.slotBytes,
      slots: sizes.l2Slots,
      native: true,
      makeDependenciesStable: () => this.writable!.order.makeL2DependenciesStable(),
    });
    const refcountCache = new TableCache({
      kernels,
      storage,
      firstAddress: SCRATCH_BYTES + sizes.l2Slots * sizes.slotBytes,
      slotBytes: sizes.slotBytes,
      slots: sizes.refcountSlots,
      native: false,
      // A refcount block names nothing, and counts in the cache are never too low (see `Allocator.free`).
      makeDependenciesStable: () => {},
    });
    this.caches = [l2Cache, refcountCache];
    this.writable = options.writable ? this.#makeWritable(kernels, l2Cache, refcountCache) : null;
    this.l2 = new L2Tables({
      storage,
      geometry: this.geometry,
      format: this.#entryFormat(kernels),
      l1: this.l1,
      cache: l2Cache,
      allocator: this.writable?.allocator ?? null,
    });
  }

  /** Must be called before the first change of anything the guest can see. */
  beforeGuestChange(): void {
    const { autoclear } = this.header.value;
    // What any other autoclear bit vouches for is not kept up to date by us, bitmaps included.
    const kept = hasDataFile(this.header.value) ? autoclear & AUTOCLEAR_RAW_DATA_FILE : 0n;
    if (autoclear === kept) return;
    this.header.setAutoclear(kept);
    this.storage.flush();
  }

  /** Moves the L1 table to where it has room for a disk of `size` bytes, and publishes both. */
  growL1(size: number): void {
    const { order, allocator } = this.writable!;
    const { clusterSize } = this.geometry;
    const entries = l1EntriesFor(this.geometry, size);
    if (entries <= this.l1.entries) {
      order.publishSizeAndL1(size, this.l1.offset, this.l1.entries);
      return;
    }
    const old = { offset: this.l1.offset, length: this.l1.entries * 8 };
    const offset = allocator.allocateContiguous(divideUp(entries * 8, clusterSize));
    // Linked tables must be in the copy, so what is in the cache goes first.
    order.flush();
    const content = this.l1.encodeGrown(entries);
    this.storage.write(offset, padded(content, clusterSize));
    order.publishSizeAndL1(size, offset, entries);
    this.l1.adopt(offset, content);
    if (old.length > 0) allocator.free(old.offset, old.length);
  }

  #entryFormat(kernels: Kernels): L2EntryFormat {
    const { geometry, writable } = this;
    const header = this.header.value;
    const external = hasDataFile(header);
    const release: Release | null = writable && {
      data: (host, clusters) => {
        if (!external) writable.allocator.free(host, clusters * geometry.clusterSize);
      },
      compressed: (descriptor) => writable.allocator.free(descriptor.host, descriptor.length),
    };
    const checks = new EntryChecks(this.storage, geometry, external);
    const options = { kernels, geometry, version: header.version, checks, release };
    const extended = (header.incompatible & INCOMPATIBLE_EXTENDED_L2) !== 0n;
    return extended ? new ExtendedEntries(options) : new StandardEntries(options);
  }

  #makeWritable(kernels: Kernels, l2Cache: TableCache, refcountCache: TableCache): WritableTables {
    const { geometry, header, l1 } = this;
    const storage = this.storage;
    const refcountTable = new OffsetTable({
      storage,
      name: 'refcount table',
      offset: header.value.refcountTableOffset,
      entries: (header.value.refcountTableClusters * geometry.clusterSize) / 8,
      clusterSize: geometry.clusterSize,
      highMask: REFCOUNT_TABLE_HIGH_MASK,
    });
    const guard = new OverlapGuard({ geometry, header, l1, refcountTable });
    const cache = refcountCache;
    const refcounts = new Refcounts({ storage, header, geometry, kernels, cache, table: refcountTable, guard });
    const allocator = new Allocator({
      refcounts,
      geometry,
      guard,
      beforeChange: () => {
        if (header.lazyRefcounts && !header.dirty) header.setDirty(true);
      },
    });
    return {
      refcounts,
      allocator,
      guard,
      order: new WriteOrder({ storage, data: this.data, header, refcounts, allocator, l1, l2Cache }),
    };
  }
}

function padded(bytes: Uint8Array, unit: number): Uint8Array {
  const whole = new Uint8Array(divideUp(bytes.length, unit) * unit);
  whole.set(bytes);
  return whole;
}
