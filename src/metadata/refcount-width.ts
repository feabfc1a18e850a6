/**
 * Changing the width of the refcounts: a second refcount structure is built beside the old one, which goes on counting
 * meanwhile, and the header switches from one to the other (spec, "refcount_order").
 *
 *   measure   which blocks the new structure needs, and whether every count fits the new width
 *   allocate  table and blocks, in clusters that the old structure counts like any others
 *   fill      the new blocks with the counts that the old ones hold now
 *   publish   refcount_order, table offset and table size: one sector of the header, behind a barrier
 *   release   the old table and its blocks
 *
 * - Up to the switch the new structure is clusters with a refcount and nothing that names them: a crash leaves leaks. From
 *   then on the old one is.
 * - Every count that changes between two steps (`Refcounts.changes`), if only because the guest has written, makes all
 *   that was measured and filled stale; then it is done again. After some rounds it is finished in one go.
 */
import type { HostOffset } from '../disk.js';
import { isQcow2Error, Qcow2Error } from '../errors.js';
import { geometryOf, type Geometry } from '../format/geometry.js';
import { MAX_REFCOUNT_TABLE_BYTES } from '../format/limits.js';
import { setRefcountEntry } from '../kernels/refcount-entry.js';
import { setUint64, viewOf } from '../util/big-endian.js';
import { divideUp, hex } from '../util/integers.js';
import type { Progress } from '../util/progress.js';
import type { ClusterRun } from './allocator.js';
import type { ChangeableTables, ChangeTarget } from './changeable-tables.js';

/** Clusters whose counts are looked at in one step. */
const STEP_CLUSTERS = 1 << 17;
/** Rounds that guest requests may spoil before the rest is done without a pause. */
const PATIENT_ROUNDS = 3;

type Phase = 'measure' | 'allocate' | 'fill' | 'publish' | 'done';

export class RefcountWidthChange {
  readonly #target: ChangeTarget;
  /** Those that were measured. */
  #tables: ChangeableTables;
  readonly #old: Geometry;
  readonly #new: Geometry;
  #phase: Phase = 'measure';
  /** The next cluster to look at in this phase. */
  #cursor = 0;
  #rounds = 0;
  /** `Refcounts.changes` when the round began. */
  #seen = -1;
  /** The blocks of the new structure, by index; 0 for one that is needed and not yet placed. */
  readonly #blocks = new Map<number, HostOffset>();
  #table: { host: HostOffset; readonly clusters: number } | null = null;
  readonly #taken: ClusterRun[] = [];
  /** Why it can't be done; what was taken is given back before it is thrown. */
  #refusal: Qcow2Error | null = null;

  /** @param bits 1, 2, 4 .. 64. */
  constructor(target: ChangeTarget, bits: number) {
    this.#target = target;
    this.#tables = target.changeableTables();
    this.#old = this.#tables.geometry;
    this.#new = geometryOf(this.#old.clusterBits, Math.log2(bits));
  }

