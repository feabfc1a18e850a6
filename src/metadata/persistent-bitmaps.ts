/**
 * Persistent bitmaps of an open image: which there are, and what the guest changes while they are enabled (spec, "Bitmaps").
 *
 *   in the file        valid --mark--> in use --store--> valid
 *   in memory          nothing         bits              bits
 *
 * - Before the guest's first change every enabled bitmap is marked in use, stably: whatever happens from then on, nobody takes
 *   what the file says of it for true. A disabled one is not changed by what the guest does, and stays valid.
 * - Storing makes them valid again (`bitmap-writer.ts`): when the image is closed, let go of or made read-only, or whenever somebody
 *   asks. The next change marks them anew.
 * - Each operation on bitmaps stores its outcome at once: after a crash it has happened or it has not.
 * - A resize concerns disabled ones, too: their tables are for a disk of one size.
 * - All that are held in memory have a bound; what is beyond it, and in no image that we or QEMU's tools make, becomes inconsistent.
 * - A directory that can't be read is left as it is, and the guest's first change clears the bit that vouches for it.
 *
 * QEMU marks all of them when it opens an image for writing, and stores them when it closes it.
 */
import type { GuestOffset } from '../disk.js';
import { isQcow2Error, Qcow2Error } from '../errors.js';
import { bitmapBytes, type BitmapEntry } from '../format/bitmap-directory.js';
import { AUTOCLEAR_BITMAPS } from '../format/features.js';
import { MAX_BITMAP_BYTES, MAX_BITMAPS_BYTES } from '../format/limits.js';
import { equalAt } from '../util/bytes.js';
import { storeBitmaps, type BitmapToStore } from './bitmap-writer.js';
import { DirtyBits } from './dirty-bits.js';
import { readBitmapBits, readBitmapDirectory, rewriteFlags, type BitmapTables } from './stored-bitmaps.js';

/**
 * - `consistent`: it says what it should
 * - `inconsistent`: it was in use when the image was last let go of without being closed
 * - `foreign`: it has extra data that are not known here and forbid its use
 */
export type BitmapState = 'consistent' | 'inconsistent' | 'foreign';

export interface PersistentBitmap {
  /** As the file has it. */
  readonly entry: BitmapEntry;
  readonly state: BitmapState;
  /** Null while nobody has asked for them: they are as the file has them. */
  readonly bits: DirtyBits | null;
  /** The file does not have them as they are. */
  readonly changed: boolean;
  /** What an export is at: stored with the others until it has arrived. */
  readonly exported: DirtyBits | null;
  /** Whose that is; null where `exported` is. */
  readonly pending: PendingExport | null;
}

/** An export of which nobody has said yet that it has arrived. */
export interface PendingExport {
  /** Of this export alone, also among those of other times and images. */
  readonly token: string;
  /** Its file is whole and stable, so that it may arrive. */
  readonly ended: boolean;
}

/** Of a bitmap whose marks are all in one place. */
export const NOT_EXPORTED = { exported: null, pending: null } as const;

/** What marks of a change are set in. */
interface Tracked {
  readonly index: number;
  readonly bits: DirtyBits;
}

export class PersistentBitmaps {
  /** Null until somebody asks. */
  #list: PersistentBitmap[] | null = null;
  /** Why they can't be read. */
  #damage: Qcow2Error | null = null;
  /** The enabled ones, while they are marked in use in the file; null while they are not. */
  #tracked: readonly Tracked[] | null = null;

