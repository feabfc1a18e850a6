/**
 * Bitmap writer: puts the bitmaps of an image into the file (spec, "Bitmaps"). All that changes goes to a new place, and the
 * header, which alone says where the directory lies, is the switch:
 *
 *   data clusters, tables, directory -> flush (refcounts and all of these) -> header -> |barrier| -> what is old is freed
 *
 * A crash before the switch leaves the old directory, in which every bitmap that is out of date is marked so; the new clusters
 * leak. A table whose bits have not changed stays where it is. Clusters of the data that are all zeroes or all ones are not stored,
 * but for a last one that is not full: what it has behind the end must be zero.
 */
import type { HostOffset } from '../disk.js';
import { isQcow2Error, Qcow2Error } from '../errors.js';
import { encodeBitmapDirectory, encodeBitmapsExtension, type BitmapEntry } from '../format/bitmap-directory.js';
import {
  ALL_ONES,
  ALL_ZEROES,
  BITMAP_TABLE_ENTRY_BYTES,
  encodeBitmapTable,
  namesCluster,
} from '../format/bitmap-table.js';
import { withExtension } from '../format/extension-order.js';
import { AUTOCLEAR_BITMAPS } from '../format/features.js';
import { EXTENSION_BITMAPS } from '../format/header-extensions.js';
import { MAX_BITMAP_DIRECTORY_BYTES } from '../format/limits.js';
import { isZero } from '../util/bytes.js';
import { divideUp } from '../util/integers.js';
import type { DirtyBits } from './dirty-bits.js';
import { readBitmapDirectory, readBitmapTable, type BitmapTables } from './stored-bitmaps.js';

/** A bitmap that is to be in the directory. */
export interface BitmapToStore {
  readonly entry: BitmapEntry;
  /** To be written; null where the table that `entry` names is right. */
  readonly bits: DirtyBits | null;
}

interface Place {
  readonly host: HostOffset;
  /** Bytes. */
  readonly length: number;
}

/** The clusters of one bitmap: what its table says, with the places of those that are stored. */
interface Layout {
  readonly bits: DirtyBits;
  readonly table: Float64Array;
}

/**
 * From now on the image has these bitmaps. Stable when it returns; what is old is free at the next flush. Returns the entries as
 * they were written. Throws `LIMIT`, `NO_SPACE` and `IO`; the image has its old bitmaps then.
 */
export function storeBitmaps(tables: BitmapTables, next: readonly BitmapToStore[]): BitmapEntry[] {
  tables.header.beforeChange();
  // What the guest has written must not depend on whether there is room for bitmaps.
  tables.writable!.order.flush();
  const old = readOld(tables);
  const writer = new BitmapWriter(tables);
  let entries: BitmapEntry[];
  try {
    entries = writer.write(next);
  } catch (error) {
    writer.giveBack();
    throw error;
  }
  if (old === null) return entries;
  tables.writable!.allocator.free(old.directoryOffset, old.directoryBytes);
  const kept = new Set(entries.map(({ tableOffset }) => tableOffset));
  for (const entry of old.entries) if (!kept.has(entry.tableOffset)) freeTable(tables, entry);
  return entries;
}

/** Null for none, and for a directory that has been damaged since it was read: what it named leaks. */
function readOld({ storage, header }: BitmapTables): ReturnType<typeof readBitmapDirectory> {
  try {
    return readBitmapDirectory(storage, header.value);
  } catch (error) {
    if (isQcow2Error(error, 'BAD_IMAGE') || isQcow2Error(error, 'LIMIT')) return null;
    throw error;
  }
}

/** A table that is damaged names what may be anything, and leaks. */
function freeTable({ storage, geometry, writable }: BitmapTables, entry: BitmapEntry): void {
  const { clusterSize } = geometry;
  try {
    const table = readBitmapTable(storage, entry, clusterSize);
    for (const place of table) if (namesCluster(place)) writable!.allocator.free(place, clusterSize);
    writable!.allocator.free(entry.tableOffset, table.length * BITMAP_TABLE_ENTRY_BYTES);
  } catch (error) {
    if (!isQcow2Error(error, 'BAD_IMAGE')) throw error;
  }
}

class BitmapWriter {
  readonly #tables: BitmapTables;
  /** Places taken, to be given back if it comes to nothing. */
  readonly #taken: Place[] = [];

