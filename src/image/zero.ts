/**
 * Zeroes and discards: changes of the map alone, as far as whole clusters are meant.
 *
 * - Writing zeroes, version 3: clusters get the zero flag. A cluster covered in part is taken whole when the rest of it
 *   reads as zeroes already; otherwise real zeroes are written to the part. Version 2 has no zero flag: real zeroes.
 * - Discard: a hint. Clusters covered in part are left alone, but for the tail of the disk. A cluster then reads as
 *   zeroes. Version 2 over a backing file ignores it, as QEMU does since 5.1: old backing data would show through.
 */
import type { Disk, GuestOffset } from '../disk.js';
import type { L2Tables } from '../metadata/l2-tables.js';
import { alignDown, alignUp } from '../util/integers.js';

export interface ZeroTarget {
  readonly disk: Disk;
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly hasBacking: boolean;
  readonly l2: L2Tables;
}

/** At most this many zero bytes are written at once. */
const ZERO_CHUNK = 1024 * 1024;

export function zeroRange(
  target: ZeroTarget,
  offset: GuestOffset,
  length: number,
  options: { readonly unmap: boolean },
): void {
  const end = offset + length;
  makeEdgesResident(target, offset, end);
  if (target.version === 2) {
    writeRealZeroes(target, offset, end);
    return;
  }
  const { clusterSize, disk } = target;
  let start = alignDown(offset, clusterSize);
  let stop = Math.min(disk.size, alignUp(end, clusterSize));
  if (start < offset && !readsAsZeroes(disk, start, offset)) {
    start = Math.min(end, alignUp(offset, clusterSize));
    writeRealZeroes(target, offset, start);
  }
  if (stop > end && stop > start && !readsAsZeroes(disk, end, stop)) {
    stop = Math.max(start, alignDown(end, clusterSize));
    writeRealZeroes(target, stop, end);
  }
  if (stop > start) zeroClusters(target, Math.floor(start / clusterSize), Math.ceil(stop / clusterSize), options.unmap);
}

function zeroClusters(target: ZeroTarget, first: number, end: number, unmap: boolean): void {
  for (let cluster = first; cluster < end;) {
    const run = target.l2.run(cluster, end - cluster);
    const already = run.kind === 'zero' || (run.kind === 'zero-allocated' && !unmap);
    const empty = run.kind === 'unallocated' && !target.hasBacking;
    if (!already && !empty) target.l2.linkZero(cluster, run.count, { keep: !unmap });
    cluster += run.count;
  }
}

/**
 * Reads the clusters that the range covers in part. What copy-on-write will need of them is then here, so that nothing
 * can fault once the first of them has been changed.
 */
function makeEdgesResident(target: ZeroTarget, start: GuestOffset, end: GuestOffset): void {
  const { clusterSize, disk } = target;
  if (!target.hasBacking) return;
  for (const edge of [start, end]) {
    if (edge % clusterSize === 0) continue;
    const from = alignDown(edge, clusterSize);
    disk.read(from, new Uint8Array(Math.min(disk.size, from + clusterSize) - from));
  }
}

function readsAsZeroes(disk: Disk, start: GuestOffset, end: GuestOffset): boolean {
  for (const extent of disk.extents(start, end - start)) {
    if (extent.kind !== 'zero' && extent.kind !== 'unallocated') return false;
  }
  return true;
}

function writeRealZeroes(target: ZeroTarget, start: GuestOffset, end: GuestOffset): void {
  const { clusterSize, disk } = target;
  // Whole clusters at a time: nothing of a cluster has to be carried over for the part that comes next.
  const step = alignUp(ZERO_CHUNK, clusterSize);
  for (let at = start; at < end;) {
    const stop = Math.min(end, alignDown(at, clusterSize) + step);
    // What is nowhere stored needs no cluster to be zero.
    if (target.hasBacking || !readsAsZeroes(disk, at, stop)) disk.write(at, new Uint8Array(stop - at));
    at = stop;
  }
}

export function discardRange(target: ZeroTarget, offset: GuestOffset, length: number): void {
  const { clusterSize, disk } = target;
  if (target.version === 2 && target.hasBacking) return;
  const end = offset + length;
  const first = Math.ceil(offset / clusterSize);
  const last = end === disk.size ? Math.ceil(end / clusterSize) : Math.floor(end / clusterSize);
  for (let cluster = first; cluster < last;) {
    const run = target.l2.run(cluster, last - cluster);
    discardRun(target, run.kind, cluster, run.count);
    cluster += run.count;
  }
}

function discardRun(target: ZeroTarget, kind: string, cluster: number, count: number): void {
  if (kind === 'zero') return;
  if (kind === 'unallocated' && !target.hasBacking) return;
  if (target.version === 3) target.l2.linkZero(cluster, count, { keep: false });
  else if (kind !== 'unallocated') target.l2.unlink(cluster, count);
}
