/**
 * Growing a disk. What is new reads as zeroes, whatever lay behind the old end: leftovers of the last cluster, a backing disk
 * that is longer, entries that a larger disk left in the tables.
 *
 *   L1 table with room -> leftovers and backing data made zeroes -> preallocation -> |barrier| -> size
 *
 * The size is published last, in one sector with the place of the L1 table: after a crash the disk has its old size, or the
 * new one and zeroes there. What has been prepared behind an end that did not move is dropped by the next resize.
 */
import type { Disk, GuestOffset } from '../disk.js';
import { hasDataFile, isDataFileRaw } from '../format/header.js';
import type { ChangeableTables, ChangeTarget } from '../metadata/changeable-tables.js';
import { alignUp } from '../util/integers.js';
import { runToEnd, sequence, singleStep, stepsOf, type Steps } from '../util/steps.js';
import { preallocate, type Preallocation } from './preallocate.js';
import { unmapFrom } from './unmap-from.js';

export interface GrowTarget extends ChangeTarget {
  readonly backing: Disk | null;
  /** Like `Disk.write`, but for the end: it goes as far as the L1 table does. */
  writeAnywhere(offset: GuestOffset, source: Uint8Array): void;
}

/** Runs of entries that one step looks at, and bytes that it writes for one of them at most. */
const RUNS_PER_STEP = 256;
const WRITE_BYTES = 256 * 1024;

/** Grows the disk to `size` bytes, a multiple of 512 that the L1 table can hold. */
export function growDisk(target: GrowTarget, size: number, preallocation: Preallocation = 'off'): Steps {
  const header = target.changeableTables().header.value;
  const old = header.size;
  const backingSize = target.backing?.size ?? 0;
  // A raw data file answers for clusters that have no entry, too; QEMU gives every one of them its entry.
  const mode = preallocation === 'off' && isDataFileRaw(header) ? 'metadata' : preallocation;
  const jobs = sequence([
    () => singleStep('making room in the L1 table', () => target.changeableTables().growL1(size)),
    () => singleStep('growing the data file', () => growDataFile(target.changeableTables(), old, size)),
    () => zeroBetween(target, old, size),
    () => preallocate(target, { from: old, to: size, mode, backingSize }),
    () => singleStep('publishing the size', () => publishSize(target.changeableTables(), size)),
  ]);
  return stepsOf(
    () => {
      const step = jobs.next();
      return step.done === true ? null : step.value;
    },
    // Given up: nothing should be left behind the end, which has not moved yet.
    () => runToEnd(unmapFrom(target, target.changeableTables().header.value.size)),
  );
}

/** To be called before a resize begins: in the file bitmaps are for a disk of one size. */
export function prepareResize(tables: ChangeableTables): void {
  tables.beforeGuestChange();
  tables.bitmaps.beforeResize(tables);
}

/**
 * Gives the disk its size; what the L1 table maps of it is stable then. Bitmaps may have been added or stored since the resize began:
 * none in the file may be valid for a disk of the old size.
 */
export function publishSize(tables: ChangeableTables, size: number): void {
  const { writable, l1, bitmaps } = tables;
  bitmaps.checkResize(tables, size);
  bitmaps.beforeResize(tables);
  writable.order.publishSizeAndL1(size, l1.offset, l1.entries);
  bitmaps.resize(size);
}

/** What an external data file holds behind the old end goes. */
function growDataFile(tables: ChangeableTables, old: number, size: number): void {
  if (!hasDataFile(tables.header.value)) return;
  if (tables.data.size > old) tables.data.truncate(old);
  tables.data.truncate(size);
}

/** Makes guest bytes `old .. size`, which are behind the end of the disk, read as zeroes. */
function zeroBetween(target: GrowTarget, old: number, size: number): Steps {
  const { clusterSize } = target.changeableTables().geometry;
  const end = alignUp(size, clusterSize);
  let at = old;
  return stepsOf(() => {
    if (at >= end) return null;
    for (let runs = 0; runs < RUNS_PER_STEP && at < end; runs++) {
      const inside = at % clusterSize !== 0;
      const stop = inside ? alignUp(at, clusterSize) : end;
      at += inside ? zeroInCluster(target, at, stop) : zeroClusters(target, at, stop);
    }
    return { done: at - old, total: end - old, what: 'zeroing what is new' };
  });
}

/** Inside the cluster that the old end lies in. Returns how many bytes are done. */
function zeroInCluster(target: GrowTarget, at: GuestOffset, stop: GuestOffset): number {
  const run = target.changeableTables().l2.runAt(at, stop - at);
  const shows = run.kind === 'unallocated' && at < (target.backing?.size ?? 0);
  if (run.kind === 'data' || run.kind === 'compressed' || shows) {
    target.writeAnywhere(at, new Uint8Array(run.length));
  }
  return run.length;
}

/** From a cluster's start on. Returns how many bytes are done, whole clusters. */
function zeroClusters(target: GrowTarget, at: GuestOffset, stop: GuestOffset): number {
  const { l2, geometry, header } = target.changeableTables();
  const { clusterSize } = geometry;
  const run = l2.runAt(at, stop - at);
  const backingEnd = alignUp(target.backing?.size ?? 0, clusterSize);
  const empty = run.kind === 'zero' || (run.kind === 'unallocated' && run.reserved === null);
  const shown = at < backingEnd && run.kind !== 'zero';
  const clusters = Math.max(1, Math.floor(run.length / clusterSize));
  if (empty && !shown && run.length >= clusterSize) return clusters * clusterSize;
  if (!shown) {
    l2.unlink(at / clusterSize, clusters);
    return clusters * clusterSize;
  }
  const count = Math.min(clusters, (backingEnd - at) / clusterSize);
  if (header.value.version === 3) {
    l2.linkZero(at / clusterSize, count, { keep: false });
    return count * clusterSize;
  }
  const length = Math.min(count * clusterSize, alignUp(WRITE_BYTES, clusterSize));
  target.writeAnywhere(at, new Uint8Array(length));
  return length;
}
