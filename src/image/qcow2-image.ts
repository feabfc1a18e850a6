/**
 * Qcow2 image: a `Disk` made of a storage, its tables and, where it has one, a backing disk.
 *
 * Every call runs to its end. A call that throws `NotResident` has changed nothing: what copy-on-write needs of the
 * backing disk is read before the first change.
 */
import { codecFor, type ClusterCodec } from '../codec/cluster-codec.js';
import type { Disk, Extent, GuestOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import { l1EntriesFor } from '../format/geometry.js';
import { isDataFileRaw, type Header } from '../format/header.js';
import { MAX_L1_BYTES } from '../format/limits.js';
import type { ImageTables, WritableTables } from '../metadata/image-tables.js';
import type { GuardedStorage } from '../storage/guarded.js';
import type { Storage } from '../storage/storage.js';
import { runToEnd } from '../util/steps.js';
import { CompressedClusters } from './compressed-clusters.js';
import { checkRange } from './disk-range.js';
import { growDisk } from './grow-disk.js';
import { planRead, type Mapping } from './read-plan.js';
import { executeRead, type ReadSources } from './read.js';
import { edgesOf, planWrite, type Edge } from './write-plan.js';
import { writeCompressedCluster } from './write-compressed.js';
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
  readonly tables: ImageTables;
  readonly backing: Disk | null;
}

export class Qcow2Image implements Disk {
  readonly #storage: GuardedStorage;
  readonly #data: GuardedStorage;
  #tables: ImageTables;
  readonly #backing: Disk | null;
  readonly #mapping: Mapping;
  readonly #sources: ReadSources;
  readonly #codec: ClusterCodec;
  readonly #compressed: CompressedClusters;
  #closed = false;

  /** For `open.ts`: everything has been checked, and the image is clean or opened read-only. */
  constructor(parts: ImageParts) {
    const { storage, data, tables, backing } = parts;
    const { clusterSize, subclusterSize } = tables.geometry;
    this.#storage = storage;
    this.#data = data;
    this.#tables = tables;
    this.#backing = backing;
    this.#codec = codecFor(tables.header.value.compressionType);
    this.#compressed = new CompressedClusters(storage, clusterSize, this.#codec);
    this.#sources = { data, clusterSize, compressed: this.#compressed, backing };
    this.#mapping = {
      clusterSize,
      subclusterSize,
      hasBacking: backing !== null,
      get fillLimit() {
        return data === storage ? Infinity : tables.header.value.size;
      },
      runAt: (offset, limit) => this.#tables.l2.runAt(offset, limit),
      storedPart: (guest) => this.#tables.l2.storedPart(guest),
    };
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

  get backing(): Disk | null {
    return this.#backing;
  }

  /** All metadata, for the operations on a whole image. Not to be kept: `reloadTables` puts others in their place. */
  get tables(): ImageTables {
    return this.#tables;
  }

  /** Reads all metadata again, after an operation has rewritten it in the file. Everything has been flushed. */
  reloadTables(): void {
    this.#tables = this.#tables.reread();
    this.#compressed.forgetAll();
  }

  /** The image file. What is written to it behind the image's back damages the image. */
  get storage(): Storage {
    return this.#storage;
  }

