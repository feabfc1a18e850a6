/**
 * Findings: what a check has to say, as numbers and as a list that is cut after `MOST_FINDINGS`, so that an image with a
 * million wrong entries does not fill the memory with words about them.
 */

import type { SnapshotTableFlaw } from './listed-snapshots.js';

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
  /** The same as numbers, for whoever has words of their own. */
  readonly facts?: FindingFacts;
}

/** Entries are as the file has them; `recorded` and `counted` are refcounts, as a bigint above 2^53 - 1. */
export type FindingFacts =
  | { readonly fact: 'refcount'; readonly cluster: number; readonly recorded: Refcount; readonly counted: number }
  | { readonly fact: 'overflow'; readonly host: number }
  | { readonly fact: 'past-end'; readonly host: number; readonly length: number }
  | { readonly fact: 'copied-l1'; readonly index: number; readonly entry: bigint; readonly refcount: Refcount }
  | { readonly fact: 'copied-l2'; readonly entry: bigint; readonly refcount: Refcount }
  | { readonly fact: 'misaligned-l2-table'; readonly host: number }
  | { readonly fact: 'misaligned-cluster'; readonly host: number; readonly holdsData: boolean }
  | { readonly fact: 'refcount-block'; readonly index: number; readonly flaw: BlockFlaw; readonly counted: number }
  | { readonly fact: 'snapshot-l1'; readonly label: string; readonly flaw: 'offset' | 'size'; readonly value: number }
  | { readonly fact: 'snapshot-extra'; readonly index: number; readonly bytes: number; readonly limit: number }
  | { readonly fact: 'snapshot-incomplete'; readonly index: number }
  | { readonly fact: 'snapshots-beyond'; readonly count: number; readonly tooMany: boolean }
  | ({ readonly fact: 'snapshots-unread' } & SnapshotTableFlaw);

type Refcount = number | bigint;

/** What is wrong with an entry of the refcount table: `shared` if its block has another reference. */
export type BlockFlaw = 'reserved-bits' | 'misaligned' | 'outside' | 'shared';

/** What a check does with a finding. `rebuild`: it is about to build the whole refcount structure anew. */
export type CheckEvent =
  { readonly event: 'found' | 'repaired'; readonly finding: Finding } | { readonly event: 'rebuild' };

/** Told of everything that is found and repaired, in that order and without limit. Must not throw. */
export type CheckListener = (event: CheckEvent) => void;

/** A longer list helps nobody. */
const MOST_FINDINGS = 1000;

export class Findings {
  readonly list: Finding[] = [];
  /** All that were added, also those past the end of the list. */
  total = 0;
  readonly #listener: CheckListener | undefined;

  constructor(listener?: CheckListener) {
    this.#listener = listener;
  }

  /** `message` is asked for only where there is room for it, or somebody listens. */
  add(kind: FindingKind, host: number, message: () => string, facts?: FindingFacts): void {
    this.#add('found', { kind, host, message, facts });
  }

  /** The same for what is put right as soon as it is found. */
  addRepaired(kind: FindingKind, host: number, message: () => string, facts?: FindingFacts): void {
    this.#add('repaired', { kind, host, message, facts });
  }

  /** What has been added before, for the listener alone. */
  tell(event: 'found' | 'repaired', finding: NewFinding): void {
    this.#listener?.({ event, finding: worded(finding) });
  }

  #add(event: 'found' | 'repaired', finding: NewFinding): void {
    this.total++;
    const hasRoom = this.list.length < MOST_FINDINGS;
    if (!hasRoom && this.#listener === undefined) return;
    const listed = worded(finding);
    if (hasRoom) this.list.push(listed);
    this.#listener?.({ event, finding: listed });
  }

  tellOfRebuild(): void {
    this.#listener?.({ event: 'rebuild' });
  }
}

/** A finding whose message is not put together yet. */
export interface NewFinding {
  readonly kind: FindingKind;
  readonly host: number;
  readonly message: () => string;
  readonly facts: FindingFacts | undefined;
}

function worded({ kind, host, message, facts }: NewFinding): Finding {
  return { kind, host, message: message(), ...(facts === undefined ? {} : { facts }) };
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
