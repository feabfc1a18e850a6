/**
 * Image check: one pass over an image, its parts in order, with what may be repaired repaired.
 *
 *   snapshot table read -> references counted -> refcounts compared
 *     -> refcounts repaired, or the whole structure built anew and references counted again
 *     -> COPIED flags -> snapshot table written anew -> dirty and corrupt bit cleared
 *
 * Refcounts are stable before a COPIED flag is changed, and everything is before the bits are cleared. Whatever is cut off,
 * the image is no worse than before, and the check can be run again.
 *
 * The image must not be changed by anybody else between two steps.
 */
import { MAX_SNAPSHOT_EXTRA_BYTES, MAX_SNAPSHOT_TABLE_BYTES } from '../format/limits.js';
import {
  addTally,
  emptyTally,
  Findings,
  type CheckListener,
  type CheckPhase,
  type FindingFacts,
  type Repair,
  type Tally,
} from './check-findings.js';
import { CopiedFlags } from './copied-flags.js';
import type { ImageUnderCheck } from './image-under-check.js';
import type { ClusterStatistics } from './l2-scan.js';
import { MetadataPlaces } from './metadata-places.js';
import { RecordedRefcounts } from './recorded-refcounts.js';
import { RefcountCompare } from './refcount-compare.js';
import { RefcountRebuild } from './refcount-rebuild.js';
import { ReferenceCounts } from './reference-counts.js';
import { ReferenceScan } from './reference-scan.js';
import { DEMANDED_EXTRA_BYTES, readSnapshotList, type SnapshotList } from './listed-snapshots.js';
import { SnapshotTableRepair } from './snapshot-table-repair.js';

export interface ImageCheckOptions {
  readonly repair: Repair;
  readonly listener?: CheckListener | undefined;
  /** See `refcount-compare.ts`. Default false. */
  readonly rebuildMissing?: boolean | undefined;
}

export class ImageCheck {
  /** Complete when `step` has returned false. */
  readonly tally: Tally = emptyTally();
  readonly findings: Findings;
  /** Bytes of the file up to the end of the last cluster in use. */
  imageEnd = 0;
  readonly #image: ImageUnderCheck;
  readonly #repair: Repair;
  readonly #rebuildMissing: boolean;
  readonly #counts: ReferenceCounts;
  readonly #recorded: RecordedRefcounts;
  readonly #snapshots: SnapshotList;
  readonly #snapshotTally = emptyTally();
  #statistics: ClusterStatistics = { allocatedClusters: 0, fragmentedClusters: 0, compressedClusters: 0 };
  #phase: CheckPhase | null;
  /** Starts the part after the current one; null ends the pass. */
  #next: () => CheckPhase | null;

  /** Reads the refcount table and the snapshot table. Throws what reading throws; nothing is changed before `step`. */
  constructor(image: ImageUnderCheck, { repair, listener, rebuildMissing = false }: ImageCheckOptions) {
    this.#image = image;
    this.#repair = repair;
    this.#rebuildMissing = rebuildMissing;
    this.findings = new Findings(listener);
    this.#counts = new ReferenceCounts(image.geometry.maxRefcount);
    this.#recorded = new RecordedRefcounts(image);
    this.#snapshots = readSnapshotList(image);
    this.#next = () => null;
    this.#phase = this.#judgeSnapshotTable() ? this.#scan(repair) : null;
  }

  get statistics(): Readonly<ClusterStatistics> {
    return this.#statistics;
  }

  /** The part under way; null when all is done. */
  get phase(): CheckPhase | null {
    return this.#phase;
  }

  /** A bounded piece of work; false when there was none left. May be asked again after `NotResident`. */
  step(): boolean {
    if (this.#phase === null) return false;
    if (!this.#phase.step()) this.#phase = this.#next();
    return true;
  }

  /** False when the table can't be used and must not be repaired, which ends the check. */
  #judgeSnapshotTable(): boolean {
    const { overlong, beyond, incomplete } = this.#snapshots;
    const tooLong = overlong + beyond;
    this.#reportSnapshots();
    if (tooLong > 0 && this.#repair !== 'all') {
      this.tally.checkErrors++;
      return false;
    }
    this.#snapshotTally.corruptions = tooLong + incomplete;
    return true;
  }

  #reportSnapshots(): void {
    const { header } = this.#image;
    const { entries, beyond } = this.#snapshots;
    const report = (at: number, message: () => string, facts: FindingFacts): void => {
      if (this.#repair === 'all') this.findings.addRepaired('snapshot-table', at, message, facts);
      else this.findings.add('snapshot-table', at, message, facts);
    };
    entries.forEach(({ at, label, extraBytes: bytes }, index) => {
      const limit = MAX_SNAPSHOT_EXTRA_BYTES;
      if (bytes > limit) {
        const message = () => `snapshot ${label} has ${bytes} bytes of extra data; the limit is ${limit}`;
        report(at, message, { fact: 'snapshot-extra', index, bytes, limit });
      } else if (header.version === 3 && bytes < DEMANDED_EXTRA_BYTES) {
        const message = () => `snapshot ${label} lacks the extra data that version 3 demands`;
        report(at, message, { fact: 'snapshot-incomplete', index });
      }
    });
    if (beyond === 0) return;
    const message = () => `${beyond} snapshots lie past ${MAX_SNAPSHOT_TABLE_BYTES} bytes of their table`;
    report(header.snapshotsOffset, message, { fact: 'snapshots-beyond', count: beyond, tooMany: false });
  }

  #scan(repair: Repair): ReferenceScan {
    const { findings } = this;
    const [image, counts, recorded, snapshots] = [this.#image, this.#counts, this.#recorded, this.#snapshots];
    const scan = new ReferenceScan({ image, counts, recorded, snapshots, findings, repair });
    this.#next = () => this.#compare(scan);
    return scan;
  }

  #compare(scan: ReferenceScan): CheckPhase {
    this.#statistics = scan.statistics;
    const compare = new RefcountCompare(this.#compareParts(), null);
    this.#next = () => {
      const mustRebuild = scan.mustRebuild || compare.mustRebuild;
      if (scan.sink.tally.checkErrors > 0) return this.#giveUp(scan, compare);
      if (mustRebuild && this.#repair === 'all') return this.#rebuild(scan, compare);
      addTally(this.tally, scan.sink.tally);
      if ((mustRebuild || compare.hasMissing) && this.#repair === 'leaks') return this.#refuseLeaks(compare);
      const { leaks, corruptions, checkErrors } = compare.tally;
      if (leaks > 0 || corruptions > 0) return this.#settle(scan);
      this.tally.checkErrors += checkErrors;
      this.#setEnd(compare);
      return this.#copied(scan);
    };
    return compare;
  }

  /** What could not be looked at may name any cluster: no count is changed. */
  #giveUp(scan: ReferenceScan, compare: RefcountCompare): null {
    addTally(this.tally, scan.sink.tally);
    addTally(this.tally, compare.tally);
    this.#setEnd(compare);
    return null;
  }

  /** With counts missing or misplaced, lowering others alone would be guesswork. */
  #refuseLeaks(compare: RefcountCompare): null {
    addTally(this.tally, compare.tally);
    this.tally.checkErrors++;
    const at = this.#image.header.refcountTableOffset;
    this.findings.add('not-checked', at, () => 'clusters in use are recorded as free; leaks are not repaired alone');
    this.#setEnd(compare);
    return null;
  }

