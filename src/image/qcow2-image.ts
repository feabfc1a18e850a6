/**
 * Qcow2 image: a `Disk` made of a storage, its tables and, where it has one, a backing disk.
 *
 * Every call runs to its end. A call that throws `NotResident` has changed nothing: what copy-on-write needs of the
 * backing disk is read before the first change.
 */
import type { Disk, Extent, GuestOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import { isDataFileRaw, type Header } from '../format/header.js';
import { asChangeable, type ChangeableTables } from '../metadata/changeable-tables.js';
import type { ImageTables, WritableTables } from '../metadata/image-tables.js';
import type { GuardedStorage } from '../storage/guarded.js';
import type { Storage } from '../storage/storage.js';
import { runToEnd } from '../util/steps.js';
import { checkResize } from './check-resize.js';
import { checkRange } from './disk-range.js';
import { growDisk, prepareResize } from './grow-disk.js';
import type { ImageEncryption } from './image-encryption.js';
import type { Lifecycle, ReopenOptions } from './lifecycle.js';
import { planRead } from './read-plan.js';
import { readBehind, readViewOf, type ReadView } from './read-view.js';
import { executeRead } from './read.js';
import { edgesOf, planWrite, type Edge } from './write-plan.js';
import { writeCompressedCluster, type CompressedTarget } from './write-compressed.js';
import { executeWrite, type WriteTarget } from './write.js';
import { discardRange, zeroRange, type ZeroTarget } from './zero.js';

/** Ranges that may wait to be freed before a flush is made of our own accord, so that the list stays short. */
const MOST_WAITING_RANGES = 1 << 16;

export interface ImageStatistics {
  /** Table slices that were looked up and found in memory, and that had to be loaded. */
  readonly cacheHits: number;
  readonly cacheMisses: number;
  /** Bytes of the image file. */
  readonly fileSize: number;
}

export interface ImageParts {
  readonly storage: GuardedStorage;
  /** Where guest data lies: the same storage, or the external data file. */
  readonly data: GuardedStorage;
  readonly lifecycle: Lifecycle;
  readonly backing: Disk | null;
}

/** What depends on the tables in use, and changes with them. */
interface TableView extends ReadView {
  /** Null for an image that is read-only. */
  readonly writeTarget: WriteTarget | null;
}

export class Qcow2Image implements Disk {
  readonly #storage: GuardedStorage;
  readonly #data: GuardedStorage;
  readonly #lifecycle: Lifecycle;
  readonly #backing: Disk | null;
  #view: TableView;

  /** For `open.ts`: everything has been checked, and the image is clean or opened read-only. */
  constructor(parts: ImageParts) {
    this.#storage = parts.storage;
    this.#data = parts.data;
    this.#lifecycle = parts.lifecycle;
    this.#backing = parts.backing;
    this.#view = this.#viewTables();
  }

  /** The tables in use; `reopen` and `invalidate` replace them. */
  get #tables(): ImageTables {
    return this.#lifecycle.tables;
  }

  get size(): number {
    return this.#tables.header.value.size;
  }

  get readOnly(): boolean {
    return this.#tables.writable === null;
  }

  get header(): Header {
    return this.#tables.header.value;
  }

  get lazyRefcounts(): boolean {
    return this.#tables.header.lazyRefcounts;
  }

  get clusterSize(): number {
    return this.#tables.geometry.clusterSize;
  }

  get refcountBits(): number {
    return this.#tables.geometry.refcountBits;
  }

  /** What its data are encrypted with; null for an image that is not, or locked. */
  get encryption(): ImageEncryption | null {
    return this.#lifecycle.encryption;
  }

  get backing(): Disk | null {
    return this.#backing;
  }

  /** All metadata, for the operations on a whole image. Not to be kept: `reloadTables` puts others in their place. */
  get tables(): ImageTables {
    return this.#tables;
  }

  /** The same, for a change. Throws `READ_ONLY`, `POISONED`, `CLOSED`, `INACTIVE` or `CORRUPT` when there can be none. */
  changeableTables(): ChangeableTables {
    this.#lifecycle.checkUsable();
    const tables = asChangeable(this.#tables);
    if (this.#lifecycle.poisoned) {
      throw new Qcow2Error('POISONED', 'an earlier write failed; close the image and open it again');
    }
    return tables;
  }

  /** Reads all metadata again, after an operation has rewritten it in the file. Everything has been flushed. */
  reloadTables(): void {
    this.#lifecycle.reload();
    this.#view = this.#viewTables();
  }

  /** The image file. What is written to it behind the image's back damages the image. */
  get storage(): Storage {
    return this.#storage;
  }

  read(offset: GuestOffset, target: Uint8Array): void {
    this.#check(offset, target.length);
    executeRead(this.#view.sources, planRead(this.#view.mapping, offset, target.length), offset, target);
  }

  write(offset: GuestOffset, source: Uint8Array): void {
    this.#check(offset, source.length);
    this.writeAnywhere(offset, source);
  }

  /** Like `write`, but for the end of the disk: it goes as far as the L1 table does. For growing a disk. */
  writeAnywhere(offset: GuestOffset, source: Uint8Array): void {
    this.#changeable();
    if (source.length === 0) return;
    this.#write(offset, source, () => this.#tables.beforeGuestWrite(offset, source.length));
  }

  /** Writes whole clusters behind the end of the disk, where no guest looks: the VM state. */
  writeBehind(offset: GuestOffset, source: Uint8Array): void {
    this.#changeable();
    this.#write(offset, source, () => this.#tables.header.beforeChange());
  }

  /** The same, compressed, for one cluster. Returns false, and has written nothing, where that does not make it smaller. */
  writeBehindCompressed(offset: GuestOffset, source: Uint8Array): boolean {
    const writable = this.#changeable();
    if (this.#tables.guestData.encrypted) return false;
    this.#tables.header.beforeChange();
    const stored = writeCompressedCluster(this.#compressedTarget(writable), this.#view.codec, offset, source);
    this.#afterChange();
    return stored;
  }

  /** Reads behind the end of the disk, as far as the L1 table goes; what is not there reads as zeroes. */
  readBehind(offset: GuestOffset, target: Uint8Array): void {
    this.#lifecycle.checkUsable();
    readBehind(this.#view, this.#tables, offset, target);
  }

  /** The image as the tables of a snapshot have it: to be read, with this image's storage and options. */
  snapshotTables(header: Header): ImageTables {
    this.#lifecycle.checkUsable();
    return this.#lifecycle.tablesOf(header);
  }

  #write(offset: GuestOffset, source: Uint8Array, beforeChange: () => void): void {
    const steps = planWrite(this.#view.mapping, offset, source.length);
    const edges = edgesOf(steps, offset, source.length);
    const head = this.#readEdge(edges.head);
    const tail = this.#readEdge(edges.tail);
    beforeChange();
    executeWrite(this.#view.writeTarget!, steps, { offset, source, head, tail });
    this.#afterChange();
  }

  /**
   * Writes whole clusters compressed, each for itself; one that does not get smaller is written plainly. What the clusters
   * held before is freed. `offset` is a multiple of the cluster size, and so is the length, but at the end of the disk.
   * Throws `UNSUPPORTED` for an image with an external data file, or an encrypted one.
   */
  writeCompressed(offset: GuestOffset, source: Uint8Array): void {
    this.#check(offset, source.length);
    const writable = this.#changeable();
    if (this.#data !== this.#storage) {
      throw new Qcow2Error('UNSUPPORTED', 'with an external data file no cluster can be compressed');
    }
    if (this.#tables.guestData.encrypted) {
      throw new Qcow2Error('UNSUPPORTED', 'the image is encrypted, and compressed clusters would not be');
    }
    const { clusterSize } = this;
    const end = offset + source.length;
    if (offset % clusterSize !== 0 || (end % clusterSize !== 0 && end !== this.size)) {
      const what = `a compressed write of ${source.length} bytes at offset ${offset}`;
      throw new Qcow2Error('BAD_ARGUMENT', `${what} must cover whole clusters of ${clusterSize} bytes`);
    }
    this.#tables.beforeGuestWrite(offset, source.length);
    const target = this.#compressedTarget(writable);
    for (let at = 0; at < source.length; at += clusterSize) {
      const content = source.subarray(at, at + clusterSize);
      const stored = writeCompressedCluster(target, this.#view.codec, offset + at, content);
      if (!stored) this.write(offset + at, content);
    }
    this.#afterChange();
  }

  writeZeroes(offset: GuestOffset, length: number, options: { readonly unmap?: boolean } = {}): void {
    this.#check(offset, length);
    this.#changeable();
    if (length === 0) return;
    this.#tables.beforeGuestWrite(offset, length);
    zeroRange(this.#zeroTarget(), offset, length, { unmap: options.unmap ?? false });
    this.#afterChange();
  }

  discard(offset: GuestOffset, length: number): void {
    this.#check(offset, length);
    this.#changeable();
    this.#tables.beforeGuestWrite(offset, length);
    discardRange(this.#zeroTarget(), offset, length);
    this.#afterChange();
  }

  extents(offset: GuestOffset, length: number): Iterable<Extent> {
    this.#check(offset, length);
    return planRead(this.#view.mapping, offset, length);
  }

  /**
   * Grows the disk to `size` bytes; what is new reads as zeroes. Throws `BAD_ARGUMENT` for a smaller size, `LIMIT` for one
   * that the L1 table can't hold, `UNSUPPORTED` for an image whose snapshots or bitmaps stand in the way.
   */
  resize(size: number): void {
    checkResize(this, size, this.header.version);
    const old = this.size;
    if (size < old) {
      throw new Qcow2Error('BAD_ARGUMENT', `size is ${size}; it must be at least ${old}, which the disk has`);
    }
    if (size === old) return;
    prepareResize(this.changeableTables());
    runToEnd(growDisk(this, size));
    this.#tables.bitmaps.store(this.#tables);
    this.flush();
    this.fitCaches();
  }

  /** After the disk was resized: caches whose size follows from that of the disk are made anew. */
  fitCaches(): void {
    this.#lifecycle.fitCaches();
    this.#view = this.#viewTables();
  }

  flush(): void {
    this.#check(0, 0);
    if (this.#tables.writable === null) return;
    this.#tables.writable.order.flush();
  }

  /**
   * Changes how the image is worked with: caches, lazy refcounts, overlap checks, what is discarded, and whether it can be
   * written. What is not mentioned stays. Throws `BAD_ARGUMENT`, `READ_ONLY` for a storage that can't be written, and as
   * `openImage` does for an image that is to be written; it is open as before then.
   */
  reopen(changes: ReopenOptions): void {
    this.#lifecycle.reopen(changes);
    this.#view = this.#viewTables();
  }

  /** Writes everything and marks the image clean. Until `invalidate` somebody else may have the file; all else throws `INACTIVE`. */
  inactivate(): void {
    this.#lifecycle.inactivate();
  }

  /**
   * Forgets and reads again all metadata, the header included, as after a migration. Throws as `openImage` does, and
   * `BACKING` when the header names another backing file now; the image is inactive then.
   */
  invalidate(): void {
    this.#lifecycle.invalidate();
    this.#view = this.#viewTables();
  }

  /** Drops from memory what was not used since the last call. To be called every `cacheCleanInterval` seconds. */
  cleanCaches(): void {
    this.#lifecycle.cleanCaches();
    this.#view = this.#viewTables();
  }

  /** Seconds between two calls of `cleanCaches`, 0 for none. The engine itself has no timers. */
  get cacheCleanInterval(): number {
    return this.#lifecycle.cacheCleanInterval;
  }

  /** Flushes, marks the image clean and closes it and its backing disks. A poisoned image is closed as it is. */
  close(): void {
    if (this.#lifecycle.closed) return;
    try {
      this.#lifecycle.close();
    } finally {
      this.#backing?.close();
    }
  }

  statistics(): ImageStatistics {
    const { hits, misses } = this.#lifecycle.cacheCounts;
    return { cacheHits: hits, cacheMisses: misses, fileSize: this.#storage.size };
  }

  /** The bytes that copy-on-write carries over; past the end of the disk they are zeroes. */
  #readEdge(edge: Edge): Uint8Array {
    const bytes = new Uint8Array(edge.length);
    const available = Math.max(0, Math.min(edge.length, this.size - edge.offset));
    if (available > 0) this.read(edge.offset, bytes.subarray(0, available));
    return bytes;
  }

  #compressedTarget({ allocator }: WritableTables): CompressedTarget {
    return { storage: this.#storage, allocator, l2: this.#tables.l2, geometry: this.#tables.geometry };
  }

  #writeTarget({ allocator, guard }: WritableTables): WriteTarget {
    const { clusterSize } = this;
    const shared = { data: this.#tables.guestData, clusterSize, l2: this.#tables.l2 };
    if (this.#data !== this.#storage) {
      // An external data file holds each cluster at its guest offset; there is nothing to allocate or to overwrite.
      const allocate = (cluster: number, count: number) => ({ host: cluster * clusterSize, count });
      return { ...shared, allocate, check: () => {} };
    }
    return {
      ...shared,
      allocate: (_cluster, want) => allocator.allocate(want),
      check: (host, length) => guard.check(host, length, 'guest data'),
    };
  }

  #zeroTarget(): ZeroTarget {
    const { header, geometry, l2 } = this.#tables;
    return {
      disk: this,
      version: header.value.version,
      clusterSize: geometry.clusterSize,
      subclusterSize: geometry.subclusterSize,
      rawData: isDataFileRaw(header.value) ? this.#data : null,
      hasBacking: this.#backing !== null || header.value.backingFile !== null,
      readsBacking: this.#backing !== null,
      l2,
    };
  }

  #afterChange(): void {
    const { allocator, order } = this.#tables.writable!;
    if (allocator.waiting > MOST_WAITING_RANGES) order.flush();
  }

  #viewTables(): TableView {
    const { writable } = this.#tables;
    return {
      ...readViewOf(this.#tables, this.#backing),
      writeTarget: writable && this.#writeTarget(writable),
    };
  }

  #check(offset: GuestOffset, length: number): void {
    this.#lifecycle.checkUsable();
    checkRange(this.size, offset, length);
  }

  /** For a change of guest data. A locked image is refused here, before a bitmap is marked or a cluster allocated. */
  #changeable(): WritableTables {
    const { writable, guestData } = this.changeableTables();
    guestData.checkKey();
    return writable;
  }
}
