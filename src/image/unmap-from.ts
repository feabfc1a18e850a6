/**
 * Unmapping all guest clusters from an offset on: the disk is emptied, or what lies behind its end is dropped - left over by
 * a disk that was larger, or prepared for one that was to be. The guest can't see that; it takes room, and would come back
 * to light when the disk grows.
 *
 * Whole L2 tables go by their L1 entry: it becomes 0 stably, then the table and all it names are freed (invariant 3 of
 * `write-order.ts`). In the table that the offset lies in, the entries behind it are cleared.
 */
import type { GuestOffset } from '../disk.js';
import { hasDataFile } from '../format/header.js';
import type { ChangeableTables, ChangeTarget } from '../metadata/changeable-tables.js';
import { alignUp } from '../util/integers.js';
import { stepsOf, type Steps } from '../util/steps.js';

/** L2 tables that one step drops. */
const TABLES_PER_STEP = 8;

/** Frees all that is mapped from `offset` on, in whole clusters. The L1 table keeps its size, as it does in QEMU. */
export function unmapFrom(target: ChangeTarget, offset: GuestOffset): Steps {
  const { l1, geometry } = target.changeableTables();
  const start = alignUp(offset, geometry.clusterSize);
  const firstWhole = Math.ceil(start / geometry.l2Coverage);
  const first = Math.floor(start / geometry.l2Coverage);
  const total = l1.entries - first;
  let index = l1.entries;
  return stepsOf(() => {
    if (index <= first) return null;
    const tables = target.changeableTables();
    for (let dropped = 0; dropped < TABLES_PER_STEP && index > firstWhole;) {
      index--;
      if (tables.l1.get(index) === 0) continue;
      dropTable(tables, index);
      dropped++;
    }
    if (index === firstWhole) {
      if (first < firstWhole && tables.l1.get(first) !== 0) dropTail(tables, start);
      index = first;
    }
    tables.writable.order.flush();
    return { done: total - (index - first), total, what: 'freeing clusters' };
  });
}

function dropTable(tables: ChangeableTables, index: number): void {
  const { l1, l2, geometry, header } = tables;
  const { allocator } = tables.writable;
  const { clusterSize, l2Coverage } = geometry;
  const external = hasDataFile(header.value);
  const extended = geometry.subclusterSize < clusterSize;
  const start = index * l2Coverage;
  for (let at = start; at < start + l2Coverage;) {
    // The subclusters of one cluster are one reference: with extended entries the first of them speaks for all.
    const run = l2.runAt(at, extended ? clusterSize : start + l2Coverage - at);
    const length = extended ? clusterSize : run.length;
    const place = run.kind === 'unallocated' ? run.reserved : run;
    if (run.kind === 'compressed') allocator.free(run.descriptor.host, run.descriptor.length);
    else if (place !== null && 'host' in place && !external) allocator.free(place.host, length);
    at += length;
  }
  const table = l1.get(index);
  l1.set(index, 0, { copied: false });
  tables.caches[0]!.forget(table, clusterSize);
  allocator.free(table, clusterSize);
}

/** Clears the entries from `start` on in the table that it lies in. */
function dropTail(tables: ChangeableTables, start: GuestOffset): void {
  const { l2, geometry } = tables;
  const { clusterSize, l2Coverage } = geometry;
  const stop = alignUp(start, l2Coverage);
  for (let at = start; at < stop;) {
    const run = l2.runAt(at, stop - at);
    const clusters = Math.ceil(run.length / clusterSize);
    const empty = run.kind === 'unallocated' && run.reserved === null && run.length >= clusterSize;
    const count = empty ? Math.floor(run.length / clusterSize) : clusters;
    if (!empty) l2.unlink(at / clusterSize, count);
    at += count * clusterSize;
  }
}
