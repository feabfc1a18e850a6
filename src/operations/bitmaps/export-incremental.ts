/**
 * Export in increments: what has changed since the last one, as a qcow2 over it. A base and its increments, each over the one
 * before, read as the disk:
 *
 *   full export, bitmap added -> ... guest writes ... -> increment 1 -> ... -> increment 2 -> ...
 *
 *   base.qcow2 <- 1.qcow2 <- 2.qcow2        (backing files; `qemu-img commit` or `rebase` puts them together)
 *
 * - What an export has taken over is kept apart from what the guest changes from then on. It is forgotten when the caller says that
 *   the increment has arrived (`confirmIncrement`), and not before: closed, crashed or asked once more, it belongs to the next.
 * - So nothing is ever left out. An increment is of one moment if the disk is not changed between the steps; what is changed
 *   all the same is in the next one as well.
 * - Whole clusters are exported, so that no part of one is looked for in the file below. Zeroes take no room, and hide what lies below.
 */
import { Qcow2Error } from '../../errors.js';
import { createImage, type CreateOptions } from '../../image/create.js';
import { openImage } from '../../image/open.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import type { NewEncryption } from '../../image/unlock-image.js';
import { DirtyBits, type DirtyRun } from '../../metadata/dirty-bits.js';
import type { PersistentBitmap } from '../../metadata/persistent-bitmaps.js';
import type { Storage } from '../../storage/storage.js';
import { isZero } from '../../util/bytes.js';
import { alignDown, alignUp } from '../../util/integers.js';
import { stepsOf, type Steps } from '../../util/steps.js';
import type { NewBackingFile } from '../change-backing.js';
import { copiedEncryption } from '../copy-encryption.js';
import { replaceAll, requireConsistent } from './bitmaps.js';

export interface IncrementOptions {
  /** What is recorded as its backing file: the increment before, or the base. Null leaves that to `changeBackingFile`. Default null. */
  readonly backing?: NewBackingFile | null;
  /** Of its own, the caller's to dispose of. Default: as the disk is encrypted, with the same key. */
  readonly encryption?: NewEncryption;
}

/** Bytes moved in one step, and ranges of zeroes that are looked at in one. */
const STEP_BYTES = 2 * 1024 * 1024;

/**
 * Writes what is marked in a bitmap to `target`, which is emptied, and closed at the end: it is whole and stable then.
 * Then, once it has arrived where it is to be: `confirmIncrement`. A job that is given up leaves everything marked.
 *
 * Throws `NOT_FOUND`, `UNSUPPORTED` for a bitmap that is not consistent, and as `createImage` and `copiedEncryption` do.
 */
export function exportIncremental(
  image: Qcow2Image,
  name: string,
  target: Storage,
  options: IncrementOptions = {},
): Steps {
  image.changeableTables();
  const marked = image.tables.bitmaps.bitsOf(image.tables, requireConsistent(image, name)).copy();
  const increment = newIncrement(image, target, options);
  setApart(image, name, marked);
  const { size } = image;
  const copy = new IncrementCopy(image, increment, marked);
  return stepsOf(
    () => {
      if (image.size !== size) throw new Qcow2Error('BAD_ARGUMENT', 'the disk was resized while it was exported');
      const done = copy.step();
      if (done !== null) return { done, total: size, what: 'exporting what has changed' };
      increment.close();
      return null;
    },
    () => takeBack(image, name, marked),
  );
}

/**
 * Forgets what the last export has taken over: the increment has arrived. Stable when it returns. Throws `NOT_FOUND`, and
 * `BAD_ARGUMENT` where no export waits for it.
 */
export function confirmIncrement(image: Qcow2Image, name: string): void {
  const bitmap = requireConsistent(image, name);
  if (bitmap.exported === null) {
    throw new Qcow2Error(
      'BAD_ARGUMENT',
      `no increment of ${JSON.stringify(name)} has been exported, or it was cleared`,
    );
  }
  const confirmed: PersistentBitmap = { ...bitmap, exported: null, changed: true };
  replaceAll(image, (list) => list.map((each) => (each === bitmap ? confirmed : each)));
}

