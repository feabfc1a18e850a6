/**
 * COPIED flags: checks, and repairs, that the flag is set exactly where the recorded refcount is one, in the active L1 table
 * and its L2 tables (spec, "L1 table entry", "L2 table entry"; invariant 5 of `write-order.ts`).
 *
 * The refcounts must be stable before the first flag is changed. Each entry becomes exact by itself, so entries may reach
 * the file in any order: one that lacks the flag only makes the next write copy.
 */
import { HIGH_COMPRESSED, HIGH_COPIED, LOW_ZERO, l2EntryHost } from '../format/l2-entry.js';
import { SECTOR_BYTES } from '../format/limits.js';
import { viewOf } from '../util/big-endian.js';
import { hex } from '../util/integers.js';
import { emptyTally, type CheckPhase, type FindingFacts, type Findings } from './check-findings.js';
import type { ImageUnderCheck } from './image-under-check.js';
import type { MetadataPlaces } from './metadata-places.js';
import { L1_HIGH_MASK } from './offset-table.js';
import type { RecordedRefcounts } from './recorded-refcounts.js';
import type { ReferenceCounts } from './reference-counts.js';

const LOW_RESERVED = 0x1ff;
/** Bytes of L2 tables read in one step, at least one table. */
const STEP_BYTES = 1024 * 1024;

export interface CopiedFlagsParts {
  readonly image: ImageUnderCheck;
  /** What is recorded for each cluster, as `RefcountCompare` left it. */
  readonly counts: ReferenceCounts;
  readonly recorded: RecordedRefcounts;
  readonly places: MetadataPlaces;
  readonly findings: Findings;
  readonly repair: boolean;
}

/** An L2 entry with the wrong flag: its byte in the table, the entry, and the refcount of what it names, also as it is shown. */
interface Flaw {
  readonly at: number;
  readonly entry: bigint;
  readonly refcount: number;
  readonly shown: number | bigint;
}

export class CopiedFlags implements CheckPhase {
  readonly what = 'checking COPIED flags';
  readonly tally = emptyTally();
  readonly #parts: CopiedFlagsParts;
  readonly #countedEnd: number;
  #l1: DataView | null = null;
  #index = 0;

  constructor(parts: CopiedFlagsParts) {
    this.#parts = parts;
    this.#countedEnd = Math.max(parts.image.fileClusters, parts.counts.end);
  }

  get done(): number {
    return this.#index;
  }

  /** In entries of the L1 table. */
  get total(): number {
    return this.#parts.image.header.l1Entries;
  }

