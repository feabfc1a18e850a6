/**
 * Persistent dirty bitmaps: which parts of the disk have changed since some moment (QEMU: `qemu-img bitmap`). They are what a
 * backup in increments is made from (`export-incremental.ts`).
 *
 * Each change is stable when its function returns: after a crash it has happened or it has not. What the guest changes is kept in
 * memory, and stored when the image is closed, or by `storeBitmaps`; a crash before that leaves the bitmap inconsistent.
 *
 * A name that several bitmaps read as (they are no UTF-8, another program's) is refused with `BAD_ARGUMENT` by all of these.
 */
import { Qcow2Error } from '../../errors.js';
import { withExtension } from '../../format/extension-order.js';
import { AUTOCLEAR_BITMAPS } from '../../format/features.js';
import { EXTENSION_BITMAPS, findExtension } from '../../format/header-extensions.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { DirtyBits } from '../../metadata/dirty-bits.js';
import { NOT_EXPORTED, type BitmapState, type PersistentBitmap } from '../../metadata/persistent-bitmaps.js';
import type { GuestRange } from '../block-status.js';
import { checkNewBitmap, defaultGranularity, type NewBitmap } from './new-bitmap.js';

export interface BitmapInfo {
  readonly name: string;
  /** Bytes of the disk that one bit stands for. */
  readonly granularity: number;
  /** It marks what the guest changes. */
  readonly enabled: boolean;
  /** What is not `consistent` can be listed and removed, and nothing else. */
  readonly state: BitmapState;
}

/** In the order of the directory; none where the autoclear bit does not vouch for it. Throws `BAD_IMAGE` for a damaged one. */
export function listBitmaps({ tables }: Qcow2Image): BitmapInfo[] {
  return tables.bitmaps.list(tables).map(infoOf);
}

export interface BitmapUsage extends BitmapInfo {
  /** Bytes of the disk that are marked, in whole bits; null for a bitmap that is not consistent. */
  readonly dirtyBytes: number | null;
}

/** The same, with how much is marked. Throws `BAD_IMAGE` where that is damaged, too. */
export function bitmapUsage(image: Qcow2Image): BitmapUsage[] {
  const { tables } = image;
  return tables.bitmaps.list(tables).map((bitmap) => {
    const isUsable = bitmap.state === 'consistent';
    return { ...infoOf(bitmap), dirtyBytes: isUsable ? markedBytes(image, bitmap) : null };
  });
}

/**
 * Gives the image a bitmap in which nothing is marked. Throws `BAD_ARGUMENT`, `UNSUPPORTED` for version 2, `LIMIT`, and as a write
 * does; nothing has changed then.
 */
export function addBitmap(image: Qcow2Image, bitmap: NewBitmap): BitmapInfo {
  image.changeableTables();
  checkNewBitmap(image, bitmap);
  const { name, granularity = defaultGranularity(image), enabled = true } = bitmap;
  const added: PersistentBitmap = {
    entry: {
      name,
      nameBytes: new TextEncoder().encode(name),
      tableOffset: 0,
      tableEntries: 0,
      inUse: false,
      auto: enabled,
      extraDataCompatible: false,
      granularityBits: Math.log2(granularity),
      extraData: new Uint8Array(0),
    },
    state: 'consistent',
    bits: new DirtyBits(image.size, granularity),
    changed: true,
    ...NOT_EXPORTED,
  };
  replaceAll(image, (list) => [...list, added]);
  return infoOf(added);
}

/** Also one that is inconsistent. Throws `NOT_FOUND`. */
export function removeBitmap(image: Qcow2Image, name: string): void {
  const removed = requireBitmap(image, name);
  replaceAll(image, (list) => list.filter((bitmap) => bitmap !== removed));
}

/** Has nothing marked from now on. Throws `NOT_FOUND`, `UNSUPPORTED` for one that is not consistent. */
export function clearBitmap(image: Qcow2Image, name: string): void {
  change(image, name, (bitmap) => ({
    ...bitmap,
    bits: new DirtyBits(image.size, granularityOf(bitmap)),
    changed: true,
    ...NOT_EXPORTED,
  }));
}

/** Has it mark what the guest changes from now on. Throws as `clearBitmap`. */
export function enableBitmap(image: Qcow2Image, name: string): void {
  change(image, name, (bitmap) => ({ ...bitmap, entry: { ...bitmap.entry, auto: true } }));
}

/** Keeps it as it is from now on. Throws as `clearBitmap`. */
export function disableBitmap(image: Qcow2Image, name: string): void {
  change(image, name, (bitmap) => ({ ...bitmap, entry: { ...bitmap.entry, auto: false } }));
}

/**
 * Marks in a bitmap what is marked in another, of this image or of one whose disk has the same size; their granularities may
 * differ. Throws as `clearBitmap`, for both, and `BAD_ARGUMENT` for a disk of another size.
 */
