/**
 * Refcount compare: recorded refcounts against references counted, cluster by cluster up to the end of the file.
 *
 * - recorded > counted: a leak; the cluster is lost until it is repaired, nothing else
 * - recorded < counted: a corruption; the cluster would be handed out, or overwritten, while something names it
 * - recorded 0 although something is counted: the same, but leaks must not be repaired alone then, as in QEMU: what seems
 *   leaked may be what is missing elsewhere
 *
 * Where there is no block for clusters that are named, the structure must be built anew. (QEMU does so for every count of 0;
 * an entry in a sound block can as well be set, and an image left dirty by lazy refcounts has many.)
 *
 * `settle` changes what may be repaired in the blocks and then makes `counts` say what is recorded, for the COPIED flags.
 * Each entry becomes exact by itself, so the blocks may reach the file in any order, whole or torn.
 */
import { exactRefcountEntry, getRefcountEntry, setRefcountEntry } from '../kernels/refcount-entry.js';
import { hex } from '../util/integers.js';
import { emptyTally, type CheckPhase, type Findings, type Repair } from './check-findings.js';
import type { ImageUnderCheck } from './image-under-check.js';
import type { RecordedRefcounts } from './recorded-refcounts.js';
import type { ReferenceCounts } from './reference-counts.js';

/** Blocks without anything to compare that one step may pass. */
const SKIPPED_A_STEP = 1 << 16;

export interface RefcountCompareParts {
  readonly image: ImageUnderCheck;
  readonly counts: ReferenceCounts;
  readonly recorded: RecordedRefcounts;
  readonly findings: Findings;
  /** As QEMU: any cluster that is named and recorded as free has the whole structure built anew. */
  readonly rebuildMissing: boolean;
}

export interface SettleOptions {
  readonly repair: Repair;
}

export class RefcountCompare implements CheckPhase {
  readonly what: string;
  readonly tally = emptyTally();
  /** Some cluster is named and recorded as free. */
  hasMissing = false;
  /** No block could record it. */
  mustRebuild = false;
  /** The last cluster with a count, recorded or counted. */
  highest = 0;
  readonly #parts: RefcountCompareParts;
  readonly #settle: SettleOptions | null;
  readonly #end: number;
  #block = 0;

  /** With `settle` null nothing is changed, neither in the file nor in `counts`. */
  constructor(parts: RefcountCompareParts, settle: SettleOptions | null) {
    this.#parts = parts;
    this.#settle = settle;
    this.#end = Math.max(parts.image.fileClusters, parts.counts.end);
    this.what = settle === null ? 'comparing refcounts' : 'repairing refcounts';
  }

  get done(): number {
    return Math.min(this.#end, this.#block * this.#parts.image.geometry.refcountBlockEntries);
  }

  /** In clusters. */
  get total(): number {
    return this.#end;
  }

  step(): boolean {
    const { recorded, counts, image } = this.#parts;
    const { refcountBlockEntries } = image.geometry;
    for (let skipped = 0; skipped < SKIPPED_A_STEP; skipped++) {
      const first = this.#block * refcountBlockEntries;
      if (first >= this.#end) return skipped > 0;
      const end = Math.min(this.#end, first + refcountBlockEntries);
      if (recorded.blockOffset(this.#block) !== 0 || counts.mayCount(first, end)) {
        this.#compareBlock(first, end);
        this.#block++;
        return true;
      }
      this.#block++;
    }
    return true;
  }

  #compareBlock(first: number, end: number): void {
    const { recorded, counts, image } = this.#parts;
    if (recorded.isUnreadable(this.#block)) {
      this.#reportUnreadable(first, end);
      return;
    }
    const block = recorded.readBlock(this.#block);
    const { refcountOrder } = image.geometry;
    let changed = false;
    for (let cluster = first; cluster < end; cluster++) {
      const stored = block === null ? 0 : getRefcountEntry(block, 0, refcountOrder, cluster - first);
      const counted = counts.get(cluster);
      if (stored === 0 && counted === 0) continue;
      this.highest = cluster;
      if (stored === counted) continue;
      if (stored === 0) this.hasMissing = true;
      if (block === null || (stored === 0 && this.#parts.rebuildMissing)) this.mustRebuild = true;
      const shown = Number.isSafeInteger(stored)
        ? stored
        : exactRefcountEntry(block!, 0, refcountOrder, cluster - first);
      if (this.#resolve(cluster, shown, counted) && block !== null) {
        setRefcountEntry(block, 0, refcountOrder, cluster - first, counted);
        changed = true;
      } else if (this.#settle !== null) {
        counts.set(cluster, stored);
      }
    }
    if (changed && block !== null) image.write(recorded.blockOffset(this.#block), block);
  }

  /** Tallies one mismatch. True when it is to be repaired in the block. */
  #resolve(cluster: number, stored: number | bigint, counted: number): boolean {
    const leaked = stored > counted;
    const repair = this.#settle?.repair ?? 'none';
    const repaired = leaked ? repair !== 'none' : repair === 'all';
    if (repaired && leaked) this.tally.leaksFixed++;
    else if (repaired) this.tally.corruptionsFixed++;
    else if (leaked) this.tally.leaks++;
    else this.tally.corruptions++;
    const host = cluster * this.#parts.image.clusterSize;
    const message = () => `the cluster at ${hex(host)} has refcount ${stored} and is named ${counted} times`;
    const facts = { fact: 'refcount', cluster, recorded: stored, counted } as const;
    const kind = leaked ? 'leak' : 'refcount';
    if (this.#settle === null) this.#parts.findings.add(kind, host, message, facts);
    else if (repair !== 'none') {
      this.#parts.findings.tell(repaired ? 'repaired' : 'found', { kind, host, message, facts });
    }
    return repaired;
  }

  #reportUnreadable(first: number, end: number): void {
    this.tally.checkErrors += end - first;
    const at = this.#parts.image.header.refcountTableOffset + this.#block * 8;
    const message = () => `refcount block ${this.#block} can't be read: ${end - first} clusters could not be compared`;
    this.#parts.findings.add('not-checked', at, message);
  }
}
