/**
 * Snapshot table check: what a check has to say of the snapshot table itself, and the first part of its repair: entries past
 * a limit are dropped, by a lower count in the header, before anything is counted. What they led to is a leak from then on,
 * which the comparison of refcounts finds, and a crash leaves that leak.
 *
 * Entries that are to be cut or filled up need a new table, and so refcounts that are right: `snapshot-table-repair.ts`.
 */
import { MAX_SNAPSHOT_EXTRA_BYTES, MAX_SNAPSHOT_TABLE_BYTES, MAX_SNAPSHOTS } from '../format/limits.js';
import { hex } from '../util/integers.js';
import { emptyTally, type CheckPhase, type FindingFacts, type Findings, type Tally } from './check-findings.js';
import type { ImageUnderCheck } from './image-under-check.js';
import {
  DEMANDED_EXTRA_BYTES,
  readSnapshotList,
  type ListedSnapshot,
  type SnapshotList,
  type SnapshotTableFlaw,
} from './listed-snapshots.js';

export interface SnapshotTableCheckParts {
  readonly image: ImageUnderCheck;
  readonly findings: Findings;
  readonly repair: boolean;
}

export class SnapshotTableCheck implements CheckPhase {
  readonly what = 'dropping snapshots past the limits';
  readonly total = 1;
  done = 0;
  readonly list: SnapshotList;
  /** `corruptions` are those that a new table would mend. */
  readonly tally: Tally = emptyTally();
  readonly #parts: SnapshotTableCheckParts;

  /** Reads the table and reports on it. Throws what reading throws; changes nothing. */
  constructor(parts: SnapshotTableCheckParts) {
    this.#parts = parts;
    this.list = readSnapshotList(parts.image, parts);
    if (this.list.flaw === null) this.#reportEntries();
    else this.#reportFlaw(this.list.flaw);
  }

  step(): boolean {
    if (this.done === 1) return false;
    const { image } = this.#parts;
    const { entries, tooMany, beyond } = this.list;
    const dropped = tooMany + beyond;
    if (dropped > 0) {
      image.setSnapshotTable(image.header.snapshotsOffset, entries.length);
      image.flush();
    }
    this.tally.corruptionsFixed += dropped;
    this.done = 1;
    return true;
  }

  #reportFlaw(flaw: SnapshotTableFlaw): void {
    this.tally.checkErrors++;
    const { image, findings } = this.#parts;
    const at = image.header.snapshotsOffset;
    findings.add('snapshot-table', at, () => wordsOf(flaw, at), { fact: 'snapshots-unread', ...flaw });
  }

  /** In the order in which they are met. */
  #reportEntries(): void {
    const { image } = this.#parts;
    const { entries, tooMany, beyond } = this.list;
    const at = image.header.snapshotsOffset;
    if (tooMany > 0) {
      const message = () => `${tooMany} snapshots are more than the limit of ${MAX_SNAPSHOTS}`;
      this.#report(at, message, { fact: 'snapshots-beyond', count: tooMany, tooMany: true });
    }
    entries.forEach((entry, index) => this.#reportOverlong(entry, index));
    if (beyond > 0) {
      const message = () => `${beyond} snapshots lie past ${MAX_SNAPSHOT_TABLE_BYTES} bytes of their table`;
      this.#report(at, message, { fact: 'snapshots-beyond', count: beyond, tooMany: false });
    }
    if (image.header.version === 3) entries.forEach((entry, index) => this.#reportIncomplete(entry, index));
  }

  #reportOverlong({ at, label, extraBytes: bytes }: ListedSnapshot, index: number): void {
    const limit = MAX_SNAPSHOT_EXTRA_BYTES;
    if (bytes <= limit) return;
    this.tally.corruptions++;
    const message = () => `snapshot ${label} has ${bytes} bytes of extra data; the limit is ${limit}`;
    this.#report(at, message, { fact: 'snapshot-extra', index, bytes, limit });
  }

  #reportIncomplete({ at, label, extraBytes }: ListedSnapshot, index: number): void {
    if (extraBytes >= DEMANDED_EXTRA_BYTES) return;
    this.tally.corruptions++;
    const message = () => `snapshot ${label} lacks the extra data that version 3 demands`;
    this.#report(at, message, { fact: 'snapshot-incomplete', index });
  }

  #report(at: number, message: () => string, facts: FindingFacts): void {
    const { findings, repair } = this.#parts;
    if (repair) findings.addRepaired('snapshot-table', at, message, facts);
    else findings.add('snapshot-table', at, message, facts);
  }
}

function wordsOf(flaw: SnapshotTableFlaw, at: number): string {
  switch (flaw.flaw) {
    case 'place':
      return `the snapshot table is at ${hex(at)}, not at a cluster's start`;
    case 'too-many':
      return `${flaw.beyond} snapshots are more than the limit of ${MAX_SNAPSHOTS}`;
    case 'extra-data': {
      const limit = `the limit is ${MAX_SNAPSHOT_EXTRA_BYTES}`;
      return `entry ${flaw.index} of the snapshot table has ${flaw.bytes} bytes of extra data; ${limit}`;
    }
    case 'too-long':
      return `${flaw.beyond} snapshots lie past ${MAX_SNAPSHOT_TABLE_BYTES} bytes of their table`;
  }
}
