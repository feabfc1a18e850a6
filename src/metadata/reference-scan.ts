/**
 * Reference scan: walks everything that the header leads to and counts how often each host cluster is named (spec, "Host
 * cluster management"): the header, the active L1 table and those of the snapshots with their L2 tables and clusters, the
 * snapshot table, the refcount table and its blocks, the encryption header, the bitmaps.
 *
 * Memory: one L1 table (32 MiB at most) and where its L2 tables lie (as much again), one L2 table, the counts. Nothing is
 * trusted: what is wrong is a finding, and what lies outside the file is neither read nor counted. An L2 table that entries
 * of one L1 table name again and again is scanned once for all of them. It changes nothing but the entries that
 * `l2-scan.ts` may repair.
 */
import { cryptoAreaOf } from '../format/header.js';
import { MAX_L1_BYTES } from '../format/limits.js';
import { viewOf } from '../util/big-endian.js';
import { divideUp, hex } from '../util/integers.js';
import { BitmapScan } from './bitmap-scan.js';
import type { CheckPhase, Findings, Repair, BlockFlaw } from './check-findings.js';
import type { ImageUnderCheck } from './image-under-check.js';
import { L2Scan, type ClusterStatistics } from './l2-scan.js';
import { L1_HIGH_MASK } from './offset-table.js';
import { MetadataPlaces } from './metadata-places.js';
import type { RecordedRefcounts } from './recorded-refcounts.js';
import type { ReferenceCounts } from './reference-counts.js';
import { ReferenceSink } from './reference-sink.js';
import type { ListedSnapshot, SnapshotList } from './listed-snapshots.js';

const L1_HIGH_RESERVED = 0x7f00_0000;
const LOW_RESERVED = 0x1ff;
/** Bytes of L2 tables read in one step, at least one table. */
const STEP_BYTES = 1024 * 1024;
/** Entries of an L1 table judged in one step. */
const STEP_ENTRIES = 1 << 16;

export interface ReferenceScanParts {
  readonly image: ImageUnderCheck;
  readonly counts: ReferenceCounts;
  readonly recorded: RecordedRefcounts;
  readonly snapshots: SnapshotList;
  readonly findings: Findings;
  readonly repair: Repair;
}

interface L1Place {
  readonly name: string;
  readonly offset: number;
  readonly entries: number;
  readonly active: boolean;
}

/** Does a piece of its work; false when none is left. */
type Task = () => boolean;

export class ReferenceScan implements CheckPhase {
  readonly what = 'counting references';
  /** In entries of L1 tables. */
  readonly total: number;
  readonly sink: ReferenceSink;
  readonly statistics: ClusterStatistics = { allocatedClusters: 0, fragmentedClusters: 0, compressedClusters: 0 };
  /** The refcount table can't stay as it is: some entry names no block, or not a block's own cluster. */
  mustRebuild = false;
  readonly #parts: ReferenceScanParts;
  readonly #l2: L2Scan;
  /** Those that are left, the next one last: one that is done keeps no table in memory. */
  readonly #tasks: Task[];
  #entriesDone = 0;

  constructor(parts: ReferenceScanParts) {
    const { image, counts, recorded, snapshots, findings, repair } = parts;
    this.#parts = parts;
    this.sink = new ReferenceSink(image, counts, findings);
    const places = new MetadataPlaces(image, recorded, snapshots);
    this.#l2 = new L2Scan({ image, sink: this.sink, places, findings, repair, statistics: this.statistics });
    const { l1Offset, l1Entries } = image.header;
    // Asked for at each step, and there may be thousands of snapshots.
    this.total = snapshots.entries.reduce((sum, snapshot) => sum + snapshot.l1Entries, l1Entries);
    const bitmaps = new BitmapScan(image, this.sink);
    const inOrder: Task[] = [
      () => this.#scanHeader(),
      this.#l1Task({ name: 'the L1 table', offset: l1Offset, entries: l1Entries, active: true }),
      ...snapshots.entries.map((snapshot) => this.#snapshotTask(snapshot)),
      () => this.#scanOtherTables(),
      () => bitmaps.step(),
      () => this.#scanRefcountTable(),
    ];
    this.#tasks = inOrder.reverse();
  }

  /** In entries of L1 tables. */
  get done(): number {
    return this.#entriesDone;
  }

  step(): boolean {
    const task = this.#tasks.at(-1);
    if (task === undefined) return false;
    if (!task()) this.#tasks.pop();
    return true;
  }

  #scanHeader(): boolean {
    const { image, snapshots } = this.#parts;
    this.sink.add(0, image.clusterSize, () => 'the header');
    if (image.hasDataFile && snapshots.entries.length > 0) {
      const count = snapshots.entries.length;
      this.sink.corruption('snapshot-table', image.header.snapshotsOffset, () => `${count} snapshots and a data file`);
    }
    return false;
  }

