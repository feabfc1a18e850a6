/**
 * Image check: one pass over an image, its parts in order, with what may be repaired repaired.
 *
 *   snapshot table read, and cut where it is too long -> references counted -> refcounts compared
 *     -> refcounts repaired, or the whole structure built anew and references counted again
 *     -> COPIED flags -> snapshot table written anew -> dirty and corrupt bit cleared
 *
 * Refcounts are stable before a COPIED flag is changed, and everything is before the bits are cleared. Whatever is cut off,
 * the image is no worse than before, and the check can be run again.
 *
 * The image must not be changed by anybody else between two steps.
 */
import {
  addTally,
  emptyTally,
  Findings,
  type CheckListener,
  type CheckPhase,
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
import { SnapshotTableCheck } from './snapshot-table-check.js';
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
  readonly #snapshotTable: SnapshotTableCheck;
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
    this.#snapshotTable = new SnapshotTableCheck({ image, findings: this.findings, repair: repair === 'all' });
    this.#next = () => this.#scan(repair);
    // What snapshots lead to is not known without their table: nothing can be counted, let alone repaired.
    const readable = this.#snapshotTable.list.flaw === null;
    if (!readable) addTally(this.tally, this.#snapshotTable.tally);
    this.#phase = readable ? this.#snapshotTable : null;
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

  #scan(repair: Repair): ReferenceScan {
    const { findings } = this;
    const [image, counts, recorded, snapshots] = [this.#image, this.#counts, this.#recorded, this.#snapshotTable.list];
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
    addTally(this.tally, this.#snapshotTable.tally);
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
    const [image, counts, recorded, snapshots] = [this.#image, this.#counts, this.#recorded, this.#snapshotTable.list];
    const places = new MetadataPlaces(image, recorded, snapshots);
    // With leaks alone repaired, counts are to be trusted only if nothing else is wrong.
    const sound = tally.checkErrors + tally.corruptions + tally.leaks === 0;
    const repair = this.#repair === 'all' || (this.#repair === 'leaks' && sound);
    const copied = new CopiedFlags({ image, counts, recorded, places, findings, repair });
    this.#next = () => {
      addTally(tally, copied.tally);
      return this.#repairSnapshots(scan);
    };
    return copied;
  }

  #repairSnapshots(scan: ReferenceScan): CheckPhase | null {
    const { list: snapshots, tally } = this.#snapshotTable;
    if (tally.corruptions === 0 || this.#repair !== 'all') return this.#finish();
    const [image, counts, recorded] = [this.#image, this.#counts, this.#recorded];
    const repair = new SnapshotTableRepair({ image, snapshots, counts, recorded, avoid: scan.sink.avoid });
    this.#next = () => {
      tally.corruptionsFixed += tally.corruptions;
      tally.corruptions = 0;
      return this.#finish();
    };
    return repair;
  }

  #finish(): null {
    addTally(this.tally, this.#snapshotTable.tally);
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