  /** In the order of the directory. Throws `BAD_IMAGE` or `LIMIT` for a directory that is damaged. */
  list(tables: BitmapTables): readonly PersistentBitmap[] {
    const list = this.#load(tables);
    const vouchedFor = (tables.header.value.autoclear & AUTOCLEAR_BITMAPS) !== 0n;
    if (this.#damage !== null && vouchedFor) throw this.#damage;
    return list;
  }

  /** Whether a change of what the guest sees leaves them of use. */
  kept(tables: BitmapTables): boolean {
    return this.#load(tables).length > 0;
  }

  /** Marks what is enabled in use. To be called before the first change of anything the guest can see. Stable when it returns. */
  beforeGuestChange(tables: BitmapTables): void {
    if (this.#tracked !== null) return;
    this.#markInUse(tables, ({ entry }) => entry.auto);
    this.#tracked = this.#enabled();
  }

  /**
   * Whether the disk can have `size` bytes. Throws `UNSUPPORTED` for a bitmap that is not consistent, or for an empty disk, and `LIMIT`
   * for one that would take too much room, or all of them together.
   */
  checkResize(tables: BitmapTables, size: number): void {
    let bytes = 0;
    for (const { entry, state } of this.#load(tables)) {
      const name = JSON.stringify(entry.name);
      if (state !== 'consistent') {
        throw new Qcow2Error('UNSUPPORTED', `the bitmap ${name} is ${state}, and can't be resized with the disk`);
      }
      if (size === 0) throw new Qcow2Error('UNSUPPORTED', `the bitmap ${name} can't be that of a disk of 0 bytes`);
      checkBitmapSize(size, entry.granularityBits, `the bitmap ${name}`);
      bytes += bitmapBytes(size, entry.granularityBits);
    }
    if (bytes <= MAX_BITMAPS_BYTES) return;
    throw new Qcow2Error(
      'LIMIT',
      `all bitmaps would have ${bytes} bytes with the disk; the limit is ${MAX_BITMAPS_BYTES}`,
    );
  }

  /** Marks all of them in use, before the size of the disk changes. Stable when it returns. */
  beforeResize(tables: BitmapTables): void {
    this.#markInUse(tables, () => true);
    this.#tracked = this.#enabled();
  }

  /** The disk has another size. What is new is changed, as far as they are enabled: it may have held something before. */
  resize(size: number): void {
    // Nobody has asked for them, so nothing of them is in memory.
    if (this.#list === null) return;
    this.#list = this.#list.map((bitmap) => {
      const { entry, bits } = bitmap;
      if (bits === null || bits.size === size) return bitmap;
      bits.resize(size, entry.auto ? 'set' : 'clear');
      bitmap.exported?.resize(size, 'clear');
      return { ...bitmap, changed: true };
    });
  }

  /** The guest changes `length` bytes from `offset` on. `beforeGuestChange` has been called. */
  mark(offset: GuestOffset, length: number): void {
    for (const { index, bits } of this.#tracked ?? []) {
      if (!bits.mark(offset, length)) continue;
      const bitmap = this.#list![index]!;
      if (!bitmap.changed) this.#list![index] = { ...bitmap, changed: true };
    }
  }

  /** The bits of a bitmap that is consistent. Throws `BAD_IMAGE` where they are damaged. */
  bitsOf(tables: BitmapTables, bitmap: PersistentBitmap): DirtyBits {
    const bits = bitmap.bits ?? readBitmapBits(tables.storage, tables.header.value, bitmap.entry);
    if (bitmap.exported === null) return bits;
    const all = bits.copy();
    all.merge(bitmap.exported);
    return all;
  }

  /** Brings to the file what it does not have. Stable when it returns. Throws as `storeBitmaps` does; they stay marked in use then. */
  store(tables: BitmapTables): void {
    const list = this.#list ?? [];
    const isDue = ({ entry, state, changed }: PersistentBitmap) => (entry.inUse || changed) && state === 'consistent';
    if (list.some(isDue)) this.replace(tables, list);
  }

  /**
   * Has these in place of those that there are, and stores them. Stable when it returns. Throws as `storeBitmaps` does; nothing has
   * changed then.
   */
  replace(tables: BitmapTables, next: readonly PersistentBitmap[]): void {
    const stored = storeBitmaps(tables, next.map(toStore));
    this.#list = next.map((bitmap, index) => ({ ...bitmap, entry: stored[index]!, changed: false }));
    this.#damage = null;
    this.#tracked = null;
  }

  /**
   * Puts the bits of one in place, without storing anything: for what an export has taken over. It is named by bytes, as names that are
   * no UTF-8 may read alike.
   */
  exchange(nameBytes: Uint8Array, change: (bitmap: PersistentBitmap) => PersistentBitmap): void {
    if (this.#list === null) return;
    this.#list = this.#list.map((bitmap) => (hasName(bitmap, nameBytes) ? change(bitmap) : bitmap));
    // Marked in the file already: the same bitmaps are tracked, by other bits.
    this.#tracked &&= this.#enabled();
  }

  #enabled(): Tracked[] {
    return this.#list!.flatMap(({ entry, state, bits }, index) =>
      entry.auto && state === 'consistent' && bits !== null ? [{ index, bits }] : [],
    );
  }

