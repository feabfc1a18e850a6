/**
 * Image tables: all metadata of an open image, wired together. The image layer asks it what guest clusters map to, has it
 * link new ones, and has it flush.
 */
import type { GuestOffset, HostOffset } from '../disk.js';
import { INCOMPATIBLE_EXTENDED_L2 } from '../format/features.js';
import { l1EntriesFor, type Geometry } from '../format/geometry.js';
import { geometryOfHeader, hasDataFile, type Header } from '../format/header.js';
import { SCRATCH_BYTES, type Kernels, type KernelsFactory } from '../kernels/kernels.js';
import type { GuardedStorage } from '../storage/guarded.js';
import type { GuestData } from '../storage/guest-data.js';
import { assert } from '../util/assert.js';
import { divideUp } from '../util/integers.js';
import { Allocator } from './allocator.js';
import { chooseCacheSizes, type CacheOptions, type CacheSizes } from './cache-sizes.js';
import { Corruption, type CorruptionListener } from './corruption.js';
import { reasonsPassedDown, type DiscardOptions } from './discard-policy.js';
import { HeaderState } from './header-state.js';
import { InactiveTables } from './inactive-tables.js';
import { EntryChecks, type L2EntryFormat, type Release } from './l2-entries.js';
import { ExtendedEntries } from './l2-extended.js';
import { StandardEntries } from './l2-standard.js';
import { L2Tables } from './l2-tables.js';
import { L1_HIGH_MASK, OffsetTable, REFCOUNT_TABLE_HIGH_MASK } from './offset-table.js';
import { OverlapGuard } from './overlap-guard.js';
import type { GuardedStructure, OverlapCheck } from './overlap-options.js';
import { PersistentBitmaps } from './persistent-bitmaps.js';
import { Refcounts } from './refcounts.js';
import { TableCache } from './table-cache.js';
import { WriteOrder } from './write-order.js';

export interface ImageTablesOptions {
  /** The image file: metadata, and guest data unless that has a file of its own. */
  readonly storage: GuardedStorage;
  /** Where guest data lies: the same, or the external data file. */
  readonly data: GuardedStorage;
  /** How its content reads. */
  readonly guestData: GuestData;
  readonly header: Header;
  readonly kernels: KernelsFactory;
  readonly writable: boolean;
  readonly options: TableOptions;
  /** Those of tables that these take the place of; otherwise the file has all that is known of them. */
  readonly bitmaps?: PersistentBitmaps | undefined;
  readonly onCorruption?: CorruptionListener | undefined;
}

/** How an image is worked with, as far as the tables are concerned. */
export interface TableOptions extends CacheOptions {
  readonly lazyRefcounts?: boolean | undefined;
  readonly overlapCheck?: OverlapCheck | undefined;
  readonly discard?: DiscardOptions | undefined;
}

/** What only an image opened for writing has. */
export interface WritableTables {
  readonly refcounts: Refcounts;
  readonly allocator: Allocator;
  readonly guard: OverlapGuard;
  /** To be told when the snapshot table, or the L1 table of a snapshot, was written. */
  readonly inactive: InactiveTables;
  readonly order: WriteOrder;
}

export class ImageTables {
  readonly header: HeaderState;
  readonly geometry: Geometry;
  readonly l1: OffsetTable;
  readonly l2: L2Tables;
  readonly writable: WritableTables | null;
  readonly caches: readonly TableCache[];
  readonly cacheSizes: CacheSizes;
  readonly corruption: Corruption;
  readonly bitmaps: PersistentBitmaps;
  /** The image file. */
  readonly storage: GuardedStorage;
  /** Where guest data lies: the same, or the external data file. */
  readonly data: GuardedStorage;
  /** What data clusters hold. */
  readonly guestData: GuestData;
  readonly #options: TableOptions;
  #retired = false;

  constructor(options: ImageTablesOptions) {
    const { storage, header, writable } = options;
    this.storage = storage;
    this.#options = options.options;
    this.header = new HeaderState(storage, header, options.options);
    this.data = options.data;
    this.guestData = options.guestData;
    this.bitmaps = options.bitmaps ?? new PersistentBitmaps();
    this.geometry = geometryOfHeader(header);
    this.corruption = this.#makeCorruption(options);
    const shape = { geometry: this.geometry, diskSize: header.size, writable };
    const sizes = chooseCacheSizes(shape, options.options);
    this.cacheSizes = sizes;
    const kernels = options.kernels({ slotBytes: sizes.slotBytes, slots: sizes.l2Slots + sizes.refcountSlots });
    this.l1 = new OffsetTable({
      storage,
      name: 'L1 table',
      offset: header.l1Offset,
      entries: header.l1Entries,
      clusterSize: this.geometry.clusterSize,
      highMask: L1_HIGH_MASK,
      corrupt: (finding) => this.corruption.found(finding),
      updatePurpose: 'l1_update',
      beforeWrite: this.#guarded('activeL1', 'the L1 table'),
    });
    const l2Cache = new TableCache({
      kernels,
      storage,
      firstAddress: SCRATCH_BYTES,
      slotBytes: sizes.slotBytes,
      slots: sizes.l2Slots,
      native: true,
      makeDependenciesStable: () => this.writable!.order.makeL2DependenciesStable(),
      beforeWrite: this.#guarded('activeL2', 'an L2 table'),
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
      beforeWrite: this.#guarded('refcountBlock', 'a refcount block'),
    });
    this.caches = [l2Cache, refcountCache];
    this.writable = writable ? this.#makeWritable(kernels, l2Cache, refcountCache) : null;
    this.l2 = new L2Tables({
      storage,
      geometry: this.geometry,
      format: this.#entryFormat(kernels),
      l1: this.l1,
      cache: l2Cache,
      allocator: this.writable?.allocator ?? null,
      beforeNewTable: () => {
        if (this.header.dirty) this.writable!.refcounts.write();
      },
    });
  }