/** An empty qcow2 of the size of the disk. */
function newIncrement(image: Qcow2Image, target: Storage, options: IncrementOptions): Qcow2Image {
  const { backing = null, encryption = copiedEncryption(image) } = options;
  // An image that opened has one of these widths.
  const refcountBits = image.refcountBits as NonNullable<CreateOptions['refcountBits']>;
  const { size, clusterSize } = image;
  const shape: CreateOptions = { size, clusterSize, refcountBits };
  createImage(target, { ...shape, ...(backing && { backing }), ...(encryption && { encryption }) });
  // Whatever lies below is not looked at: only whole clusters are written.
  return openImage(target, { backing: null, ...(encryption && { encryption: encryption.opened }) });
}

/** From now on the guest's changes are marked by themselves. An export before that nobody has confirmed is in `marked`. */
function setApart({ tables }: Qcow2Image, name: string, marked: DirtyBits): void {
  const fresh = new DirtyBits(marked.size, marked.granularity);
  tables.bitmaps.exchange(name, (bitmap) => ({ ...bitmap, bits: fresh, exported: marked }));
}

function takeBack({ tables }: Qcow2Image, name: string, marked: DirtyBits): void {
  tables.bitmaps.exchange(name, (bitmap) => {
    if (bitmap.exported !== marked || bitmap.bits === null) return bitmap;
    bitmap.bits.merge(marked);
    return { ...bitmap, exported: null };
  });
}

/** The copy of what is marked, in whole clusters, bit by bit. */
class IncrementCopy {
  readonly #source: Qcow2Image;
  readonly #target: Qcow2Image;
  readonly #marked: DirtyBits;
  readonly #buffer: Uint8Array;
  /** All before it is done: whole clusters, or the disk. */
  #done = 0;

  constructor(source: Qcow2Image, target: Qcow2Image, marked: DirtyBits) {
    this.#source = source;
    this.#target = target;
    this.#marked = marked;
    this.#buffer = new Uint8Array(Math.max(STEP_BYTES, target.clusterSize));
  }

  /** How far in the disk it is; null when all is copied. A step that throws `NotResident` can be made again. */
  step(): number | null {
    const run = this.#nextRun();
    if (run === null) return null;
    const nothing = this.#zeroLength(run);
    if (nothing > 0) this.#target.writeZeroes(run.offset, nothing, { unmap: true });
    const length = nothing > 0 ? nothing : Math.min(run.length, this.#buffer.length);
    if (nothing === 0) this.#copy(run.offset, this.#buffer.subarray(0, length));
    this.#done = run.offset + length;
    return this.#done;
  }

  /** What is marked next, widened to whole clusters. */
  #nextRun(): DirtyRun | null {
    const { size, clusterSize } = this.#target;
    if (this.#done >= size) return null;
    // It may be inside what one bit stands for.
    const found = this.#marked.nextRun(alignDown(this.#done, this.#marked.granularity));
    if (found === null) return null;
    const offset = Math.max(this.#done, alignDown(found.offset, clusterSize));
    const end = Math.min(size, alignUp(found.offset + found.length, clusterSize));
    return { offset, length: end - offset };
  }

  /** How much of the run is known to read as zeroes, in whole clusters. */
  #zeroLength({ offset, length }: DirtyRun): number {
    let zeroes = 0;
    for (const extent of this.#source.extents(offset, length)) {
      if (extent.kind !== 'zero' && extent.kind !== 'unallocated') break;
      zeroes += extent.length;
    }
    return zeroes === length ? length : alignDown(zeroes, this.#target.clusterSize);
  }

  /** Bytes from `offset`, a cluster's start, on; runs of zero clusters take no room. */
  #copy(offset: number, buffer: Uint8Array): void {
    const { clusterSize } = this.#target;
    this.#source.read(offset, buffer);
    const zeroAt = (at: number): boolean => isZero(buffer.subarray(at, at + clusterSize));
    for (let start = 0; start < buffer.length;) {
      const zero = zeroAt(start);
      let end = start + clusterSize;
      while (end < buffer.length && zeroAt(end) === zero) end += clusterSize;
      end = Math.min(end, buffer.length);
      if (zero) this.#target.writeZeroes(offset + start, end - start, { unmap: true });
      else this.#target.write(offset + start, buffer.subarray(start, end));
      start = end;
    }
  }
}
