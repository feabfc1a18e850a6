/**
 * Zeroes and discards: changes of the map alone, as far as whole clusters (or subclusters) are meant.
 *
 * - Writing zeroes, version 3: clusters get the zero flag. One covered in part is taken whole when the rest of it is known
 *   to be zeroes, here or in the backing disks; otherwise real zeroes are written to the part. Version 2 has no zero flag: real zeroes
 *   are written, but where clusters may be given back and there is no backing file, that is enough.
 * - Discard: a hint. Clusters covered in part are left alone, but for the tail of the disk. A cluster then reads as
 *   zeroes. Version 2 over a backing file ignores it, as QEMU does since 5.1: old backing data would show through.
 * - An external data file that is to be raw must read as the disk does, so zeroes are written there as well.
 */
import type { Disk, GuestOffset } from '../disk.js';
import type { L2Tables } from '../metadata/l2-tables.js';
import type { MappedRun } from '../metadata/mapped-run.js';
import type { Storage } from '../storage/storage.js';
import { alignDown, alignUp } from '../util/integers.js';
import { isKnownZero } from './known-zero.js';

export interface ZeroTarget {
  readonly disk: Disk;
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly subclusterSize: number;
  /** The image names a backing file, whether it is open or not, or has been given a backing disk. */
  readonly hasBacking: boolean;
  /** Whether a backing disk is there, from which a part of a cluster may have to come. */
  readonly readsBacking: boolean;
  readonly l2: L2Tables;
  /** The external data file, where it is to be raw. */
  readonly rawData: Storage | null;
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
  if (target.version === 2 && (target.hasBacking || !options.unmap)) {
    writeRealZeroes(target, offset, end);
    return;
  }
  const { subclusterSize, disk } = target;
  let start = alignDown(offset, subclusterSize);
  let stop = Math.min(disk.size, alignUp(end, subclusterSize));
  if (start < offset && !isKnownZero(disk, start, offset)) start = alignUp(offset, subclusterSize);
  if (stop > end && !isKnownZero(disk, end, stop)) stop = alignDown(end, subclusterSize);
  // Both ends in one write, where nothing is between them: their clusters lie in one piece then.
  if (stop <= start) {
    writeRealZeroes(target, offset, end);
    return;
  }
  if (start > offset) writeRealZeroes(target, offset, start);
  if (stop < end) writeRealZeroes(target, stop, end);
  if (target.version === 2) {
    discardRange(target, start, stop - start);
    return;
  }
  writeRawZeroes(target, start, stop);
  zeroUnits(target, start, stop, options.unmap);
}

/** Flags whole clusters, and subclusters at both ends, as zero. */
function zeroUnits(target: ZeroTarget, start: GuestOffset, stop: GuestOffset, unmap: boolean): void {
  const { clusterSize, disk } = target;
  for (let at = start; at < stop;) {
    const run = target.l2.runAt(at, stop - at);
    const already = run.kind === 'zero' || (run.kind === 'zero-allocated' && !unmap);
    if (already) {
      at += run.length;
      continue;
    }
    const cluster = Math.floor(at / clusterSize);
    const rest = Math.min(disk.size, (cluster + 1) * clusterSize);
    if (at > cluster * clusterSize || stop < rest) {
      const to = Math.min(stop, rest);
      zeroPart(target, cluster, at, to);
      at = to;
      continue;
    }
    // Whole clusters of this run, and the one that it ends in, if that is covered too.
    const covered = stop === disk.size ? Math.ceil(stop / clusterSize) : Math.floor(stop / clusterSize);
    const end = Math.min(covered, Math.ceil((at + run.length) / clusterSize));
    target.l2.linkZero(cluster, end - cluster, { keep: !unmap && run.kind !== 'compressed' });
    at = Math.min(stop, end * clusterSize);
  }
}

function zeroPart(target: ZeroTarget, cluster: number, from: GuestOffset, to: GuestOffset): void {
  const start = cluster * target.clusterSize;
  // A compressed cluster has no subclusters to flag.
  if (target.l2.runAt(from, 1).kind === 'compressed') target.disk.write(from, new Uint8Array(to - from));
  else target.l2.linkZeroPart(cluster, { from: from - start, to: alignUp(to - start, target.subclusterSize) });
}

/**
 * Reads the clusters that the range covers in part. What copy-on-write will need of them is then here, so that nothing
 * can fault once the first of them has been changed.
 */
function makeEdgesResident(target: ZeroTarget, start: GuestOffset, end: GuestOffset): void {
  const { clusterSize, disk } = target;
  if (!target.readsBacking) return;
  for (const edge of [start, end]) {
    if (edge % clusterSize === 0) continue;
    const from = alignDown(edge, clusterSize);
    disk.read(from, new Uint8Array(Math.min(disk.size, from + clusterSize) - from));
  }
}

function writeRealZeroes(target: ZeroTarget, start: GuestOffset, end: GuestOffset): void {
  const { clusterSize, disk } = target;
  // Whole clusters at a time: nothing of a cluster has to be carried over for the part that comes next.
  const step = alignUp(ZERO_CHUNK, clusterSize);
  for (let at = start; at < end;) {
    const stop = Math.min(end, alignDown(at, clusterSize) + step);
    disk.write(at, new Uint8Array(stop - at));
    at = stop;
  }
}

function writeRawZeroes(target: ZeroTarget, start: GuestOffset, end: GuestOffset): void {
  if (target.rawData === null) return;
  const zeroes = new Uint8Array(Math.min(ZERO_CHUNK, end - start));
  for (let at = start; at < end; at += zeroes.length) {
    target.rawData.write(at, zeroes.subarray(0, Math.min(zeroes.length, end - at)));
  }
}

export function discardRange(target: ZeroTarget, offset: GuestOffset, length: number): void {
  const { clusterSize, disk } = target;
  if (target.version === 2 && target.hasBacking) return;
  const end = offset + length;
  const first = Math.ceil(offset / clusterSize);
  const last = end === disk.size ? Math.ceil(end / clusterSize) : Math.floor(end / clusterSize);
  if (last > first) writeRawZeroes(target, first * clusterSize, Math.min(disk.size, last * clusterSize));
  for (let cluster = first; cluster < last;) {
    const at = cluster * clusterSize;
    const run = target.l2.runAt(at, Math.min(disk.size, last * clusterSize) - at);
    // A run that ends inside a cluster leaves the rest of it to be looked at with it.
    const whole = Math.floor(run.length / clusterSize);
    const count = at + run.length === disk.size ? Math.ceil(run.length / clusterSize) : whole;
    if (count > 0) discardClusters(target, run, cluster, count);
    else target.l2.linkZero(cluster, 1, { keep: false });
    cluster += Math.max(1, count);
  }
}

function discardClusters(target: ZeroTarget, run: MappedRun, cluster: number, count: number): void {
  if (run.kind === 'zero') return;
  const nothing = run.kind === 'unallocated' && run.reserved === null;
  if (nothing && !target.hasBacking) return;
  if (target.version === 3) target.l2.linkZero(cluster, count, { keep: false });
  else if (!nothing) target.l2.unlink(cluster, count);
}