  constructor(tables: BitmapTables) {
    this.#tables = tables;
  }

  write(next: readonly BitmapToStore[]): BitmapEntry[] {
    const layouts = next.map(({ bits }) => bits && this.#layOut(bits));
    const entries = next.map(({ entry }, index) => {
      const layout = layouts[index];
      return layout == null ? entry : { ...entry, ...this.#placeTable(layout) };
    });
    const directory = encodeBitmapDirectory(entries);
    if (directory.length > MAX_BITMAP_DIRECTORY_BYTES) {
      const limit = `the limit is ${MAX_BITMAP_DIRECTORY_BYTES}`;
      throw new Qcow2Error('LIMIT', `the bitmap directory would have ${directory.length} bytes; ${limit}`);
    }
    const directoryOffset = this.#take(directory.length);
    this.#reserve();
    layouts.forEach((layout, index) => {
      if (layout !== null) this.#writeBitmap(layout, entries[index]!.tableOffset);
    });
    this.#write(directoryOffset, directory);
    this.#tables.writable!.order.flush();
    this.#switch(entries.length, directory.length, directoryOffset);
    return entries;
  }

  /** A storage that has failed takes no more; what was taken has leaked. */
  giveBack(): void {
    if (this.#tables.storage.poisoned) return;
    for (const { host, length } of this.#taken) this.#tables.writable!.allocator.free(host, length);
  }

  #layOut(bits: DirtyBits): Layout {
    const { clusterSize } = this.#tables.geometry;
    const table = new Float64Array(divideUp(bits.byteLength, clusterSize));
    const cluster = new Uint8Array(clusterSize);
    for (let index = 0; index < table.length; index++) {
      bits.pack(index * clusterSize, cluster);
      if (isZero(cluster)) table[index] = ALL_ZEROES;
      else table[index] = cluster.every((byte) => byte === 0xff) ? ALL_ONES : this.#take(clusterSize);
    }
    return { bits, table };
  }

  #placeTable({ table }: Layout): Pick<BitmapEntry, 'tableOffset' | 'tableEntries'> {
    return { tableOffset: this.#take(table.length * BITMAP_TABLE_ENTRY_BYTES), tableEntries: table.length };
  }

  #writeBitmap({ bits, table }: Layout, tableOffset: HostOffset): void {
    const { geometry, storage } = this.#tables;
    const cluster = new Uint8Array(geometry.clusterSize);
    table.forEach((place, index) => {
      if (!namesCluster(place)) return;
      bits.pack(index * cluster.length, cluster);
      storage.write(place, cluster);
    });
    this.#write(tableOffset, encodeBitmapTable(table));
  }

  #switch(count: number, directoryBytes: number, directoryOffset: HostOffset): void {
    const { header } = this.#tables;
    const { value } = header;
    const extension = count === 0 ? null : encodeBitmapsExtension({ count, directoryBytes, directoryOffset });
    const others = value.autoclear & ~AUTOCLEAR_BITMAPS;
    header.rewrite({
      ...value,
      extensions: withExtension(value.extensions, EXTENSION_BITMAPS, extension),
      autoclear: extension === null ? others : others | AUTOCLEAR_BITMAPS,
    });
  }

  /** Room for `length` bytes; 0 for none. */
  #take(length: number): HostOffset {
    const clusters = divideUp(length, this.#tables.geometry.clusterSize);
    if (clusters === 0) return 0;
    const host = this.#tables.writable!.allocator.allocateContiguous(clusters);
    this.#taken.push({ host, length });
    return host;
  }

  /** Where the host has no room, that comes out before anything is written, and the image stays of use. */
  #reserve(): void {
    const { storage, geometry } = this.#tables;
    const ends = this.#taken.map(({ host, length }) => host + length);
    const highest = ends.reduce((one, other) => Math.max(one, other), 0);
    storage.reserve(divideUp(highest, geometry.clusterSize) * geometry.clusterSize);
  }

  /** Whole clusters. */
  #write(host: HostOffset, bytes: Uint8Array): void {
    const { geometry, caches, storage } = this.#tables;
    const whole = new Uint8Array(divideUp(bytes.length, geometry.clusterSize) * geometry.clusterSize);
    whole.set(bytes);
    for (const cache of caches) cache.forget(host, whole.length);
    if (whole.length > 0) storage.write(host, whole);
  }
}
