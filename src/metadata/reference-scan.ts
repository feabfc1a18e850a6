/**
 * Reference scan: walks everything that the header leads to and counts how often each host cluster is named (spec, "Host
 * cluster management"): the header, the active L1 table and those of the snapshots with their L2 tables and clusters, the
 * snapshot table, the refcount table and its blocks, the encryption header, the bitmaps.
 *
 * Memory: one L1 table (32 MiB at most), one L2 table, the counts. Nothing is trusted: what is wrong is a finding, and what
 * lies outside the file is not counted. It changes nothing but the entries that `l2-scan.ts` may repair.
 */
import { EXTENSION_ENCRYPTION, findExtension } from '../format/header-extensions.js';
import { MAX_L1_BYTES } from '../format/limits.js';
import { viewOf } from '../util/big-endian.js';
import { hex } from '../util/integers.js';
import { BitmapScan } from './bitmap-scan.js';
import type { CheckPhase, Findings, Repair } from './check-findings.js';
import type { ImageUnderCheck } from './image-under-check.js';
import { L2Scan, type ClusterStatistics } from './l2-scan.js';
import { L1_HIGH_MASK } from './offset-table.js';
import { MetadataPlaces } from './metadata-places.js';
import type { RecordedRefcounts } from './recorded-refcounts.js';
import type { ReferenceCounts } from './reference-counts.js';
import { ReferenceSink } from './reference-sink.js';
import type { ListedSnapshot, SnapshotList } from './listed-snapshots.js';

const LUKS = 2;
const L1_HIGH_RESERVED = 0x7f00_0000;
const LOW_RESERVED = 0x1ff;
/** Bytes of L2 tables read in one step, at least one table. */
const STEP_BYTES = 1024 * 1024;

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
  readonly sink: ReferenceSink;
  readonly statistics: ClusterStatistics = { allocatedClusters: 0, fragmentedClusters: 0, compressedClusters: 0 };
  /** The refcount table can't stay as it is: some entry names no block, or not a block's own cluster. */
  mustRebuild = false;
  readonly #parts: ReferenceScanParts;
  readonly #l2: L2Scan;
  readonly #tasks: readonly Task[];
  #task = 0;
  #entriesDone = 0;

  constructor(parts: ReferenceScanParts) {
    const { image, counts, recorded, snapshots, findings, repair } = parts;
    this.#parts = parts;
    this.sink = new ReferenceSink(image, counts, findings);
    const places = new MetadataPlaces(image, recorded, snapshots);
    this.#l2 = new L2Scan({ image, sink: this.sink, places, repair, statistics: this.statistics });
    const { l1Offset, l1Entries } = image.header;
    const bitmaps = new BitmapScan(image, this.sink);
    this.#tasks = [
      () => this.#scanHeader(),
      this.#l1Task({ name: 'the L1 table', offset: l1Offset, entries: l1Entries, active: true }),
      ...snapshots.entries.map((snapshot) => this.#snapshotTask(snapshot)),
      () => this.#scanOtherTables(),
      () => bitmaps.step(),
      () => this.#scanRefcountTable(),
    ];
  }

  /** In entries of L1 tables. */
  get done(): number {
    return this.#entriesDone;
  }

  get total(): number {
    const { image, snapshots } = this.#parts;
    return snapshots.entries.reduce((sum, snapshot) => sum + snapshot.l1Entries, image.header.l1Entries);
  }

  step(): boolean {
    const task = this.#tasks[this.#task];
    if (task === undefined) return false;
    if (!task()) this.#task++;
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
      this.sink.corruption('snapshot-table', at, () => `${name} ${what}`);
      return false;
    };
  }

  /** First the table itself, then some of its L2 tables a time. */
  #l1Task(place: L1Place): Task {
    let l1: DataView | null = null;
    let index = 0;
    return () => {
      if (l1 === null) {
        l1 = viewOf(this.#parts.image.read(place.offset, place.entries * 8));
        this.sink.add(place.offset, place.entries * 8, () => place.name);
      }
      let budget = STEP_BYTES;
      for (; index < place.entries && budget > 0; index++, this.#entriesDone++) {
        const high = l1.getUint32(index * 8);
        const low = l1.getUint32(index * 8 + 4);
        if (high === 0 && low === 0) continue;
        this.#scanL2Table(place, index, high, low);
        budget -= this.#parts.image.clusterSize;
      }
      return index < place.entries;
    };
  }

  #scanL2Table(place: L1Place, index: number, high: number, low: number): void {
    const { image } = this.#parts;
    const host = (high & L1_HIGH_MASK) * 0x1_0000_0000 + low - (low & LOW_RESERVED);
    const table = image.read(host, image.clusterSize);
    const at = place.offset + index * 8;
    const name = () => `entry ${index} of ${place.name}`;
    if ((high & L1_HIGH_RESERVED) !== 0 || (low & LOW_RESERVED) !== 0) {
      this.sink.corruption('l1-entry', at, () => `${name()} has reserved bits set`);
    }
    this.sink.add(host, image.clusterSize, () => `the L2 table of ${name()}`);
    if (host % image.clusterSize !== 0) {
      this.sink.corruption('l1-entry', at, () => `${name()} names ${hex(host)}, which is no cluster's start`);
    }
    this.#l2.scan(table, host, place.active);
  }

  #scanOtherTables(): boolean {
    const { image, snapshots, recorded } = this.#parts;
    const { header } = image;
    this.sink.add(header.snapshotsOffset, snapshots.byteLength, () => 'the snapshot table');
    this.sink.add(header.refcountTableOffset, recorded.entries * 8, () => 'the refcount table');
    const encryption = findExtension(header.extensions, EXTENSION_ENCRYPTION);
    if (header.cryptMethod === LUKS && encryption !== undefined && encryption.data.length >= 16) {
      const view = viewOf(encryption.data);
      const word = (at: number) => view.getUint32(at) * 0x1_0000_0000 + view.getUint32(at + 4);
      this.sink.add(word(0), word(8), () => 'the encryption header');
    }
    return false;
  }

  #scanRefcountTable(): boolean {
    const { recorded, image } = this.#parts;
    for (let index = 0; index < recorded.entries; index++) {
      const host = recorded.blockOffset(index);
      if (host === 0 && recorded.reservedBits(index) === 0) continue;
      const flaw = this.#flawOfBlock(index, host);
      if (flaw === null) continue;
      this.mustRebuild = true;
      const cluster = Math.floor(host / image.clusterSize);
      this.sink.avoid.add(cluster, cluster + 2, image.fileClusters);
      const at = image.header.refcountTableOffset + index * 8;
      this.sink.corruption('refcount-table', at, () => `entry ${index} of the refcount table ${flaw}`);
    }
    return false;
  }

  /** Counts the block at `host`. What is wrong with the entry that names it, or null. */
  #flawOfBlock(index: number, host: number): string | null {
    const { image, recorded, counts } = this.#parts;
    if (recorded.reservedBits(index) !== 0) return 'has reserved bits set';
    if (host % image.clusterSize !== 0) return `names ${hex(host)}, which is no cluster's start`;
    const cluster = host / image.clusterSize;
    if (cluster >= Math.max(image.fileClusters, counts.end)) return `names ${hex(host)}, past the end of the file`;
    this.sink.add(host, image.clusterSize, () => `refcount block ${index}`);
    return counts.get(cluster) === 1 ? null : `names ${hex(host)}, where something else lies as well`;
  }
}
