/**
 * Check of an image, and its repair (spec, "Host cluster management"): what `qemu-img check` does, with its numbers.
 *
 * Works on storages that a normal open refuses: the header must be valid, everything else may be wrong. After a pass that
 * repaired something, a second one without repair says what is left; the numbers reported are those of the last pass, and
 * what was repaired on the way.
 *
 * The result says what is wrong as data. Errors are thrown for what no check can get around: no qcow2 header, a storage that
 * fails.
 */
import { Qcow2Error } from '../../errors.js';
import { Qcow2Image } from '../../image/qcow2-image.js';
import {
  emptyTally,
  type CheckListener,
  type Finding,
  type Repair,
  type Tally,
} from '../../metadata/check-findings.js';
import { ImageCheck } from '../../metadata/image-check.js';
import { ImageUnderCheck } from '../../metadata/image-under-check.js';
import { GuardedStorage } from '../../storage/guarded.js';
import type { Storage } from '../../storage/storage.js';
import { divideUp } from '../../util/integers.js';
import type { Progress } from '../../util/progress.js';

export type {
  CheckEvent,
  CheckListener,
  Finding,
  FindingFacts,
  FindingKind,
  Repair,
} from '../../metadata/check-findings.js';

export interface CheckOptions {
  /** Default `none`. */
  readonly repair?: Repair;
  /** Told of each thing that is found or repaired, in every pass. */
  readonly onEvent?: CheckListener;
  /**
   * As QEMU, builds the whole refcount structure anew when a cluster that is in use is recorded as free. By default its count is
   * set where there is a block for it.
   */
  readonly rebuildMissing?: boolean;
}

/** Counts are of clusters, or of table entries. */
export interface CheckResult extends Readonly<Tally> {
  /** Clusters of the disk. */
  readonly totalClusters: number;
  readonly allocatedClusters: number;
  readonly fragmentedClusters: number;
  readonly compressedClusters: number;
  /** Bytes of the file up to the end of the last cluster in use. */
  readonly imageEndOffset: number;
  /** What the first pass found; at most 1000. */
  readonly findings: readonly Finding[];
  /** How many it found. */
  readonly findingsTotal: number;
  /** What the last pass still found; the same as `findings` where nothing was repaired. */
  readonly remaining: readonly Finding[];
}

/** The verdict as `qemu-img check` exits: 0 sound, 1 not all could be checked, 2 corrupt, 3 leaks only. */
export function checkVerdict(result: Readonly<Tally>): 0 | 1 | 2 | 3 {
  if (result.checkErrors > 0) return 1;
  if (result.corruptions > 0) return 2;
  return result.leaks > 0 ? 3 : 0;
}

/** A repair, a pass for what a rebuilt structure has leaked, and one to see what is left: no image needs more. */
const MOST_PASSES = 5;

/**
 * Checks an image, in steps; a step that throws `NotResident` can be asked for again. To stop early is safe at any time.
 *
 * An open image is flushed first and may only be checked: repairing needs the storage alone. Nothing may change the image
 * before the check has ended. The storage is not closed. Throws `NOT_QCOW2`, `BAD_IMAGE`, `UNSUPPORTED`, `LIMIT`,
 * `READ_ONLY`, `BAD_ARGUMENT`, or `IO`.
 */
export function checkImage(
  target: Storage | Qcow2Image,
  options: CheckOptions = {},
): IterableIterator<Progress, CheckResult> {
  const repair = options.repair ?? 'none';
  const open = target instanceof Qcow2Image;
  if (open && repair !== 'none') {
    throw new Qcow2Error('BAD_ARGUMENT', `repair is ${repair}; an open image can only be checked, close it first`);
  }
  if (!open && repair !== 'none' && target.readOnly) {
    throw new Qcow2Error('READ_ONLY', 'the storage is read-only; it can be checked, not repaired');
  }
  // With lazy refcounts a flush leaves them in memory.
  if (open && !target.readOnly) target.changeableTables().writable.order.makeClean();
  return new CheckJob(open ? target.storage : new GuardedStorage(target), { ...options, repair });
}

class CheckJob implements IterableIterator<Progress, CheckResult> {
  readonly #storage: Storage;
  readonly #wanted: Repair;
  readonly #options: CheckOptions;
  #image: ImageUnderCheck | null = null;
  #pass: ImageCheck | null = null;
  #repair: Repair;
  #passes = 0;
  #first: ImageCheck | null = null;
  readonly #fixed = emptyTally();

  constructor(storage: Storage, options: CheckOptions & { readonly repair: Repair }) {
    this.#storage = storage;
    this.#options = options;
    this.#wanted = options.repair;
    this.#repair = options.repair;
  }

  [Symbol.iterator](): this {
    return this;
  }

  next(): IteratorResult<Progress, CheckResult> {
    this.#image ??= new ImageUnderCheck(this.#storage);
    this.#pass ??= this.#startPass(this.#image);
    const pass = this.#pass;
    if (pass.step()) return { done: false, value: progressOf(pass) };
    if (this.#wantsAnother(pass)) {
      this.#pass = null;
      return { done: false, value: progressOf(pass) };
    }
    return { done: true, value: this.#result(this.#image, pass) };
  }

  #startPass(image: ImageUnderCheck): ImageCheck {
    const { onEvent: listener, rebuildMissing } = this.#options;
    const pass = new ImageCheck(image, { repair: this.#repair, listener, rebuildMissing });
    this.#first ??= pass;
    this.#passes++;
    return pass;
  }

  #wantsAnother(pass: ImageCheck): boolean {
    const { corruptionsFixed, leaksFixed, leaks, corruptions, checkErrors } = pass.tally;
    const changed = corruptionsFixed + leaksFixed > 0;
    this.#fixed.corruptionsFixed += corruptionsFixed;
    this.#fixed.leaksFixed += leaksFixed;
    if (this.#passes >= MOST_PASSES) return false;
    if (this.#repair !== 'none') {
      this.#repair = 'none';
      return changed;
    }
    if (this.#wanted === 'none' || this.#passes > 2 || leaks === 0 || corruptions + checkErrors > 0) return false;
    this.#repair = 'leaks';
    return true;
  }

  #result(image: ImageUnderCheck, last: ImageCheck): CheckResult {
    const { corruptions, leaks, checkErrors } = last.tally;
    const first = this.#first!;
    return {
      corruptions,
      leaks,
      checkErrors,
      corruptionsFixed: this.#fixed.corruptionsFixed,
      leaksFixed: this.#fixed.leaksFixed,
      totalClusters: divideUp(image.header.size, image.clusterSize),
      ...last.statistics,
      imageEndOffset: last.imageEnd,
      findings: first.findings.list,
      findingsTotal: first.findings.total,
      remaining: last.findings.list,
    };
  }
}

function progressOf(pass: ImageCheck): Progress {
  const phase = pass.phase;
  if (phase === null) return { done: 1, total: 1, what: 'the pass is done' };
  return { done: phase.done, total: phase.total, what: phase.what };
}
