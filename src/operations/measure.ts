/**
 * Measuring: how long the file of a new image will be, for a given size (`measureNew`) or for the content of a disk that is
 * to be converted (`measureDisk`). The same as `qemu-img measure -O qcow2` says.
 *
 * - `fullyAllocated`: every cluster of the disk stored, and all metadata for that.
 * - `required`: the same metadata, which is more than is needed, and only the clusters that hold data. A cluster counts
 *   when a part of it does. Compressed clusters count whole, because the new image is taken to be uncompressed.
 *
 * Bitmaps are not counted; their size is given apart, as by QEMU (`measureBitmaps`).
 */
import { luksAreaBytes, type LuksOptions } from '../crypto/luks-create.js';
import type { Disk } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import { bitmapBytes, bitmapEntryBytes } from '../format/bitmap-directory.js';
import { BITMAP_TABLE_ENTRY_BYTES } from '../format/bitmap-table.js';
import { l1EntriesFor, type Geometry } from '../format/geometry.js';
import { SECTOR_BYTES } from '../format/limits.js';
import { checkCreateOptions, type CreateOptions } from '../image/create-options.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import { alignUp, divideUp } from '../util/integers.js';
import type { Progress } from '../util/progress.js';
import { listBitmaps } from './bitmaps/bitmaps.js';
import { blockStatus } from './block-status.js';

/** Those of creating an image that its length depends on. */
type LengthOptions = Pick<CreateOptions, 'clusterSize' | 'version' | 'refcountBits' | 'extendedL2' | 'preallocation'>;

export interface MeasureOptions extends LengthOptions {
  /**
   * The new image will have a backing file. How much of the source it holds is not known, so that all of the source counts
   * as required. Default false.
   */
  readonly hasBacking?: boolean;
  /** The new image will be encrypted with LUKS: its header and key slots take room. Legacy AES takes none. */
  readonly encryption?: LuksOptions;
}

/** Bytes of the image file. */
export interface Measurement {
  readonly required: number;
  readonly fullyAllocated: number;
}

/** Runs looked at in one step. */
const STEP_RUNS = 1024;

/** An image for a new, empty disk of `size` bytes. Throws `BAD_ARGUMENT` or `LIMIT`. */
export function measureNew(size: number, options: MeasureOptions = {}): Measurement {
  return measured(checkedTarget(size, options), options, 0);
}

/**
 * An image for the content of `source`, read through its backing chain.
 *
 * An iterator written by hand: a step that throws `NotResident` can be asked for again (see `copy-disk.ts`). Throws
 * `BAD_ARGUMENT` or `LIMIT` for the options.
 */
export function measureDisk(source: Disk, options: MeasureOptions = {}): IterableIterator<Progress, Measurement> {
  const target = checkedTarget(source.size, options);
  const { clusterSize } = target.geometry;
  const runs = blockStatus(source);
  const total = source.size;
  let required = options.hasBacking === true ? target.size : 0;
  /** All clusters of the new image before it have been judged. */
  let judged = 0;
  let done = options.hasBacking === true ? total : 0;
  return {
    next(): IteratorResult<Progress, Measurement> {
      if (done >= total) return { done: true, value: measured(target, options, required) };
      for (let count = 0; count < STEP_RUNS && done < total; count++) {
        const run = runs.next();
        if (run.done) break;
        done = run.value.start + run.value.length;
        if (!run.value.data) continue;
        const first = Math.max(judged, Math.floor(run.value.start / clusterSize));
        judged = Math.max(judged, divideUp(done, clusterSize));
        required += (judged - first) * clusterSize;
      }
      return { done: false, value: { done, total, what: 'measuring the disk' } };
    },
    [Symbol.iterator]() {
      return this;
    },
  };
}

/**
 * What the bitmaps of `source` take at most in a new image with clusters of `clusterSize` bytes: every one stored whole, its table, and
 * the directory. Throws `BAD_IMAGE` for bitmaps that can't be read.
 */
export function measureBitmaps(source: Qcow2Image, clusterSize: number): number {
  let sum = 0;
  let directory = 0;
  for (const { name, granularity } of listBitmaps(source)) {
    const clusters = divideUp(bitmapBytes(source.size, Math.log2(granularity)), clusterSize);
    sum += clusters * clusterSize + alignUp(clusters * BITMAP_TABLE_ENTRY_BYTES, clusterSize);
    directory += bitmapEntryBytes({ nameBytes: new TextEncoder().encode(name), extraData: new Uint8Array(0) });
  }
  return sum + alignUp(directory, clusterSize);
}

interface Target {
  readonly geometry: Geometry;
  /** Bytes of the disk, rounded up to whole clusters. */
  readonly size: number;
  /** Bytes of the LUKS header with its key slots, rounded up likewise; 0 without. */
  readonly encryptionBytes: number;
}

function measured(target: Target, options: MeasureOptions, dataBytes: number): Measurement {
  const { preallocation = 'off' } = options;
  const metadata = metadataBytes(target) + target.encryptionBytes;
  const allData = preallocation === 'falloc' || preallocation === 'full';
  const fullyAllocated = metadata + target.size;
  if (!Number.isSafeInteger(fullyAllocated)) {
    throw new Qcow2Error('LIMIT', `the file would have ${fullyAllocated} bytes; sizes stop at 2^53 - 1`);
  }
  return { required: metadata + (allData ? target.size : dataBytes), fullyAllocated };
}

/** Header, L1 table, L2 tables, refcount table and blocks of an image in which every cluster is stored. */
function metadataBytes({ geometry, size }: Target): number {
  const { clusterSize } = geometry;
  const l2Tables = l1EntriesFor(geometry, size);
  const l1Clusters = divideUp(l2Tables * 8, clusterSize);
  const counted = 1 + l1Clusters + l2Tables + size / clusterSize;
  return (1 + l1Clusters + l2Tables + refcountClusters(geometry, counted)) * clusterSize;
}

/** Clusters of the refcount blocks and their table that count `clusters` clusters and themselves. */
function refcountClusters(geometry: Geometry, clusters: number): number {
  let own = 0;
  for (;;) {
    const blocks = divideUp(clusters + own, geometry.refcountBlockEntries);
    const needed = blocks + divideUp(blocks * 8, geometry.clusterSize);
    if (needed === own) return own;
    own = needed;
  }
}

/** The size may be any: QEMU takes it so, although it creates whole sectors only. */
function checkedTarget(size: number, { encryption, ...options }: MeasureOptions): Target {
  if (!Number.isSafeInteger(size) || size < 0) {
    throw new Qcow2Error('BAD_ARGUMENT', `size is ${size}; it must be a whole number, 0 or more`);
  }
  const geometry = checkCreateOptions({ ...options, size: alignUp(size, SECTOR_BYTES) });
  const { clusterSize } = geometry;
  const encryptionBytes = encryption === undefined ? 0 : alignUp(luksAreaBytes(encryption), clusterSize);
  return { geometry, size: alignUp(size, clusterSize), encryptionBytes };
}
