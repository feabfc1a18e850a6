/**
 * Expanding zero clusters, for version 2, which has no entry that says "zeroes": each becomes a cluster full of them, or none
 * where nothing lies below that could show through. In the active tables and in those of all snapshots.
 *
 * A table that several L1 tables share is changed in place, once: what it says stays the same for all of them. A cluster that
 * it names has the table's refcount then, or a higher one if other tables name it, too, and those may read it as data: so an
 * allocated zero cluster is overwritten only if its refcount is that of its table, and replaced otherwise. (QEMU 7.2
 * overwrites it in any case, and with it the data of a snapshot.)
 *
 *   new clusters counted and zeroed -> |barrier| -> table -> |barrier| -> clusters that were replaced are freed
 */
import type { GuestOffset, HostOffset } from '../disk.js';
import { HIGH_COPIED, LOW_ZERO, highOf, l2EntryHost, l2EntryKind, lowOf } from '../format/l2-entry.js';
import { checkSnapshotL1 } from '../format/snapshot-table.js';
import { viewOf } from '../util/big-endian.js';
import type { Progress } from '../util/progress.js';
import type { ChangeableTables, ChangeTarget } from './changeable-tables.js';
import { L1_HIGH_MASK, OffsetTable } from './offset-table.js';
import { readSnapshots } from './snapshot-records.js';

/** L2 tables looked at in one step, and zero clusters written. */
const TABLES_PER_STEP = 64;
/** A whole walk has at least so many steps, where there are as many entries: for a display of progress. */
const STEPS_SHOWN = 100;
const CLUSTERS_PER_STEP = 4096;
/** Walks through all tables that guest requests may spoil before the rest is done without a pause. */
const PATIENT_ROUNDS = 3;

interface Place {
  readonly table: HostOffset;
  /** What its first entry maps. */
  readonly guest: GuestOffset;
  /** Named by the active L1 table. */
  readonly active: boolean;
}

/** An entry that says "zeroes": where it lies in its table, in bytes, and what it maps. */
interface ZeroEntry {
  readonly at: number;
  readonly guest: GuestOffset;
}

export class ZeroExpansion {
  readonly #target: ChangeTarget;
  #tables: ChangeableTables;
  readonly #hasBacking: boolean;
  #places: Iterator<Place | null> | null = null;
  #rounds = 0;
  #foundInRound = false;
  /** Entries of L1 tables, in all walks; and of all L1 tables. */
  #done = 0;
  #total = 0;

  constructor(target: ChangeTarget, options: { readonly hasBacking: boolean }) {
    this.#target = target;
    this.#tables = target.changeableTables();
    this.#tables.guestData.checkKey();
    this.#hasBacking = options.hasBacking;
  }