  /** Whether something in memory has yet to reach the file. */
  get pending(): boolean {
    const changed = this.l1.dirty || this.caches.some((cache) => cache.dirty);
    if (this.writable === null) return changed;
    return changed || this.writable.refcounts.table.dirty || this.writable.allocator.waiting > 0;
  }

  /** Others have taken their place: from now on a write of theirs is a mistake of ours. */
  retire(): void {
    this.#retired = true;
  }

  /** Must be called before the first change of anything the guest can see. */
  beforeGuestChange(): void {
    this.header.beforeGuestChange({ bitmapsKept: this.bitmaps.kept(this) });
    this.bitmaps.beforeGuestChange(this);
  }

  /** The same, for a change of `length` bytes of the disk from `offset` on; bitmaps are told of them. */
  beforeGuestWrite(offset: GuestOffset, length: number): void {
    this.beforeGuestChange();
    this.bitmaps.mark(offset, length);
  }

  /** Moves the L1 table to where it has room for a disk of `size` bytes. The size of the disk stays. */
  growL1(size: number): void {
    const { order, allocator } = this.writable!;
    const { clusterSize } = this.geometry;
    const entries = l1EntriesFor(this.geometry, size);
    if (entries <= this.l1.entries) return;
    const old = { offset: this.l1.offset, length: this.l1.entries * 8 };
    this.storage.announce('l1_grow_alloc_table');
    const offset = allocator.allocateContiguous(divideUp(entries * 8, clusterSize));
    // Linked tables must be in the copy, so what is in the cache goes first.
    order.flush();
    const content = this.l1.encodeGrown(entries);
    this.storage.announce('l1_grow_write_table');
    this.storage.write(offset, padded(content, clusterSize));
    this.storage.announce('l1_grow_activate_table');
    order.publishSizeAndL1(this.header.value.size, offset, entries);
    this.l1.adopt(offset, content);
    if (old.length > 0) allocator.free(old.offset, old.length);
  }

  #entryFormat(kernels: Kernels): L2EntryFormat {
    const { geometry, writable } = this;
    const header = this.header.value;
    const external = hasDataFile(header);
    const release: Release | null = writable && {
      data: (host, clusters, reason) => {
        const length = clusters * geometry.clusterSize;
        if (!external) writable.allocator.free(host, length, reason);
        // Nothing is counted in an external data file: what a discard leaves there is nobody's at once.
        else if (reasonsPassedDown(this.#options.discard).has(reason)) this.data.punchHole(host, length);
      },
      compressed: (descriptor, reason) => writable.allocator.free(descriptor.host, descriptor.length, reason),
    };
    const { storage, corruption } = this;
    const checks = new EntryChecks({ storage, geometry, corruption, externalData: external });
    const options = { kernels, geometry, version: header.version, checks, release };
    const extended = (header.incompatible & INCOMPATIBLE_EXTENDED_L2) !== 0n;
    return extended ? new ExtendedEntries(options) : new StandardEntries(options);
  }

  #makeCorruption({ writable, onCorruption }: ImageTablesOptions): Corruption {
    const { header, storage, data } = this;
    return new Corruption({
      header,
      writable,
      onCorruption,
      flush: () => storage.flush(),
      seal: (reason) => {
        storage.seal(reason);
        data.seal(reason);
      },
    });
  }

  /** What a table is asked before it is written: that it lies on no other structure. */
  #guarded(own: GuardedStructure, name: string): (offset: HostOffset, length: number) => void {
    return (offset, length) => {
      assert(!this.#retired, `${name} is written by tables that have been replaced`);
      this.writable?.guard.check(offset, length, name, own);
    };
  }

  #makeWritable(kernels: Kernels, l2Cache: TableCache, refcountCache: TableCache): WritableTables {
    const { geometry, header, l1, storage, corruption } = this;
    const refcountTable = new OffsetTable({
      storage,
      name: 'refcount table',
      offset: header.value.refcountTableOffset,
      entries: (header.value.refcountTableClusters * geometry.clusterSize) / 8,
      clusterSize: geometry.clusterSize,
      highMask: REFCOUNT_TABLE_HIGH_MASK,
      corrupt: (finding) => corruption.found(finding),
      updatePurpose: 'refblock_alloc_hookup',
      beforeWrite: this.#guarded('refcountTable', 'the refcount table'),
    });
    const { clusterSize } = geometry;
    const inactive = new InactiveTables({ storage, header });
    const { overlapCheck: check, discard } = this.#options;
    const guard = new OverlapGuard({ clusterSize, header, l1, refcountTable, inactive, corruption, check });
    const cache = refcountCache;
    const refcounts = new Refcounts({ storage, header, geometry, kernels, cache, table: refcountTable, guard });
    const allocator = new Allocator({
      refcounts,
      geometry,
      guard,
      corruption,
      passedDown: reasonsPassedDown(discard),
      punchHole: (host, length) => storage.punchHole(host, length),
      announce: (purpose) => storage.announce(purpose),
      beforeChange: () => {
        if (header.lazyRefcounts && !header.dirty) header.setDirty(true);
      },
    });
    return {
      refcounts,
      allocator,
      guard,
      inactive,
      order: new WriteOrder({ storage, data: this.data, header, refcounts, allocator, l1, l2Cache }),
    };
  }
}

function padded(bytes: Uint8Array, unit: number): Uint8Array {
  const whole = new Uint8Array(divideUp(bytes.length, unit) * unit);
  whole.set(bytes);
  return whole;
}
