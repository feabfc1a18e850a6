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
 * - Each export has a token, which the caller has to show then: that of the last one, once its file was closed. A late word on one
 *   before does not speak for what has been marked since. Of one bitmap there is one export at a time.
 * - So nothing is ever left out. An increment is of one moment if the disk is not changed between the steps; what is changed
 *   all the same is in the next one as well.
 * - Whole clusters are exported, so that no part of one is looked for in the file below. Zeroes take no room, and hide what lies below.
 */
import { Qcow2Error } from '../../errors.js';
import { randomUuid } from '../../crypto/secrets.js';
import { createImage, type CreateOptions } from '../../image/create.js';
import { openImage } from '../../image/open.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import type { NewEncryption } from '../../image/unlock-image.js';
import { DirtyBits, type DirtyRun } from '../../metadata/dirty-bits.js';
import { NOT_EXPORTED, type PersistentBitmap } from '../../metadata/persistent-bitmaps.js';
import { NotResident } from '../../storage/not-resident.js';
import type { Storage } from '../../storage/storage.js';
import { alignDown, alignUp } from '../../util/integers.js';
import type { Progress } from '../../util/progress.js';
import type { NewBackingFile } from '../change-backing.js';
import { writeContent, type ContentWriter } from '../content-writer.js';
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

/** Names one export, for `confirmIncrement`. It is worth nothing unless that has ended well, and outlives no opening of the image. */
export type IncrementToken = string;

/**
 * Writes what is marked in a bitmap to `target`, which is emptied, and closed at the end: it is whole and stable then. The job results in
 * what `confirmIncrement` asks for once the increment has arrived where it is to be. One that is given up (`return`), or fails, leaves
 * everything marked; one that is dropped without a word keeps the bitmap from being exported until it is cleared, or the image reopened.
 *
 * Throws `NOT_FOUND`, `UNSUPPORTED` for a bitmap that is not consistent, `BAD_ARGUMENT` for one that is being exported, and as
 * `createImage` and `copiedEncryption` do.
 */
export function exportIncremental(
  image: Qcow2Image,
  name: string,
  target: Storage,
  options: IncrementOptions = {},
): IterableIterator<Progress, IncrementToken> {
  image.changeableTables();
  const bitmap = requireConsistent(image, name);
  if (bitmap.pending?.ended === false) {
    throw new Qcow2Error('BAD_ARGUMENT', `the bitmap ${JSON.stringify(name)} is being exported; that has to end first`);
  }
  const marked = image.tables.bitmaps.bitsOf(image.tables, bitmap).copy();
  const increment = newIncrement(image, target, options);
  const apart = new MarksApart(image, bitmap.entry.nameBytes, marked);
  return new IncrementJob(image, increment, new IncrementCopy(image, increment, marked), apart);
}

/**
 * Forgets what an export has taken over: its increment has arrived. Stable when it returns. Throws `NOT_FOUND`, and `BAD_ARGUMENT` for the
 * token of any export but the last, or of one that has not ended well.
 */
export function confirmIncrement(image: Qcow2Image, name: string, token: IncrementToken): void {
  const bitmap = requireConsistent(image, name);
  const problem = whyNotConfirmed(bitmap, token);
  if (problem !== null) throw new Qcow2Error('BAD_ARGUMENT', `${problem}; what was marked stays so`);
  const confirmed: PersistentBitmap = { ...bitmap, ...NOT_EXPORTED, changed: true };
  replaceAll(image, (list) => list.map((each) => (each === bitmap ? confirmed : each)));
}

