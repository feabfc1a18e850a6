/**
 * Bitmap directory: which persistent bitmaps an image has, and where their tables lie (spec, "Bitmaps extension" and "Bitmap
 * directory"). Pure: bytes to records and back. The extension in the header leads to it:
 *
 *   extension          0 bitmaps (4)   4 reserved (4)   8 directory bytes (8)   16 directory offset (8)
 *   directory entry    0 table offset (8)   8 table entries   12 flags   16 type   17 granularity bits
 *                     18 name bytes (2)    20 extra bytes     24 extra data, name, padding to 8
 *   flags              0 in_use   1 auto   2 extra_data_compatible
 *
 * - The extension counts only while the autoclear bit vouches for it: software that does not know it clears that bit.
 * - Entries fill the directory exactly. One that breaks a rule spoils them all, as in QEMU: where the next begins is its word.
 * - Names are kept as they are, also where they are no UTF-8. Extra data that we do not know is kept, too (QEMU refuses it).
 */
import { Qcow2Error } from '../errors.js';
import { getUint64, setUint64, viewOf } from '../util/big-endian.js';
import { alignUp, divideUp, hex } from '../util/integers.js';
import { AUTOCLEAR_BITMAPS } from './features.js';
import type { Header } from './header.js';
import { EXTENSION_BITMAPS, findExtension } from './header-extensions.js';
import {
  MAX_BITMAP_BYTES,
  MAX_BITMAP_DIRECTORY_BYTES,
  MAX_BITMAP_NAME_BYTES,
  MAX_BITMAPS,
  MAX_GRANULARITY_BITS,
  MIN_GRANULARITY_BITS,
} from './limits.js';

const EXTENSION_BYTES = 4 + 4 + 8 + 8; // bitmaps, reserved, directory bytes, directory offset
const ENTRY_BYTES = 8 + 4 + 4 + 1 + 1 + 2 + 4; // what comes before extra data and name
const FLAGS_AT = 12;
const FLAG_IN_USE = 1;
const FLAG_AUTO = 2;
const FLAG_EXTRA_DATA_COMPATIBLE = 4;
const KNOWN_FLAGS = FLAG_IN_USE | FLAG_AUTO | FLAG_EXTRA_DATA_COMPATIBLE;
const TYPE_DIRTY_TRACKING = 1;

/** What the header says of the directory. */
export interface BitmapsExtension {
  readonly count: number;
  /** Bytes. */
  readonly directoryBytes: number;
  readonly directoryOffset: number;
}

export interface BitmapEntry {
  /** Two of an image may read alike: what is no UTF-8 reads as U+FFFD. Their bytes differ. */
  readonly name: string;
  /** `name` as the directory has it. */
  readonly nameBytes: Uint8Array;
  readonly tableOffset: number;
  readonly tableEntries: number;
  /** It was not stored since the disk was last written, and what it says is not to be trusted. */
  readonly inUse: boolean;
  /** Whoever writes the disk has to keep it. */
  readonly auto: boolean;
  /** Whether a bitmap with extra data that are not known may be used. */
  readonly extraDataCompatible: boolean;
  readonly granularityBits: number;
  readonly extraData: Uint8Array;
}

/** What the entries are checked against. */
export interface DirectoryShape {
  readonly count: number;
  readonly clusterSize: number;
  /** Bytes of the disk. */
  readonly diskSize: number;
}

/** Null for an image without bitmaps, or with some that nothing vouches for. Throws `BAD_IMAGE`. */
export function bitmapsExtensionOf(
  header: Pick<Header, 'autoclear' | 'extensions' | 'clusterBits'>,
): BitmapsExtension | null {
  const extension = findExtension(header.extensions, EXTENSION_BITMAPS);
  if ((header.autoclear & AUTOCLEAR_BITMAPS) === 0n || extension === undefined) return null;
  return decodeBitmapsExtension(extension.data, 2 ** header.clusterBits);
}