  read(offset: GuestOffset, target: Uint8Array): void {
    this.#check(offset, target.length);
    executeRead(this.#sources, planRead(this.#mapping, offset, target.length), offset, target);
  }

  write(offset: GuestOffset, source: Uint8Array): void {
    this.#check(offset, source.length);
    this.writeAnywhere(offset, source);
  }

  /** Like `write`, but for the end of the disk: it goes as far as the L1 table does. For growing a disk. */
  writeAnywhere(offset: GuestOffset, source: Uint8Array): void {
    this.#changeable();
    if (source.length === 0) return;
    const steps = planWrite(this.#mapping, offset, source.length);
    const edges = edgesOf(steps, offset, source.length);
    const head = this.#readEdge(edges.head);
    const tail = this.#readEdge(edges.tail);
    this.#tables.beforeGuestChange();
    executeWrite(this.#writeTarget(), steps, { offset, source, head, tail });
    this.#afterChange();
  }

  /**
   * Writes whole clusters compressed, each for itself; one that does not get smaller is written plainly. What the clusters
   * held before is freed. `offset` is a multiple of the cluster size, and so is the length, but at the end of the disk.
   * Throws `UNSUPPORTED` for an image with an external data file.
   */
  writeCompressed(offset: GuestOffset, source: Uint8Array): void {
    this.#check(offset, source.length);
    const { allocator } = this.#changeable();
    if (this.#data !== this.#storage) {
      throw new Qcow2Error('UNSUPPORTED', 'with an external data file no cluster can be compressed');
    }
    const { clusterSize } = this;
    const end = offset + source.length;
    if (offset % clusterSize !== 0 || (end % clusterSize !== 0 && end !== this.size)) {
      const what = `a compressed write of ${source.length} bytes at offset ${offset}`;
      throw new Qcow2Error('BAD_ARGUMENT', `${what} must cover whole clusters of ${clusterSize} bytes`);
    }
    this.#tables.beforeGuestChange();
    const target = { storage: this.#storage, allocator, l2: this.#tables.l2, geometry: this.#tables.geometry };
    for (let at = 0; at < source.length; at += clusterSize) {
      const content = source.subarray(at, at + clusterSize);
      const stored = writeCompressedCluster(target, this.#codec, offset + at, content);
      if (!stored) this.write(offset + at, content);
    }
    this.#afterChange();
  }

  writeZeroes(offset: GuestOffset, length: number, options: { readonly unmap?: boolean } = {}): void {
    this.#check(offset, length);
    this.#changeable();
    if (length === 0) return;
    this.#tables.beforeGuestChange();
    zeroRange(this.#zeroTarget(), offset, length, { unmap: options.unmap ?? false });
    this.#afterChange();
  }

  discard(offset: GuestOffset, length: number): void {
    this.#check(offset, length);
    this.#changeable();
    this.#tables.beforeGuestChange();
    discardRange(this.#zeroTarget(), offset, length);
    this.#afterChange();
  }

  extents(offset: GuestOffset, length: number): Iterable<Extent> {
    this.#check(offset, length);
    return planRead(this.#mapping, offset, length);
  }

  /**
   * Grows the disk to `size` bytes; what is new reads as zeroes. Throws `BAD_ARGUMENT` for a smaller size, `LIMIT` for one
   * that the L1 table can't hold.
   */
  resize(size: number): void {
    this.#check(0, 0);
    const { order } = this.#changeable();
    const old = this.size;
    if (!Number.isSafeInteger(size) || size < old || size % 512 !== 0) {
      throw new Qcow2Error('BAD_ARGUMENT', `size is ${size}; it must be a multiple of 512, at least ${old}`);
    }
    if (l1EntriesFor(this.#tables.geometry, size) > MAX_L1_BYTES / 8) {
      const most = (MAX_L1_BYTES / 8) * this.#tables.geometry.l2Coverage;
      throw new Qcow2Error('LIMIT', `size is ${size}; with this cluster size it must be at most ${most}`);
    }
    if (size === old) return;
    this.#tables.beforeGuestChange();
    runToEnd(growDisk(this, size));
    order.flush();
  }

  flush(): void {
    this.#check(0, 0);
    if (this.#tables.writable === null) return;
    this.#tables.writable.order.flush();
  }

  /** Flushes, marks the image clean and closes it and its backing disks. A poisoned image is closed as it is. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      if (this.#tables.writable !== null && !this.#poisoned) this.#tables.writable.order.shutDown();
    } finally {
      this.#storage.close();
      if (this.#data !== this.#storage) this.#data.close();
      this.#backing?.close();
    }
  }

  statistics(): ImageStatistics {
    const sum = (pick: 'hits' | 'misses') => this.#tables.caches.reduce((total, cache) => total + cache[pick], 0);
    return { cacheHits: sum('hits'), cacheMisses: sum('misses'), fileSize: this.#storage.size };
  }

  /** The bytes that copy-on-write carries over; past the end of the disk they are zeroes. */
  #readEdge(edge: Edge): Uint8Array {
    const bytes = new Uint8Array(edge.length);
    const available = Math.max(0, Math.min(edge.length, this.size - edge.offset));
    if (available > 0) this.read(edge.offset, bytes.subarray(0, available));
    return bytes;
  }

  #writeTarget(): WriteTarget {
    const { allocator, guard } = this.#tables.writable!;
    const { clusterSize } = this;
    const shared = { data: this.#data, clusterSize, l2: this.#tables.l2 };
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
      hasBacking: this.#backing !== null,
      l2,
    };
  }

  #afterChange(): void {
    const { allocator, order } = this.#tables.writable!;
    if (allocator.waiting === 0) return;
    this.#compressed.forgetAll();
    if (allocator.waiting > MOST_WAITING_RANGES) order.flush();
  }

  get #poisoned(): boolean {
    return this.#storage.poisoned || this.#data.poisoned;
  }

  #check(offset: GuestOffset, length: number): void {
    if (this.#closed) throw new Qcow2Error('CLOSED', 'the image was used after close()');
    checkRange(this.size, offset, length);
  }

  #changeable(): WritableTables {
    if (this.#tables.writable === null) throw new Qcow2Error('READ_ONLY', 'the image was opened read-only');
    if (this.#poisoned) {
      throw new Qcow2Error('POISONED', 'an earlier write failed; close the image and open it again');
    }
    return this.#tables.writable;
  }
}