  step(): boolean {
    const { image } = this.#parts;
    const { l1Offset, l1Entries } = image.header;
    this.#l1 ??= viewOf(image.read(l1Offset, l1Entries * 8));
    if (this.#index >= l1Entries) return false;
    for (let budget = STEP_BYTES; this.#index < l1Entries && budget > 0; this.#index++) {
      if (this.#checkL1Entry(this.#l1, this.#index)) budget -= image.clusterSize;
    }
    return true;
  }

  /** True when it names a table. Reads all that it needs before it reports or changes anything. */
  #checkL1Entry(l1: DataView, index: number): boolean {
    const { image, repair } = this.#parts;
    const high = l1.getUint32(index * 8);
    const low = l1.getUint32(index * 8 + 4);
    const host = (high & L1_HIGH_MASK) * 0x1_0000_0000 + low - (low & LOW_RESERVED);
    if (host === 0) return false;
    const refcount = this.#refcountOf(host);
    // That it is unreadable has been reported.
    if (refcount === null) return true;
    const table = image.read(host, image.clusterSize);
    const flaws = this.#flawsOf(viewOf(table));
    const wanted = flagged(high, refcount);
    if (wanted !== high) {
      const shown = this.#exact(host, refcount);
      const facts = { fact: 'copied-l1', index, entry: l1.getBigUint64(index * 8), refcount: shown } as const;
      this.#report(image.header.l1Offset + index * 8, `entry ${index} of the L1 table`, facts);
      if (repair) {
        l1.setUint32(index * 8, wanted);
        this.#writeL1Sector(l1, index);
        this.#fixed(1);
      }
    }
    for (const { at, entry, shown } of flaws) {
      this.#report(host + at, 'the L2 entry', { fact: 'copied-l2', entry, refcount: shown });
    }
    if (repair && flaws.length > 0) this.#repairTable(table, host, flaws);
    return true;
  }

  #flawsOf(table: DataView): Flaw[] {
    const { image } = this.#parts;
    const { l2EntryBytes } = image.geometry;
    const flaws: Flaw[] = [];
    for (let at = 0; at < table.byteLength; at += l2EntryBytes) {
      const high = table.getUint32(at);
      const low = table.getUint32(at + 4);
      if ((high === 0 && low === 0) || (high & HIGH_COMPRESSED) !== 0) continue;
      const data = l2EntryHost(low, high);
      // A data file may have a cluster at offset 0; its flag is what says so.
      const zero = l2EntryBytes === 8 && (low & LOW_ZERO) !== 0;
      if (data === 0 && (zero || !image.hasDataFile || (high & HIGH_COPIED) === 0)) continue;
      const refcount = image.hasDataFile ? 1 : this.#refcountOf(data);
      if (refcount === null || flagged(high, refcount) === high) continue;
      flaws.push({ at, entry: table.getBigUint64(at), refcount, shown: this.#exact(data, refcount) });
    }
    return flaws;
  }

  #repairTable(table: Uint8Array, host: number, flaws: readonly Flaw[]): void {
    const { image, places, findings } = this.#parts;
    const owner = places.ownerOf(host);
    if (owner !== null) {
      this.tally.checkErrors++;
      const message = () => `the L2 table at ${hex(host)} is not repaired: it lies in ${owner}`;
      findings.add('not-checked', host, message);
      return;
    }
    const view = viewOf(table);
    for (const { at, refcount } of flaws) view.setUint32(at, flagged(view.getUint32(at), refcount));
    image.write(host, table);
    this.#fixed(flaws.length);
  }

  #writeL1Sector(l1: DataView, index: number): void {
    const { image } = this.#parts;
    const start = index * 8 - ((index * 8) % SECTOR_BYTES);
    const length = Math.min(SECTOR_BYTES, l1.byteLength - start);
    image.write(image.header.l1Offset + start, new Uint8Array(l1.buffer, l1.byteOffset + start, length));
  }

  #refcountOf(host: number): number | null {
    const { counts, recorded, image } = this.#parts;
    const cluster = Math.floor(host / image.clusterSize);
    if (cluster >= this.#countedEnd) return recorded.get(cluster);
    if (recorded.anyUnreadable) {
      const block = Math.floor(cluster / image.geometry.refcountBlockEntries);
      if (recorded.isUnreadable(block)) return null;
    }
    return counts.get(cluster);
  }

  /** A refcount that has been read, as it is shown: a large one is read again. */
  #exact(host: number, refcount: number): number | bigint {
    if (Number.isSafeInteger(refcount)) return refcount;
    const { recorded, image } = this.#parts;
    return recorded.exact(Math.floor(host / image.clusterSize)) ?? refcount;
  }

  #report(at: number, what: string, facts: FindingFacts & { readonly refcount: number | bigint }): void {
    this.tally.corruptions++;
    const { findings, repair } = this.#parts;
    const message = () => `${what} at ${hex(at)} has the wrong COPIED flag: the refcount is ${facts.refcount}`;
    if (repair) findings.addRepaired('copied-flag', at, message, facts);
    else findings.add('copied-flag', at, message, facts);
  }

  #fixed(count: number): void {
    this.tally.corruptions -= count;
    this.tally.corruptionsFixed += count;
  }
}

/** The high word with the flag that belongs to a refcount. */
function flagged(high: number, refcount: number): number {
  return (refcount === 1 ? high | HIGH_COPIED : high & ~HIGH_COPIED) >>> 0;
}
