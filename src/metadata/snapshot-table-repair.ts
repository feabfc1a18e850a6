/**
 * Snapshot table repair: writes the snapshot table anew, with its entries made good: extra data cut to its limit or filled up
 * to what version 3 demands, entries past the limit of the table left out (see `listed-snapshots.ts`).
 *
 *   new table and its refcounts -> |barrier| -> the header names it -> |barrier| -> the old table's refcounts are lowered
 *
 * Runs when the refcounts are right. Where no block counts the place of the new table, the whole refcount structure is built
 * anew with it. A crash leaves leaks at most.
 */
import { MAX_SNAPSHOT_EXTRA_BYTES } from '../format/limits.js';
import { SNAPSHOT_FIXED_BYTES } from '../format/snapshot-table.js';
import { setRefcountEntry } from '../kernels/refcount-entry.js';
import { setUint64, viewOf } from '../util/big-endian.js';
import { alignUp, divideUp } from '../util/integers.js';
import type { AvoidedClusters } from './avoided-clusters.js';
import type { CheckPhase } from './check-findings.js';
import { freeRun } from './free-run.js';
import type { ImageUnderCheck } from './image-under-check.js';
import type { RecordedRefcounts } from './recorded-refcounts.js';
import { RefcountRebuild } from './refcount-rebuild.js';
import type { ReferenceCounts } from './reference-counts.js';
import { DEMANDED_EXTRA_BYTES, type ListedSnapshot, type SnapshotList } from './listed-snapshots.js';

/** The demanded fields, and the icount that today's QEMU writes behind them. */
const FILLED_EXTRA_BYTES = DEMANDED_EXTRA_BYTES + 8;

export interface SnapshotTableRepairParts {
  readonly image: ImageUnderCheck;
  readonly snapshots: SnapshotList;
  /** As recorded. */
  readonly counts: ReferenceCounts;
  readonly recorded: RecordedRefcounts;
  readonly avoid: AvoidedClusters;
}

interface Run {
  readonly first: number;
  readonly clusters: number;
}

export class SnapshotTableRepair implements CheckPhase {
  readonly what = 'writing the snapshot table anew';
  readonly total = 2;
  done = 0;
  readonly #parts: SnapshotTableRepairParts;
  #table: Run = { first: 0, clusters: 0 };
  #rebuild: RefcountRebuild | null = null;

  constructor(parts: SnapshotTableRepairParts) {
    this.#parts = parts;
  }

  step(): boolean {
    if (this.done === 2) return false;
    if (this.done === 0) {
      this.#writeTable();
      this.done = 1;
    } else if (this.#rebuild === null || !this.#rebuild.step()) {
      this.#publish();
      this.done = 2;
    }
    return true;
  }

  #writeTable(): void {
    const { image, snapshots, counts, avoid } = this.#parts;
    const bytes = encodeTable(image, snapshots);
    const clusters = divideUp(bytes.length, image.clusterSize);
    this.#table = { first: freeRun(counts, avoid, { from: 1, clusters }), clusters };
    image.write(this.#table.first * image.clusterSize, bytes);
    if (this.#isCovered(this.#table)) {
      this.#addToCounts(this.#table, 1);
      return;
    }
    for (let index = 0; index < clusters; index++) counts.set(this.#table.first + index, 1);
    this.#rebuild = new RefcountRebuild({ image, counts, avoid });
  }

  #publish(): void {
    const { image, snapshots, recorded } = this.#parts;
    if (this.#rebuild !== null) recorded.reload();
    const old = {
      first: image.header.snapshotsOffset / image.clusterSize,
      clusters: divideUp(snapshots.byteLength, image.clusterSize),
    };
    image.flush();
    image.setSnapshotTable(this.#table.first * image.clusterSize, snapshots.entries.length);
    image.flush();
    this.#addToCounts(old, -1);
    image.flush();
  }

  #isCovered(run: Run): boolean {
    const { recorded, image } = this.#parts;
    const perBlock = image.geometry.refcountBlockEntries;
    for (let cluster = run.first; cluster < run.first + run.clusters; cluster++) {
      if (recorded.readBlock(Math.floor(cluster / perBlock)) === null) return false;
    }
    return true;
  }

  #addToCounts(run: Run, delta: number): void {
    const { recorded, image, counts } = this.#parts;
    const { refcountBlockEntries, refcountOrder } = image.geometry;
    for (let cluster = run.first; cluster < run.first + run.clusters; cluster++) {
      const index = Math.floor(cluster / refcountBlockEntries);
      const block = recorded.readBlock(index);
      const count = counts.get(cluster) + delta;
      if (block === null || count < 0) continue;
      counts.set(cluster, count);
      setRefcountEntry(block, 0, refcountOrder, cluster % refcountBlockEntries, count);
      image.write(recorded.blockOffset(index), block);
    }
  }
}

function encodeTable(image: ImageUnderCheck, snapshots: SnapshotList): Uint8Array {
  const entries = snapshots.entries.map((snapshot) => encodeEntry(image, snapshot));
  const bytes = new Uint8Array(entries.reduce((sum, entry) => sum + entry.length, 0));
  let at = 0;
  for (const entry of entries) {
    bytes.set(entry, at);
    at += entry.length;
  }
  return bytes;
}

function encodeEntry(image: ImageUnderCheck, snapshot: ListedSnapshot): Uint8Array {
  const { at, extraBytes, idBytes, nameBytes } = snapshot;
  const kept = Math.min(extraBytes, MAX_SNAPSHOT_EXTRA_BYTES);
  const lacks = image.header.version === 3 && kept < DEMANDED_EXTRA_BYTES;
  const written = lacks ? FILLED_EXTRA_BYTES : kept;
  const words = SNAPSHOT_FIXED_BYTES + written;
  const entry = new Uint8Array(alignUp(words + idBytes + nameBytes, 8));
  entry.set(image.read(at, SNAPSHOT_FIXED_BYTES));
  const view = viewOf(entry);
  view.setUint32(36, written);
  if (lacks) {
    setUint64(view, SNAPSHOT_FIXED_BYTES, view.getUint32(32));
    setUint64(view, SNAPSHOT_FIXED_BYTES + 8, image.header.size);
    view.setBigInt64(SNAPSHOT_FIXED_BYTES + DEMANDED_EXTRA_BYTES, -1n);
  }
  // A size of the VM state that is there is kept; a field that is there in part says nothing.
  entry.set(image.read(at + SNAPSHOT_FIXED_BYTES, lacks ? kept - (kept % 8) : kept), SNAPSHOT_FIXED_BYTES);
  entry.set(image.read(at + SNAPSHOT_FIXED_BYTES + extraBytes, idBytes + nameBytes), words);
  return entry;
}