/** Null where it can be. */
function whyNotConfirmed({ entry, pending }: PersistentBitmap, token: IncrementToken): string | null {
  const name = JSON.stringify(entry.name);
  if (pending === null) return `no increment of ${name} has been exported, or it was confirmed, or cleared`;
  if (pending.token !== token) return `the token is not that of the last export of ${name}`;
  return pending.ended ? null : `the export of ${name} has not ended`;
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

/**
 * The marks of one export, apart from those that the guest makes from now on. Whatever has become of the bitmap meanwhile, only what is still
 * this export's is touched.
 */
class MarksApart {
  readonly token: IncrementToken = randomUuid();
  readonly #image: Qcow2Image;
  readonly #nameBytes: Uint8Array;

  /** An export before that nobody has confirmed is in `marked`. */
  constructor(image: Qcow2Image, nameBytes: Uint8Array, marked: DirtyBits) {
    this.#image = image;
    this.#nameBytes = nameBytes;
    const bits = new DirtyBits(marked.size, marked.granularity);
    const pending = { token: this.token, ended: false };
    image.tables.bitmaps.exchange(nameBytes, (bitmap) => ({ ...bitmap, bits, exported: marked, pending }));
  }

  /** The increment can arrive. */
  end(): void {
    this.#exchange((bitmap) => ({ ...bitmap, pending: { token: this.token, ended: true } }));
  }

  takeBack(): void {
    this.#exchange((bitmap) => {
      const { bits, exported } = bitmap;
      if (bits !== null && exported !== null) bits.merge(exported);
      return { ...bitmap, ...NOT_EXPORTED };
    });
  }

  #exchange(change: (bitmap: PersistentBitmap) => PersistentBitmap): void {
    this.#image.tables.bitmaps.exchange(this.#nameBytes, (bitmap) =>
      bitmap.pending?.token === this.token ? change(bitmap) : bitmap,
    );
  }
}

/** A step that throws `NotResident` can be made again. Whatever else one throws ends the job. */
class IncrementJob implements IterableIterator<Progress, IncrementToken> {
  readonly #image: Qcow2Image;
  readonly #increment: Qcow2Image;
  readonly #copy: IncrementCopy;
  readonly #apart: MarksApart;
  /** Bytes of the disk when it began. */
  readonly #size: number;
  #finished = false;
  /** What it has failed with, to be told whoever goes on all the same. */
  #failure: { readonly error: unknown } | null = null;

  constructor(image: Qcow2Image, increment: Qcow2Image, copy: IncrementCopy, apart: MarksApart) {
    this.#image = image;
    this.#increment = increment;
    this.#copy = copy;
    this.#apart = apart;
    this.#size = image.size;
  }

  next(): IteratorResult<Progress, IncrementToken> {
    if (this.#failure !== null) throw this.#failure.error;
    if (this.#finished) return this.#end();
    try {
      return this.#step();
    } catch (error) {
      if (!(error instanceof NotResident)) {
        this.#failure = { error };
        this.#apart.takeBack();
      }
      throw error;
    }
  }

  return(): IteratorResult<Progress, IncrementToken> {
    if (!this.#finished) this.#apart.takeBack();
    this.#finished = true;
    return this.#end();
  }

  [Symbol.iterator](): this {
    return this;
  }

  #step(): IteratorResult<Progress, IncrementToken> {
    const total = this.#size;
    if (this.#image.size !== total) throw new Qcow2Error('BAD_ARGUMENT', 'the disk was resized while it was exported');
    const done = this.#copy.step();
    if (done !== null) return { done: false, value: { done, total, what: 'exporting what has changed' } };
    this.#increment.close();
    this.#apart.end();
    this.#finished = true;
    return this.#end();
  }

  /** Of a job that was given up, the token is refused. */
  #end(): IteratorResult<Progress, IncrementToken> {
    return { done: true, value: this.#apart.token };
  }
}

/** The copy of what is marked, in whole clusters, bit by bit. */
class IncrementCopy {
  readonly #source: Qcow2Image;
  readonly #target: Qcow2Image;
  readonly #marked: DirtyBits;
  readonly #buffer: Uint8Array;
  readonly #writer: ContentWriter;
  /** All before it is done: whole clusters, or the disk. */
  #done = 0;

  constructor(source: Qcow2Image, target: Qcow2Image, marked: DirtyBits) {
    this.#source = source;
    this.#target = target;
    this.#marked = marked;
    this.#buffer = new Uint8Array(Math.max(STEP_BYTES, target.clusterSize));
    this.#writer = {
      unit: target.clusterSize,
      data: (offset, content) => target.write(offset, content),
      zeroes: (offset, length) => target.writeZeroes(offset, length, { unmap: true }),
    };
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
    this.#source.read(offset, buffer);
    writeContent(this.#writer, offset, buffer);
  }
}
