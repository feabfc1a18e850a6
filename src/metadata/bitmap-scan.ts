/**
 * Bitmap scan: counts the clusters of persistent bitmaps: the directory, each table, the data (spec, "Bitmaps"). Only where
 * the autoclear bit vouches for the extension; otherwise its clusters are leaks.
 *
 *   directory entry   0 table offset (8)   8 table entries   12 flags   16 type   17 granularity bits
 *                    18 name bytes (2)    20 extra bytes     24 extra data, name, padding to 8
 */
import { AUTOCLEAR_BITMAPS } from '../format/features.js';
import { EXTENSION_BITMAPS, findExtension } from '../format/header-extensions.js';
import { viewOf } from '../util/big-endian.js';
import { alignUp, divideUp, hex } from '../util/integers.js';
import type { ImageUnderCheck } from './image-under-check.js';
import type { ReferenceSink } from './reference-sink.js';

const EXTENSION_BYTES = 24;
const DIRECTORY_ENTRY_BYTES = 24;
/** As QEMU's limits: bitmaps of an image, bytes of their directory, bytes of the clusters that one table can name. */
const MOST_BITMAPS = 65535;
const MOST_DIRECTORY_BYTES = MOST_BITMAPS * 1024;
const MOST_BITMAP_BYTES = 0x2000_0000;
/** Table entries read in one step. */
const ENTRIES_A_STEP = 1 << 16;
const HIGH_RESERVED = 0xff00_0000;

interface BitmapTable {
  readonly offset: number;
  readonly entries: number;
}

export class BitmapScan {
  readonly #image: ImageUnderCheck;
  readonly #sink: ReferenceSink;
  #tables: readonly BitmapTable[] | null = null;
  #table = 0;
  #entry = 0;

  constructor(image: ImageUnderCheck, sink: ReferenceSink) {
    this.#image = image;
    this.#sink = sink;
  }

  /** One bounded piece of work; false when there is none left. */
  step(): boolean {
    if (this.#tables === null) {
      this.#tables = this.#readDirectory();
      return true;
    }
    const table = this.#tables[this.#table];
    if (table === undefined) return false;
    const inFile = this.#entriesInFile(table);
    const count = Math.min(ENTRIES_A_STEP, inFile - this.#entry);
    const bytes = this.#image.read(table.offset + this.#entry * 8, count * 8);
    if (this.#entry === 0) this.#sink.add(table.offset, table.entries * 8, () => 'a bitmap table');
    this.#scanEntries(bytes, table.offset + this.#entry * 8);
    this.#entry += count;
    if (this.#entry >= inFile) {
      this.#table++;
      this.#entry = 0;
    }
    return true;
  }

  /** What lies past the end of the file reads as zeroes, and names nothing. */
  #entriesInFile({ offset, entries }: BitmapTable): number {
    return Math.min(entries, Math.max(0, divideUp(this.#image.storage.size - offset, 8)));
  }

  #readDirectory(): readonly BitmapTable[] {
    const { autoclear, extensions } = this.#image.header;
    const extension = findExtension(extensions, EXTENSION_BITMAPS);
    if ((autoclear & AUTOCLEAR_BITMAPS) === 0n || extension === undefined) return [];
    if (extension.data.length < EXTENSION_BYTES) return this.#refuse(0, 'the bitmaps extension is cut short');
    const view = viewOf(extension.data);
    const count = view.getUint32(0);
    const length = view.getUint32(8) * 0x1_0000_0000 + view.getUint32(12);
    const offset = view.getUint32(16) * 0x1_0000_0000 + view.getUint32(20);
    const aligned = offset % this.#image.clusterSize === 0;
    if (!aligned || count === 0 || count > MOST_BITMAPS || length > MOST_DIRECTORY_BYTES) {
      const what = `${count} bitmaps in ${length} bytes at ${hex(offset)}`;
      return this.#refuse(offset, `the bitmaps extension names ${what}, which can't be`);
    }
    const directory = this.#image.read(offset, length);
    this.#sink.add(offset, length, () => 'the bitmap directory');
    const tables = decodeDirectory(directory, count, this.#image.clusterSize);
    return tables ?? this.#refuse(offset, `the bitmap directory at ${hex(offset)} is damaged`);
  }

  #refuse(offset: number, message: string): readonly BitmapTable[] {
    this.#sink.corruption('bitmaps', offset, () => message);
    this.#sink.checkError(offset, () => 'the clusters of the bitmaps could not be counted');
    return [];
  }

  /** A table with a bad entry is not believed further: what it names may be anything. */
  #scanEntries(bytes: Uint8Array, offset: number): void {
    const { clusterSize } = this.#image;
    const view = viewOf(bytes);
    for (let at = 0; at < bytes.length; at += 8) {
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      const flags = low & 0x1ff;
      const host = (high & ~HIGH_RESERVED) * 0x1_0000_0000 + low - flags;
      const wrongFlags = (high & HIGH_RESERVED) !== 0 || (flags !== 0 && (flags !== 1 || host !== 0));
      if (wrongFlags || host % clusterSize !== 0) {
        this.#refuse(offset + at, `the bitmap table entry at ${hex(offset + at)} is damaged`);
        return;
      }
      if (host !== 0) this.#sink.add(host, clusterSize, () => 'the data of a bitmap');
    }
  }
}

/** Null for a directory whose entries do not fill it exactly, or with a table that can't be. */
function decodeDirectory(directory: Uint8Array, count: number, clusterSize: number): readonly BitmapTable[] | null {
  const view = viewOf(directory);
  const tables: BitmapTable[] = [];
  let at = 0;
  while (at + DIRECTORY_ENTRY_BYTES <= directory.length) {
    const offset = view.getUint32(at) * 0x1_0000_0000 + view.getUint32(at + 4);
    const entries = view.getUint32(at + 8);
    if (offset === 0 || offset % clusterSize !== 0 || entries === 0) return null;
    if (entries * clusterSize > MOST_BITMAP_BYTES) return null;
    tables.push({ offset, entries });
    at += alignUp(DIRECTORY_ENTRY_BYTES + view.getUint32(at + 20) + view.getUint16(at + 18), 8);
  }
  return at === directory.length && tables.length === count ? tables : null;
}
