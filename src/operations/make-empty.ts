/**
 * Emptying an image: it maps nothing any more, so that its backing file shows through everywhere, or zeroes. What remains
 * is as good as newly created (QEMU: `bdrv_make_empty`, which a commit ends with).
 *
 * The fast way does not look at the tables at all. It lays the image out anew at the start of its own file:
 *
 *   | header | refcount table | refcount block | L1 table |
 *
 *   dirty bit -> | -> zeroes over the L1 table -> | -> zeroes over the new places -> | -> header: both tables moved
 *     -> | -> refcount block -> | -> refcount table -> file cut -> | -> dirty bit cleared                  (| is a barrier)
 *
 * From the first barrier on the counts may be anything: the dirty bit says so. From the second on the image is empty. Zeroes
 * come before anything else is put where tables were, so that no torn state has a table with foreign entries.
 *
 * That needs version 3 for the dirty bit, and nothing that takes clusters of its own: no snapshots, no bitmaps, no LUKS
 * header, no external data file; and one refcount block must count it all. Otherwise the tables are dropped one by one.
 */
import { isQcow2Error, Qcow2Error } from '../errors.js';
import { cryptoAreaOf, hasDataFile, isDataFileRaw } from '../format/header.js';
import { EXTENSION_BITMAPS, findExtension } from '../format/header-extensions.js';
import { preallocate } from '../image/preallocate.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import { unmapFrom } from '../image/unmap-from.js';
import type { ChangeableTables } from '../metadata/changeable-tables.js';
import { encodeOnes } from '../metadata/refcount-ones.js';
import { shrinkRefcounts } from '../metadata/refcount-shrink.js';
import { setUint64, viewOf } from '../util/big-endian.js';
import { divideUp } from '../util/integers.js';
import { sequence, singleStep, stepsOf, type Steps } from '../util/steps.js';

/** Header, refcount table and refcount block: one cluster each, before the L1 table. */
const CLUSTERS_BEFORE_L1 = 3;

export interface EmptyOptions {
  /** What the image holds is in its backing file by now: the disk reads as before, so bitmaps are not told of a change. */
  readonly committed?: boolean;
}

/** Empties an image opened for writing. */
export function makeEmpty(image: Qcow2Image, { committed = false }: EmptyOptions = {}): Steps {
  if (canLayOutAnew(image.changeableTables())) return singleStep('emptying the image', () => layOutAnew(image));
  return sequence([
    () => unmapMarked(image, committed ? 0 : image.size),
    () => singleStep('shrinking the file', () => shrinkRefcounts(image.changeableTables())),
    () => emptyDataFile(image),
  ]);
}

/** Bitmaps may be stored between two steps, so each step tells them that the first `length` bytes change. */
function unmapMarked(image: Qcow2Image, length: number): Steps {
  const steps = unmapFrom(image, 0);
  return stepsOf(() => {
    image.changeableTables().beforeGuestWrite(0, length);
    const step = steps.next();
    return step.done === true ? null : step.value;
  });
}

function canLayOutAnew({ header, geometry, l1 }: ChangeableTables): boolean {
  const { version, snapshotCount, extensions } = header.value;
  if (version < 3 || snapshotCount > 0 || findExtension(extensions, EXTENSION_BITMAPS)) return false;
  if (cryptoAreaOf(header.value) !== null) return false;
  const clusters = CLUSTERS_BEFORE_L1 + divideUp(l1.entries * 8, geometry.clusterSize);
  return !hasDataFile(header.value) && clusters <= geometry.refcountBlockEntries;
}

function layOutAnew(image: Qcow2Image): void {
  const tables = image.changeableTables();
  const { storage, header } = tables;
  tables.beforeGuestChange();
  tables.writable.order.flush();
  if (!header.dirty) header.setDirty(true);
  storage.flush();
  try {
    putAnewAtStart(tables);
  } catch (error) {
    // Half of it may be there, and no close may call that clean.
    storage.seal(isQcow2Error(error) ? error : new Qcow2Error('IO', 'emptying the image failed', { cause: error }));
    throw error;
  }
  image.reloadTables();
}

/** From the dirty bit to the dirty bit. */
function putAnewAtStart({ storage, header, geometry, l1 }: ChangeableTables): void {
  const { clusterSize } = geometry;
  const l1Bytes = divideUp(l1.entries * 8, clusterSize) * clusterSize;
  const l1Offset = CLUSTERS_BEFORE_L1 * clusterSize;
  const end = l1Offset + l1Bytes;
  storage.announce?.('l1_update');
  storage.write(l1.offset, new Uint8Array(l1Bytes));
  storage.flush();
  storage.announce?.('empty_image_prepare');
  storage.write(clusterSize, new Uint8Array(end - clusterSize));
  storage.flush();
  storage.announce?.('reftable_update');
  header.rewrite({
    ...header.value,
    l1Offset,
    refcountTableOffset: clusterSize,
    refcountTableClusters: 1,
  });
  const block = new Uint8Array(clusterSize);
  encodeOnes(block, geometry.refcountOrder, 0, end / clusterSize);
  storage.announce?.('refblock_alloc');
  storage.write(2 * clusterSize, block);
  storage.flush();
  const entry = new Uint8Array(8);
  setUint64(viewOf(entry), 0, 2 * clusterSize);
  storage.write(clusterSize, entry);
  storage.truncate(end);
  storage.flush();
  header.setDirty(false);
  storage.flush();
}

/** An external data file loses what it holds; one that must be raw reads as zeroes then. */
function emptyDataFile(image: Qcow2Image): Steps {
  const { header, size } = image;
  const mode = isDataFileRaw(header) ? 'metadata' : 'off';
  if (!hasDataFile(header)) return sequence([]);
  return sequence([
    () => singleStep('emptying the data file', () => cutDataFile(image.changeableTables(), size)),
    () => preallocate(image, { from: 0, to: size, mode, backingSize: 0 }),
    () => singleStep('flushing', () => image.flush()),
  ]);
}

function cutDataFile({ data }: ChangeableTables, size: number): void {
  data.truncate(0);
  data.truncate(size);
  data.flush();
}