  #snapshotTask(snapshot: ListedSnapshot): Task {
    const { l1Offset, l1Entries, label, at } = snapshot;
    const name = `the L1 table of snapshot ${label}`;
    const misaligned = l1Offset % this.#parts.image.clusterSize !== 0;
    if (!misaligned && l1Entries <= MAX_L1_BYTES / 8) {
      return this.#l1Task({ name, offset: l1Offset, entries: l1Entries, active: false });
    }
    return () => {
      const what = misaligned ? `is at ${hex(l1Offset)}, no cluster's start` : `has ${l1Entries} entries, too many`;
      const [flaw, value] = misaligned ? (['offset', l1Offset] as const) : (['size', l1Entries] as const);
      this.sink.corruption('snapshot-table', at, () => `${name} ${what}`, { fact: 'snapshot-l1', label, flaw, value });
      return false;
    };
  }

  /** First the table itself and its entries, then the L2 tables that they name, some a time. */
  #l1Task(place: L1Place): Task {
    let l1: DataView | null = null;
    let index = 0;
    const hosts: number[] = [];
    let tables: Float64Array | null = null;
    let next = 0;
    return () => {
      l1 ??= this.#readL1Table(place);
      if (index * 8 < l1.byteLength) {
        const end = Math.min(l1.byteLength / 8, index + STEP_ENTRIES);
        for (; index < end; index++) {
          if (l1.getUint32(index * 8) === 0 && l1.getUint32(index * 8 + 4) === 0) this.#entriesDone++;
          else this.#judgeL1Entry(place, index, l1, hosts);
        }
        return true;
      }
      // In order of their places, those that are named more than once come together.
      tables ??= new Float64Array(hosts).sort();
      for (let budget = STEP_BYTES; next < tables.length && budget > 0; budget -= this.#parts.image.clusterSize) {
        next = this.#scanL2Table(place, tables, next);
      }
      return next < tables.length;
    };
  }

  /** The part of it that lies in the file: the rest would read as zeroes. */
  #readL1Table(place: L1Place): DataView {
    const { image } = this.#parts;
    const entries = Math.min(place.entries, Math.max(0, divideUp(image.storage.size - place.offset, 8)));
    const l1 = viewOf(image.read(place.offset, entries * 8));
    this.sink.add(place.offset, place.entries * 8, () => place.name);
    this.#entriesDone += place.entries - entries;
    return l1;
  }

  /** Counts the L2 table that the entry names, and adds its place to `hosts` if there is anything to scan. */
  #judgeL1Entry(place: L1Place, index: number, l1: DataView, hosts: number[]): void {
    const { image } = this.#parts;
    const high = l1.getUint32(index * 8);
    const low = l1.getUint32(index * 8 + 4);
    const host = (high & L1_HIGH_MASK) * 0x1_0000_0000 + low - (low & LOW_RESERVED);
    if (host >= image.storage.size) this.#entriesDone++;
    else hosts.push(host);
    const at = place.offset + index * 8;
    const name = () => `entry ${index} of ${place.name}`;
    if ((high & L1_HIGH_RESERVED) !== 0 || (low & LOW_RESERVED) !== 0) {
      this.sink.corruption('l1-entry', at, () => `${name()} has reserved bits set`);
    }
    this.sink.add(host, image.clusterSize, () => `the L2 table of ${name()}`);
    if (host % image.clusterSize !== 0) {
      const message = () => `${name()} names ${hex(host)}, which is no cluster's start`;
      this.sink.corruption('l1-entry', at, message, { fact: 'misaligned-l2-table', host });
    }
  }

  /** Scans the table at `hosts[next]` for all the entries that name it; the index of the table after it. */
  #scanL2Table(place: L1Place, hosts: Float64Array, next: number): number {
    const { image, repair } = this.#parts;
    const host = hosts[next]!;
    let end = next + 1;
    // What the first scan repairs, the others do not find any more.
    const mayRepair = repair === 'all' && hosts[next - 1] !== host;
    if (!mayRepair) while (hosts[end] === host) end++;
    this.#l2.scan({
      bytes: image.read(host, image.clusterSize),
      offset: host,
      active: place.active,
      times: end - next,
    });
    this.#entriesDone += end - next;
    return end;
  }

  #scanOtherTables(): boolean {
    const { image, snapshots, recorded } = this.#parts;
    const { header } = image;
    this.sink.add(header.snapshotsOffset, snapshots.byteLength, () => 'the snapshot table');
    this.sink.add(header.refcountTableOffset, recorded.entries * 8, () => 'the refcount table');
    const encryption = cryptoAreaOf(header);
    if (encryption !== null) this.sink.add(encryption.offset, encryption.length, () => 'the encryption header');
    return false;
  }

  #scanRefcountTable(): boolean {
    const { recorded, image, counts } = this.#parts;
    for (let index = 0; index < recorded.entries; index++) {
      const host = recorded.blockOffset(index);
      if (host === 0 && recorded.reservedBits(index) === 0) continue;
      const flaw = this.#flawOfBlock(index, host);
      if (flaw === null) continue;
      this.mustRebuild = true;
      const cluster = Math.floor(host / image.clusterSize);
      this.sink.avoid.add(cluster, cluster + 2, image.fileClusters);
      const at = image.header.refcountTableOffset + index * 8;
      const facts = { fact: 'refcount-block', index, flaw, counted: counts.get(cluster) } as const;
      const message = () => `entry ${index} of the refcount table ${BLOCK_FLAWS[flaw](hex(host))}`;
      this.sink.corruption('refcount-table', at, message, facts);
    }
    return false;
  }

  /** Counts the block at `host`. What is wrong with the entry that names it, or null. */
  #flawOfBlock(index: number, host: number): BlockFlaw | null {
    const { image, recorded, counts } = this.#parts;
    if (recorded.reservedBits(index) !== 0) return 'reserved-bits';
    if (host % image.clusterSize !== 0) return 'misaligned';
    const cluster = host / image.clusterSize;
    if (cluster >= Math.max(image.fileClusters, counts.end)) return 'outside';
    this.sink.add(host, image.clusterSize, () => `refcount block ${index}`);
    return counts.get(cluster) === 1 ? null : 'shared';
  }
}

const BLOCK_FLAWS: Readonly<Record<BlockFlaw, (place: string) => string>> = {
  'reserved-bits': () => 'has reserved bits set',
  misaligned: (place) => `names ${place}, which is no cluster's start`,
  outside: (place) => `names ${place}, past the end of the file`,
  shared: (place) => `names ${place}, where something else lies as well`,
};
