/**
 * Table switch: puts any set of an image's tables in place of the old ones in one step, the write of 48 bytes in the header's
 * first sector. All of a snapshot operation is such a step: the refcounts that it changes, the COPIED flags that follow from
 * them, the active L1 table, the snapshot table and the size of the disk. In place these would have to agree across many
 * writes, and no order of them leaves a good image at every moment (invariants 5 and 9 of `write-order.ts`).
 *
 *   flush -> places for all that is new, and room for it in the file
 *         -> new L1 table and entry of a snapshot, new L2 tables, active L1 table
 *         -> copies of all refcount blocks with a count that changes, new refcount table
 *         -> |barrier| -> header: L1, refcount table, snapshot table, size -> |barrier| -> all tables read anew
 *
 * - What is new lies in clusters that were free. Until the switch they are counted and named by nobody: a crash leaks them.
 * - What is old loses its count in the new blocks: after the switch nothing has leaked, and before it nothing was freed.
 * - Nothing is allocated before every count has been found to fit its width.
 * - An L2 table whose flags change is replaced by a copy, unless it is right as it is.
 * - Where nothing that stays is counted otherwise, as for a snapshot of a disk that holds nothing, the active tables and the
 *   refcount structure stay as well. What is new is counted before the switch and what is old is freed after it, as for any
 *   allocation: a crash in between leaks one of the two.
 */
import type { HostOffset } from '../disk.js';
import { HIGH_COPIED } from '../format/l2-entry.js';
import { getRefcountEntry, setRefcountEntry } from '../kernels/refcount-entry.js';
import { setUint64, viewOf } from '../util/big-endian.js';
import { equalAt } from '../util/bytes.js';
import { alignDown, divideUp } from '../util/integers.js';
import type { ClusterRun } from './allocator.js';
import type { ChangeableTables } from './changeable-tables.js';
import { CountChanges } from './count-changes.js';
import type { HeaderTables } from './header-state.js';
import { NextCounts, refuseFree } from './next-counts.js';
import { L2References, namedTables, type NamedTable } from './l2-references.js';

/** What the image is to be. */
export interface NextTables {
  /** Bytes of the disk. */
  readonly size: number;
  /** The active L1 table: the offset of each L2 table, 0 for none. */
  readonly l1: Float64Array;
  /** Written beside it, with the same L2 tables: what becomes the L1 table of a new snapshot. Null for none. */
  readonly snapshotL1: Float64Array | null;
  /** The snapshot table, and its entries. It is told where `snapshotL1` has come to lie. */
  readonly snapshotCount: number;
  readonly snapshotTable: (l1Offset: HostOffset) => Uint8Array;
  /** Bytes of the snapshot table as it is now. */
  readonly oldSnapshotTableBytes: number;
  /** The L1 tables of the snapshots that stay. */
  readonly keptL1Tables: readonly { readonly l1Offset: HostOffset; readonly l1Entries: number }[];
}

interface TablePlace {
  readonly host: HostOffset;
  /** Bytes. */
  readonly length: number;
}

export class TableSwitch {
  readonly references: L2References;
  /** What the caller's own references come and go by; the tables' own are added here. */
  readonly changes: CountChanges;
  readonly #tables: ChangeableTables;
  readonly #next: NextCounts;
  /** Places taken, to be given back if it comes to nothing. */
  readonly #taken: TablePlace[] = [];
  /** What lies in places taken, and is not written yet. */
  readonly #pending: { readonly host: HostOffset; readonly bytes: Uint8Array }[] = [];
  readonly #freed: { host: HostOffset; count: number }[] = [];
  /** Where refcount blocks lie that move. */
  readonly #movedBlocks = new Set<HostOffset>();

  /** All that waits in memory is written, so that the file can be read as it is. */
  constructor(tables: ChangeableTables, changes = new CountChanges()) {
    this.#tables = tables;
    this.changes = changes;
    this.#next = new NextCounts(tables, changes);
    this.references = new L2References(tables);
    this.#writeAll();
  }

  /**
   * Makes the switch; the caller then has the tables read anew. Returns the clusters that have become free. Throws `LIMIT`
   * where a count would not fit its width, `CORRUPT`, and what the storage fails with; the image is as it was then.
   */
  commit(next: NextTables): ClusterRun[] {
    this.#next.checkAll();
    try {
      this.#commit(next);
      return this.#freed;
    } catch (error) {
      this.#giveBack();
      throw error;
    }
  }