  #load({ storage, header }: BitmapTables): PersistentBitmap[] {
    if (this.#list !== null) return this.#list;
    try {
      const directory = readBitmapDirectory(storage, header.value);
      this.#list = (directory?.entries ?? []).map((entry) => {
        const foreign = entry.extraData.length > 0 && !entry.extraDataCompatible;
        const state = entry.inUse ? 'inconsistent' : foreign ? 'foreign' : 'consistent';
        return { entry, state, bits: null, changed: false, ...NOT_EXPORTED };
      });
    } catch (error) {
      if (!isQcow2Error(error, 'BAD_IMAGE') && !isQcow2Error(error, 'LIMIT')) throw error;
      this.#damage = error;
      this.#list = [];
    }
    return this.#list;
  }

  /** Marks those of the bitmaps in use that `isConcerned` says, and loads their bits. One that is damaged becomes inconsistent. */
  #markInUse(tables: BitmapTables, isConcerned: (bitmap: PersistentBitmap) => boolean): void {
    const list = this.#load(tables);
    const { size } = tables.header.value;
    let bytes = 0;
    const next = list.map((bitmap) => {
      if (!isConcerned(bitmap) || bitmap.entry.inUse) return bitmap;
      bytes += bitmapBytes(size, bitmap.entry.granularityBits);
      const held = bytes <= MAX_BITMAPS_BYTES ? this.#withBits(tables, bitmap) : inconsistent(bitmap);
      return { ...held, entry: { ...bitmap.entry, inUse: true } };
    });
    const changes = next.some((bitmap, index) => bitmap !== list[index]);
    if (changes) rewriteFlags(tables, next.map(({ entry }) => entry)); // prettier-ignore
    this.#list = next;
  }

  #withBits({ storage, header }: BitmapTables, bitmap: PersistentBitmap): PersistentBitmap {
    if (bitmap.state !== 'consistent') return inconsistent(bitmap);
    if (bitmap.bits !== null) return bitmap;
    try {
      return { ...bitmap, bits: readBitmapBits(storage, header.value, bitmap.entry) };
    } catch (error) {
      if (!isQcow2Error(error, 'BAD_IMAGE')) throw error;
      return inconsistent(bitmap);
    }
  }
}

function inconsistent(bitmap: PersistentBitmap): PersistentBitmap {
  return { ...bitmap, state: 'inconsistent' };
}

function hasName({ entry }: PersistentBitmap, nameBytes: Uint8Array): boolean {
  return entry.nameBytes.length === nameBytes.length && equalAt(entry.nameBytes, 0, nameBytes);
}

/** As it is to be in the file: valid, unless it was found otherwise. */
function toStore({ entry, state, bits, changed, exported }: PersistentBitmap): BitmapToStore {
  const stored = { ...entry, inUse: state === 'inconsistent' };
  if (!changed || bits === null) return { entry: stored, bits: null };
  if (exported === null) return { entry: stored, bits };
  const all = bits.copy();
  all.merge(exported);
  return { entry: stored, bits: all };
}

/** Throws `LIMIT` for a bitmap that would take more than what is held in memory; `what` names it. */
export function checkBitmapSize(diskSize: number, granularityBits: number, what: string): void {
  const bytes = bitmapBytes(diskSize, granularityBits);
  if (bytes <= MAX_BITMAP_BYTES) return;
  const limit = `with a granularity of ${2 ** granularityBits}; the limit is ${MAX_BITMAP_BYTES}`;
  throw new Qcow2Error('LIMIT', `${what} would have ${bytes} bytes for a disk of ${diskSize} ${limit}`);
}
