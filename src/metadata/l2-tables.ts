/**
 * L2 tables: what each guest cluster maps to (spec, "Cluster mapping"). Reads and writes *runs* of entries: neighbours of
 * one kind whose host clusters follow each other.
 *
 * - A table with COPIED in its L1 entry is changed in place, in the cache. Any other is copied to new clusters first.
 * - A new table is written whole at once; the L1 entry that names it is written by the flush, after it.
 */
import type { GuestOffset, HostOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import { decodeCompressedDescriptor, type CompressedDescriptor } from '../format/compressed-descriptor.js';
import type { Geometry } from '../format/geometry.js';
import { LOW_ZERO, HIGH_COPIED, highOf, l2EntryCopied, l2EntryHost, l2EntryKind, lowOf } from '../format/l2-entry.js';
import type { Kernels } from '../kernels/kernels.js';
import type { Storage } from '../storage/storage.js';
import { hex, isAligned } from '../util/integers.js';
import type { Allocator } from './allocator.js';
import type { OffsetTable } from './offset-table.js';
import type { TableCache } from './table-cache.js';

/** Some guest clusters that map alike. `count` is in clusters; a compressed run has one. */
export type MappedRun =
  | { readonly kind: 'unallocated' | 'zero'; readonly count: number }
  | {
      readonly kind: 'data' | 'zero-allocated';
      readonly count: number;
      readonly host: HostOffset;
      /** The refcount is exactly one: it may be written in place. */
      readonly copied: boolean;
    }
  | { readonly kind: 'compressed'; readonly count: 1; readonly descriptor: CompressedDescriptor };

export interface L2TablesOptions {
  readonly storage: Storage;
  readonly geometry: Geometry;
  readonly version: 2 | 3;
  readonly kernels: Kernels;
  readonly l1: OffsetTable;
  readonly cache: TableCache;
  /** Null for an image opened read-only. */
  readonly allocator: Allocator | null;
}

/** Shorter runs are compared faster in plain JavaScript than through a call (docs/ARCHITECTURE.md, "Kernels"). */
const KERNEL_RUN = 4;

export class L2Tables {
  readonly #options: L2TablesOptions;
  readonly #sliceEntries: number;

  constructor(options: L2TablesOptions) {
    this.#options = options;
    this.#sliceEntries = options.cache.slotBytes / 8;
  }

  /** The run that starts at guest cluster `cluster`, of at most `limit` clusters. Throws `CORRUPT` for a bad entry. */
  run(cluster: number, limit: number): MappedRun {
    const { l1, geometry } = this.#options;
    const l1Index = Math.floor(cluster / geometry.l2Entries);
    const l2Index = cluster - l1Index * geometry.l2Entries;
    const table = l1.get(l1Index);
    if (table === 0) return { kind: 'unallocated', count: Math.min(limit, geometry.l2Entries - l2Index) };
    const slice = Math.floor(l2Index / this.#sliceEntries);
    const address = this.#options.cache.load(table + slice * this.#options.cache.slotBytes);
    const first = l2Index - slice * this.#sliceEntries;
    return this.#decodeRun(address, first, Math.min(this.#sliceEntries, first + limit), cluster);
  }

  /** Guest clusters `cluster .. cluster + count` become data at `host`, refcount one. What they named before is freed. */
  linkData(cluster: number, count: number, host: HostOffset): void {
    this.#replace(cluster, count, (run, address, first, done) => {
      const at = host + done * this.#options.geometry.clusterSize;
      this.#freeRun(run, at);
      this.#fill(address, first, run.count, { low: lowOf(at), high: (highOf(at) | HIGH_COPIED) >>> 0 });
    });
  }

  /** The clusters read as zeroes from now on (version 3). `keep` leaves what they have allocated in place. */
  linkZero(cluster: number, count: number, options: { readonly keep: boolean }): void {
    this.#replace(cluster, count, (run, address, first) => {
      if (run.kind === 'zero') return;
      if (options.keep && (run.kind === 'data' || run.kind === 'zero-allocated')) {
        const high = (highOf(run.host) | (run.copied ? HIGH_COPIED : 0)) >>> 0;
        this.#fill(address, first, run.count, { low: (lowOf(run.host) | LOW_ZERO) >>> 0, high });
        return;
      }
      this.#freeRun(run, null);
      this.#options.kernels.l2FillRun(address, first, run.count, LOW_ZERO, 0, 0);
    });
  }

  /** The clusters map to nothing: the backing file shows through, or zeroes. */
  unlink(cluster: number, count: number): void {
    this.#replace(cluster, count, (run, address, first) => {
      this.#freeRun(run, null);
      this.#options.kernels.l2FillRun(address, first, run.count, 0, 0, 0);
    });
  }

  #decodeRun(address: number, first: number, end: number, cluster: number): MappedRun {
    const { kernels, geometry, version } = this.#options;
    const low = kernels.words[(address >>> 2) + 2 * first]!;
    const high = kernels.words[(address >>> 2) + 2 * first + 1]!;
    const kind = l2EntryKind(low, high);
    if ((kind === 'zero' || kind === 'zero-allocated') && version === 2) {
      throw this.#corrupt(cluster, 'is marked as zero; version 2 has no zero clusters');
    }
    switch (kind) {
      case 'unallocated':
      case 'zero':
        return { kind, count: this.#runLength(address, first, end, 0) };
      case 'compressed':
        return { kind, count: 1, descriptor: this.#checkedDescriptor(low, high, cluster) };
      case 'data':
      case 'zero-allocated': {
        const host = l2EntryHost(low, high);
        const count = this.#runLength(address, first, end, geometry.clusterSize);
        this.#checkHost(host, count, cluster);
        return { kind, count, host, copied: l2EntryCopied(high) };
      }
    }
  }

  #runLength(address: number, first: number, end: number, step: number): number {
    const { kernels } = this.#options;
    if (end - first >= KERNEL_RUN) return kernels.l2RunLength(address, first, end, step);
    const words = kernels.words;
    const base = (address >>> 2) + 2 * first;
    let low = words[base]!;
    let high = words[base + 1]!;
    let count = 1;
    for (; first + count < end; count++) {
      low += step;
      if (low > 0xffff_ffff) {
        low -= 0x1_0000_0000;
        high++;
      }
      if (words[base + 2 * count] !== low || words[base + 2 * count + 1] !== high) break;
    }
    return count;
  }

  #checkedDescriptor(low: number, high: number, cluster: number): CompressedDescriptor {
    const { geometry, storage } = this.#options;
    const descriptor = decodeCompressedDescriptor(low, high, geometry.clusterBits);
    if (descriptor.host >= storage.size) {
      throw this.#corrupt(cluster, `is compressed at ${hex(descriptor.host)}; the file ends at ${hex(storage.size)}`);
    }
    return descriptor;
  }

  #checkHost(host: HostOffset, count: number, cluster: number): void {
    const { geometry, storage } = this.#options;
    if (!isAligned(host, geometry.clusterSize)) {
      throw this.#corrupt(cluster, `is at ${hex(host)}; it must be a multiple of ${hex(geometry.clusterSize)}`);
    }
    const last = host + (count - 1) * geometry.clusterSize;
    if (last < storage.size) return;
    throw this.#corrupt(cluster, `leads to ${hex(last)}; the file ends at ${hex(storage.size)}`);
  }

  #corrupt(cluster: number, what: string): Qcow2Error {
    const guest: GuestOffset = cluster * this.#options.geometry.clusterSize;
    return new Qcow2Error('CORRUPT', `the L2 entry of guest offset ${hex(guest)} ${what}`);
  }

  /** Walks the runs of a range in tables that may be written, and has each changed. */
  #replace(
    cluster: number,
    count: number,
    change: (run: MappedRun, address: number, first: number, done: number) => void,
  ): void {
    const { cache, geometry } = this.#options;
    let done = 0;
    while (done < count) {
      const at = cluster + done;
      const l1Index = Math.floor(at / geometry.l2Entries);
      const l2Index = at - l1Index * geometry.l2Entries;
      const table = this.#writableTable(l1Index);
      const slice = Math.floor(l2Index / this.#sliceEntries);
      const offset = table + slice * cache.slotBytes;
      const first = l2Index - slice * this.#sliceEntries;
      const address = cache.load(offset);
      const run = this.#decodeRun(address, first, Math.min(this.#sliceEntries, first + count - done), at);
      change(run, address, first, done);
      cache.markDirty(offset);
      done += run.count;
    }
  }

  /** Writes a run of entries that name host clusters following each other, from `entry` on. */
  #fill(address: number, first: number, count: number, entry: { readonly low: number; readonly high: number }): void {
    const { kernels, geometry } = this.#options;
    kernels.l2FillRun(address, first, count, entry.low, entry.high, geometry.clusterSize);
  }

  /** Frees what `run` names, unless it names `kept` already (a cluster that is put to use in place). */
  #freeRun(run: MappedRun, kept: HostOffset | null): void {
    const allocator = this.#options.allocator!;
    if (run.kind === 'compressed') allocator.free(run.descriptor.host, run.descriptor.length);
    if ((run.kind === 'data' || run.kind === 'zero-allocated') && run.host !== kept) {
      allocator.free(run.host, run.count * this.#options.geometry.clusterSize);
    }
  }

  /** The offset of an L2 table that is ours alone, made or copied where it is not. */
  #writableTable(l1Index: number): HostOffset {
    const { l1, storage, cache, geometry } = this.#options;
    const allocator = this.#options.allocator!;
    const old = l1.get(l1Index);
    if (old !== 0 && l1.copied(l1Index)) return old;
    const content = new Uint8Array(geometry.clusterSize);
    // A shared table is never dirty in the cache: it is copied before its first change.
    if (old !== 0) storage.read(old, content);
    const host = allocator.allocateContiguous(1);
    cache.forget(host, geometry.clusterSize);
    storage.write(host, content);
    l1.set(l1Index, host, { copied: true });
    if (old !== 0) {
      cache.forget(old, geometry.clusterSize);
      allocator.free(old, geometry.clusterSize);
    }
    return host;
  }
}