export function mergeBitmap(
  image: Qcow2Image,
  name: string,
  source: { readonly name: string; readonly image?: Qcow2Image },
): void {
  const from = source.image ?? image;
  const target = requireConsistent(image, name);
  const other = from.tables.bitmaps.bitsOf(from.tables, requireConsistent(from, source.name));
  if (other.size !== image.size) {
    const sizes = `the disk of ${JSON.stringify(source.name)} has ${other.size} bytes`;
    throw new Qcow2Error('BAD_ARGUMENT', `${sizes}; it must have ${image.size} to be merged`);
  }
  const { tables } = image;
  const bits = tables.bitmaps.bitsOf(tables, target).copy();
  bits.merge(other);
  change(image, name, (bitmap) => ({ ...bitmap, bits, changed: true, ...NOT_EXPORTED }));
}

/** What is marked, in order. The disk must not be changed meanwhile. Throws as `clearBitmap`. */
export function dirtyRanges(image: Qcow2Image, name: string): Iterable<GuestRange> {
  const { tables } = image;
  return tables.bitmaps.bitsOf(tables, requireConsistent(image, name)).runs();
}

/** Bytes of the disk that are marked, in whole bits. Throws as `clearBitmap`. */
export function dirtyBytes(image: Qcow2Image, name: string): number {
  return markedBytes(image, requireConsistent(image, name));
}

/**
 * Writes down what the guest has changed so far, so that a crash from now on does not lose it, until the guest's next change. For
 * a moment at which the disk is idle. Stable when it returns.
 */
export function storeBitmaps(image: Qcow2Image): void {
  const tables = image.changeableTables();
  tables.bitmaps.store(tables);
  image.flush();
}

/**
 * Whether the image has had bitmaps that are out of date: software that knows none has changed it since. They are not listed, and
 * nobody takes them for true. Their clusters leak; a check that repairs leaks frees them.
 */
export function hasLostBitmaps({ header }: Pick<Qcow2Image, 'header'>): boolean {
  const extension = findExtension(header.extensions, EXTENSION_BITMAPS);
  return extension !== undefined && (header.autoclear & AUTOCLEAR_BITMAPS) === 0n;
}

/** Has the image say nothing of bitmaps that it has lost. Stable when it returns. */
export function forgetLostBitmaps(image: Qcow2Image): void {
  const { header, writable } = image.changeableTables();
  if (!hasLostBitmaps(image)) return;
  writable.order.flush();
  header.rewrite({ ...header.value, extensions: withExtension(header.value.extensions, EXTENSION_BITMAPS, null) });
}

/** Throws `NOT_FOUND`, `BAD_ARGUMENT` for a name that several read as, or `UNSUPPORTED` for one that is not consistent. */
export function requireConsistent(image: Qcow2Image, name: string): PersistentBitmap {
  const bitmap = requireBitmap(image, name);
  if (bitmap.state === 'consistent') return bitmap;
  const why =
    bitmap.state === 'inconsistent'
      ? 'inconsistent: the image was not closed after its last change; it can be removed'
      : 'not to be used: it has extra data that are not known here';
  throw new Qcow2Error('UNSUPPORTED', `the bitmap ${JSON.stringify(name)} is ${why}`);
}

/** Puts other bitmaps in place of those that there are; stable, and what is old freed, when it returns. */
export function replaceAll(
  image: Qcow2Image,
  next: (list: readonly PersistentBitmap[]) => readonly PersistentBitmap[],
): void {
  const tables = image.changeableTables();
  tables.bitmaps.replace(tables, next(tables.bitmaps.list(tables)));
  image.flush();
}

function change(image: Qcow2Image, name: string, to: (bitmap: PersistentBitmap) => PersistentBitmap): void {
  const changed = requireConsistent(image, name);
  replaceAll(image, (list) => list.map((bitmap) => (bitmap === changed ? to(bitmap) : bitmap)));
}

function requireBitmap({ tables }: Qcow2Image, name: string): PersistentBitmap {
  const [bitmap, ...more] = tables.bitmaps.list(tables).filter(({ entry }) => entry.name === name);
  if (bitmap === undefined) throw new Qcow2Error('NOT_FOUND', `the image has no bitmap ${JSON.stringify(name)}`);
  if (more.length === 0) return bitmap;
  const found = `${more.length + 1} bitmaps have names that read as ${JSON.stringify(name)}`;
  throw new Qcow2Error('BAD_ARGUMENT', `${found}; they are no UTF-8, and which of them is meant can't be told`);
}

function markedBytes({ tables, size }: Qcow2Image, bitmap: PersistentBitmap): number {
  const bits = tables.bitmaps.bitsOf(tables, bitmap);
  return Math.min(size, bits.count * bits.granularity);
}

function granularityOf({ entry }: PersistentBitmap): number {
  return 2 ** entry.granularityBits;
}

function infoOf({ entry, state }: PersistentBitmap): BitmapInfo {
  return { name: entry.name, granularity: 2 ** entry.granularityBits, enabled: entry.auto, state };
}
