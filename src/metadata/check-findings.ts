/**
 * Findings: what a check has to say, as numbers and as a list that is cut after `MOST_FINDINGS`, so that an image with a
 * million wrong entries does not fill the memory with words about them.
 */

/** In whose entry something is wrong, or what is wrong with a count. */
export type FindingKind =
  | 'leak'
  | 'refcount'
  | 'refcount-table'
  | 'l1-entry'
  | 'l2-entry'
  | 'past-end'
  | 'copied-flag'
  | 'snapshot-table'
  | 'bitmaps'
  | 'not-checked';

export interface Finding {
  readonly kind: FindingKind;
  /** The place in the image file, in bytes: of the entry that is wrong, or of the cluster that is counted wrong. */
  readonly host: number;
  /** For a person. */
  readonly message: string;
}

/** A longer list helps nobody. */
const MOST_FINDINGS = 1000;

export class Findings {
  readonly list: Finding[] = [];
  /** All that were added, also those past the end of the list. */
  total = 0;

  /** `message` is asked for only while there is room for it. */
  add(kind: FindingKind, host: number, message: () => string): void {
    this.total++;
    if (this.list.length < MOST_FINDINGS) this.list.push({ kind, host, message: message() });
  }
}

/** What is wrong, by severity. A check error is something that could not be looked at. */
export interface Tally {
  corruptions: number;
  leaks: number;
  checkErrors: number;
  corruptionsFixed: number;
  leaksFixed: number;
}

export function emptyTally(): Tally {
  return { corruptions: 0, leaks: 0, checkErrors: 0, corruptionsFixed: 0, leaksFixed: 0 };
}

export function addTally(sum: Tally, more: Readonly<Tally>): void {
  sum.corruptions += more.corruptions;
  sum.leaks += more.leaks;
  sum.checkErrors += more.checkErrors;
  sum.corruptionsFixed += more.corruptionsFixed;
  sum.leaksFixed += more.leaksFixed;
}

/** What may be changed: nothing, refcounts that are too high, or all that can be put right. */
export type Repair = 'none' | 'leaks' | 'all';

/** A part of a check. Numbers of different parts are in units of their own. */
export interface CheckPhase {
  readonly what: string;
  readonly done: number;
  readonly total: number;
  /**
   * Does a bounded piece of work; false when there was none left. What throws `NotResident` can be called again and goes on
   * where it was.
   */
  step(): boolean;
}
