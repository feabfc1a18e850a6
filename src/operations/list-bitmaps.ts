/**
 * The persistent bitmaps of an image by name (spec, "Bitmaps"): what their directory says. Their contents are not looked at, and the
 * engine does not keep them.
 *
 *   directory entry   0 table offset (8)   8 table entries   12 flags   16 type   17 granularity bits
 *                    18 name bytes (2)    20 extra bytes     24 extra data, name, padding to 8
 */
import { Qcow2Error } from '../errors.js';
import { AUTOCLEAR_BITMAPS } from '../format/features.js';
import { EXTENSION_BITMAPS, findExtension } from '../format/header-extensions.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import { getUint64, viewOf } from '../util/big-endian.js';
import { alignUp, hex } from '../util/integers.js';

export interface BitmapInfo {
  readonly name: string;
  /** Bytes of the disk that one bit stands for. */
  readonly granularity: number;
  /** It was not closed, and what it says is not to be trusted. */
  readonly inUse: boolean;
  /** Software that opens the image for writing has to keep it. */
  readonly auto: boolean;
}

const FLAG_IN_USE = 1;
const FLAG_AUTO = 2;
const ENTRY_BYTES = 24;
/** As QEMU's limits. */
const MOST_BITMAPS = 65535;
const MOST_DIRECTORY_BYTES = MOST_BITMAPS * 1024;

/** In the order of the directory; none where the autoclear bit does not vouch for it. Throws `BAD_IMAGE` for a damaged one. */
export function listBitmaps({ header, storage }: Pick<Qcow2Image, 'header' | 'storage'>): BitmapInfo[] {
  const extension = findExtension(header.extensions, EXTENSION_BITMAPS);
  if ((header.autoclear & AUTOCLEAR_BITMAPS) === 0n || extension === undefined) return [];
  if (extension.data.length < ENTRY_BYTES) throw damaged('the bitmaps extension is cut short');
  const view = viewOf(extension.data);
  const count = view.getUint32(0);
  const length = getUint64(view, 8, 'bitmap_directory_size');
  const offset = getUint64(view, 16, 'bitmap_directory_offset');
  if (count > MOST_BITMAPS || length > MOST_DIRECTORY_BYTES || offset + length > storage.size) {
    throw damaged(`the bitmaps extension names ${count} bitmaps in ${length} bytes at ${hex(offset)}`);
  }
  const directory = new Uint8Array(length);
  storage.read(offset, directory);
  return decode(directory, count);
}

/** Bytes that an entry for a bitmap of this name takes in the directory. */
export function bitmapEntryBytes(name: string): number {
  return alignUp(ENTRY_BYTES + new TextEncoder().encode(name).length, 8);
}

function decode(directory: Uint8Array, count: number): BitmapInfo[] {
  const view = viewOf(directory);
  const bitmaps: BitmapInfo[] = [];
  let at = 0;
  while (at + ENTRY_BYTES <= directory.length && bitmaps.length < count) {
    const flags = view.getUint32(at + 12);
    const granularityBits = view.getUint8(at + 17);
    const start = at + ENTRY_BYTES + view.getUint32(at + 20);
    const end = start + view.getUint16(at + 18);
    if (end > directory.length || granularityBits > 31)
      throw damaged(`entry ${bitmaps.length} of the bitmap directory`);
    const name = new TextDecoder().decode(directory.subarray(start, end));
    const inUse = (flags & FLAG_IN_USE) !== 0;
    bitmaps.push({ name, granularity: 2 ** granularityBits, inUse, auto: (flags & FLAG_AUTO) !== 0 });
    at = alignUp(end, 8);
  }
  if (bitmaps.length !== count) throw damaged(`the bitmap directory has ${bitmaps.length} entries, not ${count}`);
  return bitmaps;
}

function damaged(what: string): Qcow2Error {
  return new Qcow2Error('BAD_IMAGE', `${what}: the bitmaps of the image can't be listed`);
}