  #settle(scan: ReferenceScan): CheckPhase {
    const settle = new RefcountCompare(this.#compareParts(), { repair: this.#repair });
    this.#next = () => {
      addTally(this.tally, settle.tally);
      this.#setEnd(settle);
      if (this.#repair !== 'none') this.#image.flush();
      return this.#copied(scan);
    };
    return settle;
  }

  /** A new structure; then everything is counted again, and the old structure, a leak now, is freed. */
  #rebuild(first: ReferenceScan, found: RefcountCompare): CheckPhase {
    this.findings.tellOfRebuild();
    const rebuild = new RefcountRebuild({ image: this.#image, counts: this.#counts, avoid: first.sink.avoid });
    this.#next = () => {
      this.#recorded.reload();
      this.#counts.clear();
      const scan = this.#scan('none');
      this.#next = () => this.#settleRebuilt(scan, first, found);
      return scan;
    };
    return rebuild;
  }

  /** What was wrong before and is not now has been repaired by the rebuild. */
  #settleRebuilt(scan: ReferenceScan, first: ReferenceScan, found: RefcountCompare): CheckPhase {
    const before = emptyTally();
    addTally(before, first.sink.tally);
    addTally(before, found.tally);
    const { corruptions } = scan.sink.tally;
    const gone = Math.max(0, before.corruptions - corruptions);
    this.#statistics = scan.statistics;
    const settle = new RefcountCompare(this.#compareParts(), { repair: 'all' });
    this.#next = () => {
      addTally(this.tally, scan.sink.tally);
      addTally(this.tally, settle.tally);
      this.tally.corruptionsFixed += before.corruptionsFixed + gone;
      // The leaks that the rebuild itself made are nobody's concern.
      this.tally.leaksFixed = before.leaks;
      this.#setEnd(settle);
      this.#image.flush();
      return this.#copied(scan);
    };
    return settle;
  }

  #copied(scan: ReferenceScan): CheckPhase {
    const { findings, tally } = this;
    const [image, counts, recorded, snapshots] = [this.#image, this.#counts, this.#recorded, this.#snapshots];
    const places = new MetadataPlaces(image, recorded, snapshots);
    // With leaks alone repaired, counts are to be trusted only if nothing else is wrong.
    const sound = tally.checkErrors + tally.corruptions + tally.leaks === 0;
    const repair = this.#repair === 'all' || (this.#repair === 'leaks' && sound);
    const copied = new CopiedFlags({ image, counts, recorded, places, findings, repair });
    this.#next = () => {
      addTally(tally, copied.tally);
      return this.#snapshotTable(scan);
    };
    return copied;
  }

  #snapshotTable(scan: ReferenceScan): CheckPhase | null {
    if (this.#snapshotTally.corruptions === 0 || this.#repair !== 'all') return this.#finish();
    const [image, snapshots, counts, recorded] = [this.#image, this.#snapshots, this.#counts, this.#recorded];
    const repair = new SnapshotTableRepair({ image, snapshots, counts, recorded, avoid: scan.sink.avoid });
    this.#next = () => {
      this.#snapshotTally.corruptionsFixed = this.#snapshotTally.corruptions;
      this.#snapshotTally.corruptions = 0;
      return this.#finish();
    };
    return repair;
  }

  #finish(): null {
    addTally(this.tally, this.#snapshotTally);
    if (this.#repair === 'none') return null;
    this.#image.flush();
    if (this.tally.checkErrors + this.tally.corruptions === 0) this.#image.markConsistent();
    return null;
  }

  #compareParts() {
    const rebuildMissing = this.#rebuildMissing;
    return {
      image: this.#image,
      counts: this.#counts,
      recorded: this.#recorded,
      findings: this.findings,
      rebuildMissing,
    };
  }

  #setEnd(compare: RefcountCompare): void {
    this.imageEnd = (compare.highest + 1) * this.#image.clusterSize;
  }
}
