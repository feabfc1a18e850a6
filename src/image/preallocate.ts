/**
 * Preallocation: guest clusters get their host clusters before anything is written to them.
 *
 * - `metadata`: clusters are allocated and linked, the file is extended to hold them. What they hold reads as zeroes: the
 *   extension does by itself, and clusters that were used before are written over.
 * - `falloc`: as `metadata`. A `Storage` cannot reserve room without writing, so there is no more to do here; QEMU asks the
 *   host's file system to.
 * - `full`: zeroes are written to every cluster.
 *
 * With extended L2 entries the clusters get a place, and their subclusters stay unallocated: they read as they did before.
 * In an external data file every cluster has its place anyway, and it is the entry that is made. An encrypted image has
 * zeroes written wherever they will be read: those of the file itself read as anything.
 */
import type { GuestOffset, HostOffset } from '../disk.js';
import { hasDataFile } from '../format/header.js';
import type { ChangeableTables, ChangeTarget } from '../metadata/changeable-tables.js';
import { alignDown, alignUp } from '../util/integers.js';
import { stepsOf, type Steps } from '../util/steps.js';

export const PREALLOCATIONS = ['off', 'metadata', 'falloc', 'full'] as const;
export type Preallocation = (typeof PREALLOCATIONS)[number];

export interface PreallocateRequest {
  /** The range, whole clusters of which are preallocated; it may lie behind the end of the disk. */
  readonly from: GuestOffset;
  readonly to: GuestOffset;
  readonly mode: Preallocation;
  /** Bytes of the backing disk, 0 without one: what it holds must go on showing through. */
  readonly backingSize: number;
}

/** Guest bytes that one step links, and that it writes as zeroes. */
const STEP_BYTES = 256 * 1024 * 1024;
const FULL_STEP_BYTES = 8 * 1024 * 1024;
const ZERO_CHUNK = 1024 * 1024;

/** Allocates what is not allocated yet. The L1 table reaches to `to`. Not flushed when it ends. */
export function preallocate(target: ChangeTarget, request: PreallocateRequest): Steps {
  const { clusterSize } = target.changeableTables().geometry;
  const start = alignDown(request.from, clusterSize);
  const end = alignUp(request.to, clusterSize);
  const writes = request.mode === 'full' || target.changeableTables().guestData.encrypted;
  const stepBytes = alignUp(writes ? FULL_STEP_BYTES : STEP_BYTES, clusterSize);
  let at = request.mode === 'off' ? end : start;
  return stepsOf(() => {
    if (at >= end) return null;
    at = preallocateStep(target.changeableTables(), request, at, Math.min(end, at + stepBytes));
    return { done: at - start, total: end - start, what: 'preallocating' };
  });
}

/** Returns where it got to, at most `stop`. */
function preallocateStep(
  tables: ChangeableTables,
  request: PreallocateRequest,
  from: GuestOffset,
  stop: GuestOffset,
): GuestOffset {
  const { clusterSize, subclusterSize } = tables.geometry;
  const extended = subclusterSize < clusterSize;
  for (let at = from; at < stop;) {
    const run = tables.l2.runAt(at, stop - at);
    const whole = alignDown(run.length, clusterSize);
    const empty = run.kind === 'zero' || (run.kind === 'unallocated' && run.reserved === null);
    if (!empty || whole === 0) {
      at += Math.max(clusterSize, whole);
      continue;
    }
    const shown = alignUp(request.backingSize, clusterSize);
    if (run.kind === 'unallocated' && at < shown && !extended) {
      at = Math.min(shown, at + whole);
      continue;
    }
    at += allocateRun(tables, request.mode, at, whole);
  }
  return stop;
}

/** Allocates at most `length` bytes of guest clusters, and at least one cluster. Returns how much it did. */
function allocateRun(tables: ChangeableTables, mode: Preallocation, guest: GuestOffset, length: number): number {
  const { geometry, l2, data, guestData, header } = tables;
  const { clusterSize, subclusterSize } = geometry;
  const external = hasDataFile(header.value);
  const cluster = guest / clusterSize;
  const wanted = length / clusterSize;
  l2.prepare(cluster, wanted);
  const run = external ? { host: guest, count: wanted } : tables.writable.allocator.allocate(wanted);
  const extended = subclusterSize < clusterSize;
  const bytes = run.count * clusterSize;
  // Subclusters that are not allocated are not read, so it does not matter what lies there.
  const isRead = !extended && (!external || guestData.encrypted);
  if (mode === 'full' || isRead) fillWithZeroes(tables, { ...run, guest, bytes }, mode);
  if (!external && data.size < run.host + run.count * clusterSize) data.truncate(run.host + run.count * clusterSize);
  if (extended) {
    const none = { from: 0, to: 0 };
    for (let index = 0; index < run.count; index++) {
      l2.linkData(cluster + index, 1, run.host + index * clusterSize, none);
    }
  } else {
    l2.linkData(cluster, run.count, run.host, { from: 0, to: clusterSize });
  }
  return run.count * clusterSize;
}

interface Filled {
  readonly host: HostOffset;
  readonly guest: GuestOffset;
  readonly bytes: number;
}

/** Behind the end of the storage there are zeroes already; only `full`, or encryption, writes them there as well. */
function fillWithZeroes({ data, guestData }: ChangeableTables, filled: Filled, mode: Preallocation): void {
  const { host, guest, bytes } = filled;
  const written = mode === 'full' || guestData.encrypted;
  const length = written ? bytes : Math.max(0, Math.min(bytes, data.size - host));
  const zeroes = new Uint8Array(Math.min(ZERO_CHUNK, length));
  for (let done = 0; done < length; done += zeroes.length) {
    guestData.write(host + done, zeroes.subarray(0, Math.min(zeroes.length, length - done)), guest + done);
  }
}