  #commit(next: NextTables): void {
    const { header, geometry } = this.#tables;
    const { clusterSize } = geometry;
    const old = header.value;
    // QEMU puts the two tables of a new snapshot first as well, in this order.
    const snapshotL1 = this.#take(8 * (next.snapshotL1?.length ?? 0));
    const snapshotsOffset = this.#write(next.snapshotTable(snapshotL1));
    const moved = this.#rewriteL2Tables(next);
    if (next.snapshotL1 !== null) this.#put(snapshotL1, this.#encodeL1(next.snapshotL1, moved, false));
    const snapshots = { snapshotCount: next.snapshotCount, snapshotsOffset };
    const l1 = this.#encodeL1(next.l1, moved, true);
    if (this.changes.isEmpty && this.#isActiveL1(l1)) {
      this.#commitInPlace(next, snapshots);
      return;
    }
    const l1Offset = this.#write(l1);
    this.#release({ host: old.l1Offset, length: old.l1Entries * 8 });
    this.#release({ host: old.snapshotsOffset, length: next.oldSnapshotTableBytes });
    const refcountTable = this.#rewriteRefcounts();
    this.#checkFreed(next);
    this.#publish({
      size: next.size,
      l1Offset,
      l1Entries: next.l1.length,
      refcountTableOffset: refcountTable.host,
      refcountTableClusters: refcountTable.length / clusterSize,
      ...snapshots,
    });
  }

  /** The refcounts that change are of what is new and of the old snapshot table alone. */
  #commitInPlace(next: NextTables, snapshots: Pick<HeaderTables, 'snapshotCount' | 'snapshotsOffset'>): void {
    const { header, writable } = this.#tables;
    const old = { host: header.value.snapshotsOffset, length: next.oldSnapshotTableBytes };
    this.#release(old);
    this.changes.forEach((cluster) => {
      if (this.#next.ofCluster(cluster) === 0) this.#noteFree(cluster);
    });
    this.#checkFreed(next);
    this.#checkStays([{ host: header.value.l1Offset, length: next.l1.length * 8 }, this.#refcountTablePlace()]);
    this.#reserve();
    this.#writePending();
    this.#writeAll();
    this.#publish({ ...header.value, size: next.size, ...snapshots });
    writable.allocator.free(old.host, old.length, 'never');
    this.#writeAll();
  }

  /** The switch. From then on what was taken is in use. */
  #publish(tables: HeaderTables): void {
    const { storage, header } = this.#tables;
    storage.flush();
    header.setTables(tables);
    this.#taken.length = 0;
    storage.flush();
  }

  /** Whether the active L1 table is these bytes already, all of it. */
  #isActiveL1(bytes: Uint8Array): boolean {
    const { l1 } = this.#tables;
    return bytes.length === l1.entries * 8 && equalAt(l1.encodeGrown(l1.entries), 0, bytes);
  }

  /** Copies of the active L2 tables whose COPIED flags will be wrong, by where the table is now. */
  #rewriteL2Tables({ l1, snapshotL1 }: NextTables): ReadonlyMap<HostOffset, HostOffset> {
    const { clusterSize } = this.#tables.geometry;
    const moved = new Map<HostOffset, HostOffset>();
    const shared = new Map(
      namedTables(snapshotL1 ?? [], this.#tables.geometry).map((table) => [table.host, table.times]),
    );
    for (const table of namedTables(l1, this.#tables.geometry)) {
      const bytes = this.#withRightFlags(table);
      if (bytes === null) continue;
      const host = this.#write(bytes);
      moved.set(table.host, host);
      const times = table.times + (shared.get(table.host) ?? 0);
      // It was allocated with a count of one.
      this.changes.add(host / clusterSize, times - 1);
      this.changes.add(table.host / clusterSize, -times);
    }
    return moved;
  }

  /** The bytes of the table with the flags that follow from the counts to be; null where they are right already. */
  #withRightFlags(table: NamedTable): Uint8Array | null {
    const { clusterSize } = this.#tables.geometry;
    const wrong: number[] = [];
    this.#next.inUse(table.host);
    const bytes = this.references.visit(table, {
      cluster: (host, at, copied) => {
        if (copied !== (this.#next.inUse(host) === 1)) wrong.push(at);
      },
      compressed: ({ host }) => this.#next.inUse(alignDown(host, clusterSize)),
    });
    for (const at of wrong) bytes[at]! ^= HIGH_COPIED >>> 24;
    return wrong.length === 0 ? null : bytes;
  }

  #encodeL1(hosts: Float64Array, moved: ReadonlyMap<HostOffset, HostOffset>, active: boolean): Uint8Array {
    const bytes = new Uint8Array(hosts.length * 8);
    const view = viewOf(bytes);
    hosts.forEach((old, index) => {
      const host = moved.get(old) ?? old;
      setUint64(view, index * 8, host);
      if (active && host !== 0 && this.#next.of(host) === 1) bytes[index * 8]! |= HIGH_COPIED >>> 24;
    });
    return bytes;
  }

  /** Writes every refcount block with a count that changes to a new place, and a refcount table that names those. */
  #rewriteRefcounts(): TablePlace {
    const { storage, writable } = this.#tables;
    const { table } = writable.refcounts;
    const { blocks: places, place } = this.#takeRefcountPlaces();
    this.#release(this.#refcountTablePlace());
    this.#reserve();
    this.#writeAll();
    const blocks = new Map([...places.keys()].map((index) => [index, this.#blockContent(index)]));
    this.changes.forEach((cluster, change) => this.#applyChange(blocks, cluster, change));
    this.#writePending();
    for (const [index, block] of blocks) storage.write(places.get(index)!, block);
    const content = table.encodeGrown(table.entries);
    for (const [index, host] of places) setUint64(viewOf(content), index * 8, host);
    storage.write(place.host, content);
    return place;
  }

  /**
   * Room for the refcount table, which may grow for it, and for all blocks with counts that change. A block that moves
   * leaves its cluster, whose count lies in a block that has to move, too.
   */
  #takeRefcountPlaces(): { readonly blocks: ReadonlyMap<number, HostOffset>; readonly place: TablePlace } {
    const { clusterSize } = this.#tables.geometry;
    const { table } = this.#tables.writable.refcounts;
    const blocks = new Map<number, HostOffset>();
    for (;;) {
      const place = this.#refcountTablePlace();
      const host = this.#take(place.length);
      const taken = this.#taken.length;
      let missing = this.#blocksWithout(blocks, place);
      while (missing.size > 0) {
        for (const index of missing) {
          blocks.set(index, this.#take(clusterSize));
          this.#movedBlocks.add(table.get(index));
          this.#release({ host: table.get(index), length: clusterSize });
        }
        missing = this.#blocksWithout(blocks, place);
      }
      if (this.#refcountTablePlace().host === place.host) return { blocks, place: { host, length: place.length } };
      // It has grown, and so moved. Nobody knows of the place taken for it.
      this.#tables.writable.allocator.free(host, place.length);
      this.#taken.splice(taken - 1, 1);
    }
  }

  #refcountTablePlace(): TablePlace {
    const { header, geometry } = this.#tables;
    const { refcountTableOffset, refcountTableClusters } = header.value;
    return { host: refcountTableOffset, length: refcountTableClusters * geometry.clusterSize };
  }

  #applyChange(blocks: ReadonlyMap<number, Uint8Array>, cluster: number, change: number): void {
    const { refcountBlockEntries, refcountOrder } = this.#tables.geometry;
    const index = Math.floor(cluster / refcountBlockEntries);
    const entry = cluster - index * refcountBlockEntries;
    const block = blocks.get(index)!;
    const count = getRefcountEntry(block, 0, refcountOrder, entry);
    this.#next.check(cluster, count, change);
    setRefcountEntry(block, 0, refcountOrder, entry, count + change);
    if (count + change === 0) this.#noteFree(cluster);
  }

  /** The tables of a bad snapshot may name metadata that stays, and that would be lost. */
  #checkFreed({ keptL1Tables }: NextTables): void {
    const { clusterSize } = this.#tables.geometry;
    const { table } = this.#tables.writable.refcounts;
    for (const { host, count } of this.#freed) {
      const end = host + count * clusterSize;
      const inL1 = keptL1Tables.some(({ l1Offset, l1Entries }) => host < l1Offset + l1Entries * 8 && l1Offset < end);
      if (host === 0 || inL1) refuseFree(host);
      for (let at = host; at < end; at += clusterSize) {
        if (table.names(at) && !this.#movedBlocks.has(at)) refuseFree(at);
      }
    }
  }

  /** A bad snapshot table may lie in a table that stays. */
  #checkStays(places: readonly TablePlace[]): void {
    const { clusterSize } = this.#tables.geometry;
    for (const { host, count } of this.#freed) {
      const end = host + count * clusterSize;
      if (places.some((place) => host < place.host + place.length && place.host < end)) refuseFree(host);
    }
  }

  /** They come in the order of the file. */
  #noteFree(cluster: number): void {
    const { clusterSize } = this.#tables.geometry;
    const last = this.#freed.at(-1);
    if (last !== undefined && last.host + last.count * clusterSize === cluster * clusterSize) last.count++;
    else this.#freed.push({ host: cluster * clusterSize, count: 1 });
  }

  /** Blocks that count what changes, the place of the refcount table among it, and have no place in `blocks`. */
  #blocksWithout(blocks: ReadonlyMap<number, HostOffset>, refcountTable: TablePlace): Set<number> {
    const { refcountBlockEntries, clusterSize } = this.#tables.geometry;
    const missing = new Set<number>();
    const look = (cluster: number): void => {
      const index = Math.floor(cluster / refcountBlockEntries);
      if (!blocks.has(index)) missing.add(index);
    };
    this.changes.forEach(look);
    for (let at = 0; at < refcountTable.length; at += clusterSize) look((refcountTable.host + at) / clusterSize);
    return missing;
  }

  #blockContent(index: number): Uint8Array {
    const content = new Uint8Array(this.#tables.geometry.clusterSize);
    this.#tables.storage.read(this.#tables.writable.refcounts.table.get(index), content);
    return content;
  }

  /** Room for `length` bytes, which is 0 for none. */
  #take(length: number): HostOffset {
    const clusters = divideUp(length, this.#tables.geometry.clusterSize);
    if (clusters === 0) return 0;
    const host = this.#tables.writable.allocator.allocateContiguous(clusters);
    this.#taken.push({ host, length });
    return host;
  }

  #write(bytes: Uint8Array): HostOffset {
    const host = this.#take(bytes.length);
    this.#put(host, bytes);
    return host;
  }

  /** To be written at a place that was taken. */
  #put(host: HostOffset, bytes: Uint8Array): void {
    const { geometry, caches } = this.#tables;
    const whole = new Uint8Array(divideUp(bytes.length, geometry.clusterSize) * geometry.clusterSize);
    whole.set(bytes);
    for (const cache of caches) cache.forget(host, whole.length);
    if (whole.length > 0) this.#pending.push({ host, bytes: whole });
  }

  /** What lies there is not needed after the switch. */
  #release({ host, length }: TablePlace): void {
    const { clusterSize } = this.#tables.geometry;
    for (let at = host; at < host + length; at += clusterSize) {
      this.#next.check(at / clusterSize, this.#next.of(at), -1);
      this.changes.add(at / clusterSize, -1);
    }
  }

  /**
   * Where the host has no room, that comes out before anything is written: the image stays of use, and a snapshot can be
   * deleted to make room.
   */
  #reserve(): void {
    const { storage, geometry } = this.#tables;
    const ends = this.#taken.map(({ host, length }) => host + length);
    const highest = ends.reduce((one, other) => Math.max(one, other), 0);
    storage.reserve(divideUp(highest, geometry.clusterSize) * geometry.clusterSize);
  }

  #writePending(): void {
    for (const { host, bytes } of this.#pending) this.#tables.storage.write(host, bytes);
  }

  #writeAll(): void {
    const { order, refcounts } = this.#tables.writable;
    order.flush();
    refcounts.write();
  }

  /** A storage that has failed takes no more; the image is opened again then, and what was taken has leaked. */
  #giveBack(): void {
    if (this.#tables.storage.poisoned) return;
    for (const { host, length } of this.#taken) this.#tables.writable.allocator.free(host, length);
  }
}
