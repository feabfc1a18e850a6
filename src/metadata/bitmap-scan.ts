/**
 * Bitmap scan: counts the clusters of persistent bitmaps: the directory, each table, the data (spec, "Bitmaps"). Only where
 * the autoclear bit vouches for the extension; otherwise its clusters are leaks.
 */
import { isQcow2Error } from '../errors.js';
import { bitmapsExtensionOf, decodeBitmapDirectory, type BitmapEntry } from '../format/bitmap-directory.js';
import { BITMAP_TABLE_ENTRY_BYTES, decodeBitmapTableEntry, namesCluster } from '../format/bitmap-table.js';
import { viewOf } from '../util/big-endian.js';
import { divideUp, hex } from '../util/integers.js';
import type { ImageUnderCheck } from './image-under-check.js';
import type { ReferenceSink } from './reference-sink.js';

/** Table entries read in one step. */
const ENTRIES_A_STEP = 1 << 16;

export class BitmapScan {
  readonly #image: ImageUnderCheck;
  readonly #sink: ReferenceSink;
  #bitmaps: readonly BitmapEntry[] | null = null;
  #index = 0;
  #entry = 0;

  constructor(image: ImageUnderCheck, sink: ReferenceSink) {
    this.#image = image;
    this.#sink = sink;
  }

  /** One bounded piece of work; false when there is none left. */
  step(): boolean {
    if (this.#bitmaps === null) {
      this.#bitmaps = this.#readDirectory();
      return true;
    }
    const bitmap = this.#bitmaps[this.#index];
    if (bitmap === undefined) return false;
    const { tableOffset, tableEntries } = bitmap;
    const inFile = this.#entriesInFile(bitmap);
    const count = Math.min(ENTRIES_A_STEP, inFile - this.#entry);
    const at = tableOffset + this.#entry * BITMAP_TABLE_ENTRY_BYTES;
    const bytes = this.#image.read(at, count * BITMAP_TABLE_ENTRY_BYTES);
    if (this.#entry === 0) {
      this.#sink.add(tableOffset, tableEntries * BITMAP_TABLE_ENTRY_BYTES, () => 'a bitmap table');
    }
    this.#scanEntries(bytes, at);
    this.#entry += count;
    if (this.#entry >= inFile) {
      this.#index++;
      this.#entry = 0;
    }
    return true;
  }

  /** What lies past the end of the file reads as zeroes, and names nothing. */
  #entriesInFile({ tableOffset, tableEntries }: BitmapEntry): number {
    const inFile = divideUp(this.#image.storage.size - tableOffset, BITMAP_TABLE_ENTRY_BYTES);
    return Math.min(tableEntries, Math.max(0, inFile));
  }

  #readDirectory(): readonly BitmapEntry[] {
    const { header, clusterSize } = this.#image;
    let offset = 0;
    try {
      const extension = bitmapsExtensionOf(header);
      if (extension === null) return [];
      const { count, directoryBytes, directoryOffset } = extension;
      offset = directoryOffset;
      const directory = this.#image.read(offset, directoryBytes);
      this.#sink.add(offset, directoryBytes, () => 'the bitmap directory');
      return decodeBitmapDirectory(directory, { count, clusterSize, diskSize: header.size });
    } catch (error) {
      if (!isQcow2Error(error, 'BAD_IMAGE') && !isQcow2Error(error, 'LIMIT')) throw error;
      return this.#refuse(offset, error.message);
    }
  }

  #refuse(offset: number, message: string): readonly BitmapEntry[] {
    this.#sink.corruption('bitmaps', offset, () => message);
    this.#sink.checkError(offset, () => 'the clusters of the bitmaps could not be counted');
    return [];
  }

  /** A table with a bad entry is not believed further: what it names may be anything. */
  #scanEntries(bytes: Uint8Array, offset: number): void {
    const { clusterSize } = this.#image;
    const view = viewOf(bytes);
    for (let at = 0; at < bytes.length; at += BITMAP_TABLE_ENTRY_BYTES) {
      const entry = decodeBitmapTableEntry(view, at, clusterSize);
      if (entry === null) {
        this.#refuse(offset + at, `the bitmap table entry at ${hex(offset + at)} is damaged`);
        return;
      }
      if (namesCluster(entry)) this.#sink.add(entry, clusterSize, () => 'the data of a bitmap');
    }
  }
}
