/**
 * Stored bitmaps: persistent bitmaps as the file has them, read (spec, "Bitmaps"); and their flags, changed in place.
 */
import { Qcow2Error } from '../errors.js';
import {
  bitmapBytes,
  bitmapsExtensionOf,
  decodeBitmapDirectory,
  encodeBitmapDirectory,
  type BitmapEntry,
  type BitmapsExtension,
} from '../format/bitmap-directory.js';
import {
  ALL_ONES,
  ALL_ZEROES,
  BITMAP_TABLE_ENTRY_BYTES,
  decodeBitmapTable,
  namesCluster,
} from '../format/bitmap-table.js';
import type { Geometry } from '../format/geometry.js';
import type { Header } from '../format/header.js';
import type { GuardedStorage } from '../storage/guarded.js';
import type { Storage } from '../storage/storage.js';
import { alignUp, divideUp, hex } from '../util/integers.js';
import type { Allocator } from './allocator.js';
import { DirtyBits } from './dirty-bits.js';
import type { HeaderState } from './header-state.js';
import type { OverlapGuard } from './overlap-guard.js';
import type { TableCache } from './table-cache.js';
import type { WriteOrder } from './write-order.js';

/** What of an image's tables the bitmaps are written with. */
export interface BitmapTables {
  readonly storage: GuardedStorage;
  readonly header: HeaderState;
  readonly geometry: Geometry;
  readonly caches: readonly TableCache[];
  readonly writable: {
    readonly allocator: Allocator;
    readonly order: WriteOrder;
    readonly guard: OverlapGuard;
  } | null;
}

/** The bitmaps that the header leads to; null for none, or where nothing vouches for them. Throws `BAD_IMAGE`, `LIMIT`. */
export function readBitmapDirectory(
  storage: Storage,
  header: Header,
): (BitmapsExtension & { readonly entries: BitmapEntry[] }) | null {
  const extension = bitmapsExtensionOf(header);
  if (extension === null) return null;
  const { count, directoryBytes, directoryOffset } = extension;
  if (directoryOffset + directoryBytes > storage.size) {
    const place = `the bitmap directory lies at ${hex(directoryOffset)} and has ${directoryBytes} bytes`;
    throw new Qcow2Error('BAD_IMAGE', `${place}; the file ends at ${hex(storage.size)}`);
  }
  const directory = new Uint8Array(directoryBytes);
  storage.read(directoryOffset, directory);
  const shape = { count, clusterSize: 2 ** header.clusterBits, diskSize: header.size };
  return { ...extension, entries: decodeBitmapDirectory(directory, shape) };
}

/** Throws `BAD_IMAGE` for a bitmap that is damaged, or not one for this disk. */
export function readBitmapBits(storage: Storage, header: Header, entry: BitmapEntry): DirtyBits {
  const { granularityBits, tableEntries, name } = entry;
  const clusterSize = 2 ** header.clusterBits;
  const bits = new DirtyBits(header.size, 2 ** granularityBits);
  const needed = divideUp(bitmapBytes(header.size, granularityBits), clusterSize);
  if (tableEntries !== needed) {
    const sizes = `the table of bitmap ${JSON.stringify(name)} has ${tableEntries} entries`;
    throw new Qcow2Error('BAD_IMAGE', `${sizes}; a disk of ${header.size} bytes needs ${needed}`);
  }
  const cluster = new Uint8Array(clusterSize);
  readBitmapTable(storage, entry, clusterSize).forEach((place, index) => {
    if (place === ALL_ZEROES) return;
    if (place === ALL_ONES) cluster.fill(0xff);
    else storage.read(place, cluster);
    bits.unpack(index * clusterSize, cluster);
  });
  return bits;
}

/** Where the clusters of a bitmap lie. Throws `BAD_IMAGE`. */
export function readBitmapTable(storage: Storage, entry: BitmapEntry, clusterSize: number): Float64Array {
  const what = `the table of bitmap ${JSON.stringify(entry.name)}`;
  const bytes = new Uint8Array(entry.tableEntries * BITMAP_TABLE_ENTRY_BYTES);
  const limit = alignUp(storage.size, clusterSize);
  const check = (name: string, offset: number, length: number): void => {
    if (offset + length <= limit) return;
    const where = `lies at ${hex(offset)} to ${hex(offset + length)}`;
    throw new Qcow2Error('BAD_IMAGE', `${name} ${where}; the file ends at ${hex(storage.size)}`);
  };
  check(what, entry.tableOffset, bytes.length);
  storage.read(entry.tableOffset, bytes);
  const places = decodeBitmapTable(bytes, clusterSize, what);
  places.forEach((place) => {
    if (namesCluster(place)) check(`a cluster that ${what} names`, place, clusterSize);
  });
  return places;
}

/**
 * Puts the directory with these entries in place of the one that has them now: only their flags may differ. Stable when it
 * returns. Each entry's flags lie in one sector, so that after a crash each is as it was or as it is to be.
 */
export function rewriteFlags({ storage, header, writable }: BitmapTables, entries: readonly BitmapEntry[]): void {
  const { directoryOffset, directoryBytes } = bitmapsExtensionOf(header.value)!;
  const directory = encodeBitmapDirectory(entries);
  writable!.guard.check(directoryOffset, directoryBytes, 'the bitmap directory', 'bitmapDirectory');
  storage.write(directoryOffset, directory);
  storage.flush();
}