/** Throws `BAD_IMAGE` or `LIMIT`. */
export function decodeBitmapsExtension(data: Uint8Array, clusterSize: number): BitmapsExtension {
  if (data.length !== EXTENSION_BYTES) {
    throw new Qcow2Error(
      'BAD_IMAGE',
      `the bitmaps extension has ${data.length} bytes; it must have ${EXTENSION_BYTES}`,
    );
  }
  const view = viewOf(data);
  const count = view.getUint32(0);
  const reserved = view.getUint32(4);
  const directoryBytes = getUint64(view, 8, 'bitmap_directory_size');
  const directoryOffset = getUint64(view, 16, 'bitmap_directory_offset');
  if (count === 0 || count > MAX_BITMAPS) {
    throw new Qcow2Error('BAD_IMAGE', `nb_bitmaps is ${count}; it must be 1 to ${MAX_BITMAPS}`);
  }
  if (reserved !== 0) {
    throw new Qcow2Error('BAD_IMAGE', `the reserved field of the bitmaps extension is ${hex(reserved)}; it must be 0`);
  }
  if (directoryBytes === 0 || directoryBytes > MAX_BITMAP_DIRECTORY_BYTES) {
    const limits = `it must be 1 to ${MAX_BITMAP_DIRECTORY_BYTES}`;
    throw new Qcow2Error('BAD_IMAGE', `bitmap_directory_size is ${directoryBytes}; ${limits}`);
  }
  if (directoryOffset === 0 || directoryOffset % clusterSize !== 0) {
    const limits = `it must be a multiple of the cluster size ${clusterSize}, and not 0`;
    throw new Qcow2Error('BAD_IMAGE', `bitmap_directory_offset is ${hex(directoryOffset)}; ${limits}`);
  }
  return { count, directoryBytes, directoryOffset };
}

export function encodeBitmapsExtension({ count, directoryBytes, directoryOffset }: BitmapsExtension): Uint8Array {
  const data = new Uint8Array(EXTENSION_BYTES);
  const view = viewOf(data);
  view.setUint32(0, count);
  setUint64(view, 8, directoryBytes);
  setUint64(view, 16, directoryOffset);
  return data;
}

/** Throws `BAD_IMAGE` or `LIMIT` for a directory of which any entry breaks a rule. */
export function decodeBitmapDirectory(directory: Uint8Array, shape: DirectoryShape): BitmapEntry[] {
  const entries: BitmapEntry[] = [];
  const names = new Set<string>();
  let at = 0;
  while (at < directory.length && entries.length < shape.count) {
    const what = `entry ${entries.length} of the bitmap directory`;
    const { entry, end } = decodeEntry(directory, at, what);
    checkEntry(entry, shape, what);
    // Names that are no UTF-8 are told apart by their bytes.
    const key = String.fromCharCode(...entry.nameBytes);
    if (names.has(key)) throw new Qcow2Error('BAD_IMAGE', `${what} has a name that another has: ${quoted(entry)}`);
    names.add(key);
    entries.push(entry);
    at = end;
  }
  if (at === directory.length && entries.length === shape.count) return entries;
  const found = `the bitmap directory has ${entries.length} entries in ${at} of its ${directory.length} bytes`;
  throw new Qcow2Error('BAD_IMAGE', `${found}; it must have ${shape.count}, and nothing behind them`);
}

export function encodeBitmapDirectory(entries: readonly BitmapEntry[]): Uint8Array {
  const lengths = entries.map((entry) => bitmapEntryBytes(entry));
  const directory = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
  const view = viewOf(directory);
  let at = 0;
  entries.forEach((entry, index) => {
    const { nameBytes, extraData } = entry;
    setUint64(view, at, entry.tableOffset);
    view.setUint32(at + 8, entry.tableEntries);
    view.setUint32(at + FLAGS_AT, flagsOf(entry));
    view.setUint8(at + 16, TYPE_DIRTY_TRACKING);
    view.setUint8(at + 17, entry.granularityBits);
    view.setUint16(at + 18, nameBytes.length);
    view.setUint32(at + 20, extraData.length);
    directory.set(extraData, at + ENTRY_BYTES);
    directory.set(nameBytes, at + ENTRY_BYTES + extraData.length);
    at += lengths[index]!;
  });
  return directory;
}

/** Bytes that an entry takes in the directory. */
export function bitmapEntryBytes({ nameBytes, extraData }: Pick<BitmapEntry, 'nameBytes' | 'extraData'>): number {
  return alignUp(ENTRY_BYTES + extraData.length + nameBytes.length, 8);
}

/** What is no UTF-8 reads as U+FFFD, and a byte order mark stays. */
export function decodeBitmapName(nameBytes: Uint8Array): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(nameBytes);
}

/** Null for a name that would not come back: half a surrogate pair becomes another character, and QEMU's strings end at a NUL. */
export function encodeBitmapName(name: string): Uint8Array | null {
  const nameBytes = new TextEncoder().encode(name);
  return !name.includes('\0') && decodeBitmapName(nameBytes) === name ? nameBytes : null;
}