  /**
   * One step; null when the header names the new structure. The tables in memory are then of the old one and must not be
   * used any more, see `oldClusters`. Throws `LIMIT` when a count does not fit, with its cluster, or the new structure does
   * not: the image still has the old structure then, and what was taken for the new one has been freed.
   */
  step(): Progress | null {
    const tables = this.#target.changeableTables();
    if (tables !== this.#tables) {
      // Other tables count from 0: what was measured is not known to be what they hold.
      this.#tables = tables;
      this.#startAgain();
    }
    do {
      this.#advanceOrRefuse();
      if (this.#phase === 'done') return null;
    } while (this.#rounds > PATIENT_ROUNDS);
    const total = 2 * this.#end();
    const before = this.#phase === 'measure' || this.#phase === 'allocate' ? 0 : this.#end();
    return { done: Math.min(total, before + this.#cursor), total, what: 'changing the refcount width' };
  }

  /** What only the old structure needs: to be freed in the new one. */
  oldClusters(): ClusterRun[] {
    const { table } = this.#tables.writable.refcounts;
    const clusters = [{ host: table.offset, count: (table.entries * 8) / this.#old.clusterSize }];
    for (let index = 0; index < table.entries; index++) {
      if (table.get(index) !== 0) clusters.push({ host: table.get(index), count: 1 });
    }
    return clusters;
  }

  /** Gives the clusters back that were taken for the new structure. It has not been published. */
  giveUp(): void {
    const { allocator, order } = this.#target.changeableTables().writable;
    // One by one: what is freed twice is somebody else's.
    for (let run = this.#taken.at(-1); run !== undefined; run = this.#taken.at(-1)) {
      allocator.free(run.host, run.count * this.#old.clusterSize);
      this.#taken.pop();
    }
    order.flush();
  }

  /** After a refusal nothing is done any more but giving up, again if it was cut off. */
  #advanceOrRefuse(): void {
    try {
      if (this.#refusal === null) this.#advance();
    } catch (error) {
      if (!isQcow2Error(error) || error.code !== 'LIMIT') throw error;
      this.#refusal = error;
    }
    if (this.#refusal === null) return;
    this.giveUp();
    throw this.#refusal;
  }

  #advance(): void {
    switch (this.#phase) {
      case 'measure':
        this.#measure();
        return;
      case 'allocate':
        this.#allocate();
        return;
      case 'fill':
        this.#fill();
        return;
      case 'publish':
        this.#publish();
        return;
      case 'done':
    }
  }

  /** All clusters that the old structure counts lie below. */
  #end(): number {
    const { table } = this.#tables.writable.refcounts;
    let blocks = table.entries;
    while (blocks > 0 && table.get(blocks - 1) === 0) blocks--;
    return blocks * this.#old.refcountBlockEntries;
  }

  #measure(): void {
    const { refcounts, order } = this.#tables.writable;
    if (this.#cursor === 0) {
      order.flush();
      this.#seen = refcounts.changes;
    }
    const stop = Math.min(this.#end(), this.#cursor + STEP_CLUSTERS);
    for (let cluster = this.#cursor; cluster < stop; cluster++) {
      const count = refcounts.get(cluster);
      if (count === 0) continue;
      if (count > this.#new.maxRefcount) this.#refuse(cluster);
      this.#need(cluster);
    }
    this.#cursor = stop;
    if (stop < this.#end()) return;
    const missing = this.#table === null || [...this.#blocks.values()].includes(0);
    if (refcounts.changes !== this.#seen) this.#startAgain();
    else this.#enter(missing ? 'allocate' : 'fill');
  }

  /** Places what is missing, and what counting the places themselves takes. Measured again after it. */
  #allocate(): void {
    this.#tables.header.beforeChange();
    const { allocator } = this.#tables.writable;
    const { clusterSize } = this.#new;
    for (const [index, host] of this.#blocks) {
      if (host !== 0) continue;
      const run = allocator.allocate(1);
      this.#taken.push(run);
      this.#blocks.set(index, run.host);
      // A map that grows while it is walked is walked to its new end.
      this.#need(run.host / clusterSize);
    }
    this.#allocateTable();
    this.#enter('measure');
  }

  #allocateTable(): void {
    const { allocator } = this.#tables.writable;
    const { clusterSize } = this.#new;
    const entries = Math.max(...this.#blocks.keys()) + 1;
    if (this.#table !== null && (this.#table.clusters * clusterSize) / 8 >= entries) return;
    if (this.#table !== null) {
      // It has become too small.
      const { host, clusters } = this.#table;
      allocator.free(host, clusters * clusterSize);
      this.#table = null;
      const at = this.#taken.findIndex((run) => run.host === host);
      this.#taken.splice(at, 1);
    }
    // The table itself may need one block more.
    const clusters = divideUp((entries + 1) * 8, clusterSize);
    if (clusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
      const limit = `with ${this.#new.refcountBits} bits the limit is ${MAX_REFCOUNT_TABLE_BYTES}`;
      throw new Qcow2Error('LIMIT', `the refcount table would need ${clusters * clusterSize} bytes; ${limit}`);
    }
    const host = allocator.allocateContiguous(clusters);
    this.#taken.push({ host, count: clusters });
    this.#table = { host, clusters };
    for (let index = 0; index < clusters; index++) this.#need(host / clusterSize + index);
  }

  /** Writes the blocks that count the next clusters. */
  #fill(): void {
    const { refcounts, guard } = this.#tables.writable;
    const { clusterSize, refcountBlockEntries, refcountOrder } = this.#new;
    const stop = Math.min(this.#end(), this.#cursor + STEP_CLUSTERS);
    while (this.#cursor < stop) {
      const index = Math.floor(this.#cursor / refcountBlockEntries);
      const host = this.#blocks.get(index);
      if (host !== undefined) {
        const first = index * refcountBlockEntries;
        const block = new Uint8Array(clusterSize);
        for (let entry = 0; entry < refcountBlockEntries; entry++) {
          const count = refcounts.get(first + entry);
          if (count !== 0) setRefcountEntry(block, 0, refcountOrder, entry, count);
        }
        guard.check(host, clusterSize, 'a refcount block of the new width');
        this.#tables.storage.write(host, block);
      }
      this.#cursor = (index + 1) * refcountBlockEntries;
    }
    if (refcounts.changes !== this.#seen) this.#startAgain();
    else if (this.#cursor >= this.#end()) this.#enter('publish');
  }

  #publish(): void {
    const { refcounts, guard, order } = this.#tables.writable;
    const { header } = this.#tables;
    order.flush();
    if (refcounts.changes !== this.#seen) {
      this.#startAgain();
      return;
    }
    const { host, clusters } = this.#table!;
    const content = new Uint8Array(clusters * this.#new.clusterSize);
    const view = viewOf(content);
    for (const [index, block] of this.#blocks) setUint64(view, index * 8, block);
    guard.check(host, content.length, 'a refcount table of the new width');
    this.#tables.storage.write(host, content);
    this.#tables.storage.flush();
    header.rewrite({
      ...header.value,
      refcountOrder: this.#new.refcountOrder,
      refcountTableOffset: host,
      refcountTableClusters: clusters,
    });
    this.#taken.length = 0;
    this.#enter('done');
  }

  #need(cluster: number): void {
    const index = Math.floor(cluster / this.#new.refcountBlockEntries);
    if (!this.#blocks.has(index)) this.#blocks.set(index, 0);
  }

  #enter(phase: Phase): void {
    this.#phase = phase;
    this.#cursor = 0;
  }

  #startAgain(): void {
    this.#rounds++;
    this.#enter('measure');
  }

  #refuse(cluster: number): never {
    const count = this.#tables.writable.refcounts.exact(cluster);
    throw new RefcountDoesNotFit(cluster * this.#old.clusterSize, count, this.#new);
  }
}

/** The one obstacle that is found on the way. */
export class RefcountDoesNotFit extends Qcow2Error {
  constructor(
    readonly host: HostOffset,
    readonly refcount: number | bigint,
    { refcountBits, maxRefcount }: Pick<Geometry, 'refcountBits' | 'maxRefcount'>,
  ) {
    const where = `the cluster at ${hex(host)} has refcount ${refcount}`;
    super('LIMIT', `${where}; a width of ${refcountBits} bits holds at most ${maxRefcount}`);
  }
}