  /**
   * One step. Null when a whole walk has found no zero cluster: as long as the guest makes no request, there is none. The
   * last walk goes without a pause.
   */
  step(): Progress | null {
    this.#useCurrentTables();
    this.#tables.writable.order.flush();
    let tables = 0;
    let clusters = 0;
    const first = this.#done;
    for (;;) {
      this.#places ??= this.#walk();
      const next = this.#places.next();
      if (next.done === true) {
        if (this.#endRound()) return null;
        continue;
      }
      this.#done++;
      if (next.value !== null) {
        const expanded = this.#expandTable(next.value);
        if (expanded > 0) this.#foundInRound = true;
        tables++;
        clusters += expanded;
      }
      const last = this.#rounds > 0 && !this.#foundInRound;
      const entries = this.#done - first;
      const enough = tables >= TABLES_PER_STEP || clusters >= CLUSTERS_PER_STEP || entries * STEPS_SHOWN >= this.#total;
      if (enough && !last && this.#rounds <= PATIENT_ROUNDS) return this.#progress();
    }
  }

  /** A walk goes on in the tables that it began in only. */
  #useCurrentTables(): void {
    const tables = this.#target.changeableTables();
    if (tables === this.#tables) return;
    this.#tables = tables;
    this.#places = null;
    this.#rounds++;
  }

  /** Returns whether that was the last walk. */
  #endRound(): boolean {
    const last = this.#rounds > 0 && !this.#foundInRound;
    this.#places = null;
    this.#foundInRound = false;
    this.#rounds++;
    return last;
  }

  #progress(): Progress {
    const total = Math.max(this.#done, this.#total);
    return { done: this.#done, total, what: 'expanding zero clusters' };
  }

  /** For each entry of an L1 table, active or of a snapshot, the L2 table that it names, if it is the first to. */
  *#walk(): Generator<Place | null, undefined> {
    const { l1, storage, geometry, header } = this.#tables;
    const seen = new Set<HostOffset>();
    function* tablesOf(table: OffsetTable, active: boolean): Generator<Place | null> {
      for (let index = 0; index < table.entries; index++) {
        const host = table.get(index);
        const isNew = host !== 0 && !seen.has(host);
        if (isNew) seen.add(host);
        yield isNew ? { table: host, guest: index * geometry.l2Coverage, active } : null;
      }
    }
    const snapshots = readSnapshots(storage, header.value);
    for (const snapshot of snapshots) checkSnapshotL1(snapshot, geometry.clusterSize);
    this.#total = snapshots.reduce((sum, { l1Entries }) => sum + l1Entries, l1.entries);
    yield* tablesOf(l1, true);
    for (const { l1Offset, l1Entries, id } of snapshots) {
      const inactive = new OffsetTable({
        storage,
        name: `L1 table of snapshot ${id}`,
        offset: l1Offset,
        entries: l1Entries,
        clusterSize: geometry.clusterSize,
        highMask: L1_HIGH_MASK,
      });
      yield* tablesOf(inactive, false);
    }
    return undefined;
  }

  /** Returns how many zero clusters the table had. */
  #expandTable({ table, guest, active }: Place): number {
    const { storage, geometry, caches } = this.#tables;
    const { order, refcounts } = this.#tables.writable;
    const bytes = new Uint8Array(geometry.clusterSize);
    storage.read(table, bytes);
    const zeroes = entriesMarkedZero(bytes);
    if (zeroes.length === 0) return 0;
    const references = refcounts.get(table / geometry.clusterSize);
    const replaced: HostOffset[] = [];
    for (const at of zeroes) {
      const zeroed = { at, guest: guest + (at / 8) * geometry.clusterSize };
      const host = this.#expandEntry(bytes, zeroed, references, replaced);
      const copied = active && references === 1 && host !== 0;
      const view = viewOf(bytes);
      view.setUint32(at, (highOf(host) | (copied ? HIGH_COPIED : 0)) >>> 0);
      view.setUint32(at + 4, lowOf(host));
    }
    order.makeL2DependenciesStable();
    storage.write(table, bytes);
    caches[0]!.forget(table, geometry.clusterSize);
    storage.flush();
    this.#release(replaced, references);
    return zeroes.length;
  }

  /** Where the zero cluster of the entry at `at` lies from now on; 0 for nowhere. What it leaves goes to `replaced`. */
  #expandEntry(bytes: Uint8Array, { at, guest }: ZeroEntry, references: number, replaced: HostOffset[]): HostOffset {
    const { geometry } = this.#tables;
    const { refcounts } = this.#tables.writable;
    const view = viewOf(bytes);
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    const old = l2EntryKind(low, high) === 'zero-allocated' ? l2EntryHost(low, high) : 0;
    if (old !== 0 && refcounts.get(old / geometry.clusterSize) === references) {
      this.#writeZeroes(old, guest);
      return old;
    }
    if (old !== 0) replaced.push(old);
    return this.#hasBacking ? this.#allocateZeroes(references, guest) : 0;
  }

  #allocateZeroes(references: number, guest: GuestOffset): HostOffset {
    const { clusterSize } = this.#tables.geometry;
    const { allocator, refcounts } = this.#tables.writable;
    const { host } = allocator.allocate(1);
    if (references > 1) refcounts.add(host / clusterSize, 1, references - 1);
    this.#writeZeroes(host, guest);
    return host;
  }

  #writeZeroes(host: HostOffset, guest: GuestOffset): void {
    const { guestData, geometry } = this.#tables;
    this.#tables.writable.guard.check(host, geometry.clusterSize, 'a cluster of zeroes');
    guestData.write(host, new Uint8Array(geometry.clusterSize), guest);
  }

  /** Each path from an L1 table was a reference. */
  #release(replaced: readonly HostOffset[], references: number): void {
    const { allocator, order } = this.#tables.writable;
    for (const host of replaced) {
      for (let count = 0; count < references; count++) allocator.free(host, this.#tables.geometry.clusterSize);
    }
    if (replaced.length > 0) order.flush();
  }
}

/** Byte offsets of the entries that say "zeroes". */
function entriesMarkedZero(bytes: Uint8Array): number[] {
  const view = viewOf(bytes);
  const found: number[] = [];
  for (let at = 0; at < bytes.length; at += 8) {
    if ((bytes[at + 7]! & LOW_ZERO) === 0) continue;
    const kind = l2EntryKind(view.getUint32(at + 4), view.getUint32(at));
    if (kind === 'zero' || kind === 'zero-allocated') found.push(at);
  }
  return found;
}