/** Bytes of a bitmap for a disk of `diskSize` bytes. */
export function bitmapBytes(diskSize: number, granularityBits: number): number {
  return divideUp(divideUp(diskSize, 2 ** granularityBits), 8);
}

function flagsOf({ inUse, auto, extraDataCompatible }: BitmapEntry): number {
  const compatible = extraDataCompatible ? FLAG_EXTRA_DATA_COMPATIBLE : 0;
  return (inUse ? FLAG_IN_USE : 0) | (auto ? FLAG_AUTO : 0) | compatible;
}

/** The entry at `at`, and where the next begins. */
function decodeEntry(
  directory: Uint8Array,
  at: number,
  what: string,
): { readonly entry: BitmapEntry; readonly end: number } {
  const view = viewOf(directory);
  const rest = directory.length - at;
  if (rest < ENTRY_BYTES) {
    throw new Qcow2Error('BAD_IMAGE', `${what} is cut short: ${rest} bytes are left, it needs ${ENTRY_BYTES}`);
  }
  const flags = view.getUint32(at + FLAGS_AT);
  const type = view.getUint8(at + 16);
  const nameLength = view.getUint16(at + 18);
  const extraLength = view.getUint32(at + 20);
  const nameAt = at + ENTRY_BYTES + extraLength;
  const end = alignUp(nameAt + nameLength, 8);
  if (end > directory.length) {
    const parts = `${nameLength} bytes of name and ${extraLength} of extra data`;
    throw new Qcow2Error('BAD_IMAGE', `${what} has ${parts}; ${rest - ENTRY_BYTES} bytes are left for both`);
  }
  if ((flags & ~KNOWN_FLAGS) >>> 0 !== 0) {
    throw new Qcow2Error('BAD_IMAGE', `flags of ${what} are ${hex(flags)}; bits 3 to 31 must be 0`);
  }
  if (type !== TYPE_DIRTY_TRACKING) throw new Qcow2Error('BAD_IMAGE', `type of ${what} is ${type}; it must be 1`);
  const nameBytes = directory.slice(nameAt, nameAt + nameLength);
  const entry: BitmapEntry = {
    name: decodeBitmapName(nameBytes),
    nameBytes,
    tableOffset: getUint64(view, at, 'bitmap_table_offset'),
    tableEntries: view.getUint32(at + 8),
    inUse: (flags & FLAG_IN_USE) !== 0,
    auto: (flags & FLAG_AUTO) !== 0,
    extraDataCompatible: (flags & FLAG_EXTRA_DATA_COMPATIBLE) !== 0,
    granularityBits: view.getUint8(at + 17),
    extraData: directory.slice(at + ENTRY_BYTES, nameAt),
  };
  return { entry, end };
}

function checkEntry(entry: BitmapEntry, { clusterSize, diskSize }: DirectoryShape, what: string): void {
  const { tableOffset, tableEntries, granularityBits, nameBytes, inUse } = entry;
  const refuse = (field: string, value: number | string, limit: string): never => {
    throw new Qcow2Error('BAD_IMAGE', `${field} of ${what} is ${value}; it must be ${limit}`);
  };
  if (tableOffset === 0 || tableOffset % clusterSize !== 0) {
    refuse('bitmap_table_offset', hex(tableOffset), `a multiple of the cluster size ${clusterSize}, and not 0`);
  }
  const most = MAX_BITMAP_BYTES / clusterSize;
  if (tableEntries === 0 || tableEntries > most) refuse('bitmap_table_size', tableEntries, `1 to ${most}`);
  if (granularityBits < MIN_GRANULARITY_BITS || granularityBits > MAX_GRANULARITY_BITS) {
    refuse('granularity_bits', granularityBits, `${MIN_GRANULARITY_BITS} to ${MAX_GRANULARITY_BITS}`);
  }
  if (nameBytes.length === 0 || nameBytes.length > MAX_BITMAP_NAME_BYTES) {
    refuse('name_size', nameBytes.length, `1 to ${MAX_BITMAP_NAME_BYTES}`);
  }
  // One that is out of date may be for a disk of another size.
  const needed = divideUp(bitmapBytes(diskSize, granularityBits), clusterSize);
  if (!inUse && tableEntries < needed) {
    refuse('bitmap_table_size', tableEntries, `at least ${needed} for a disk of ${diskSize} bytes`);
  }
}

function quoted({ name }: BitmapEntry): string {
  return JSON.stringify(name);
}
