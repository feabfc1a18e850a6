/**
 * What the tables map behind the end of the disk: left over by a disk that was larger, or prepared for one that is to be.
 * The guest can't see it; it takes room, and would come back to light when the disk grows.
 *
 * Whole L2 tables go by their L1 entry: it becomes 0 stably, then the table and all it names are freed (invariant 3 of
 * `write-order.ts`). In the table that the end lies in, the entries behind it are cleared.
 */
import { hasDataFile } from '../format/header.js';
import type { ImageTables } from '../metadata/image-tables.js';
import { alignUp } from '../util/integers.js';
import { stepsOf, type Steps } from '../util/steps.js';

/** L2 tables that one step drops. */
const TABLES_PER_STEP = 8;

/** Frees all that is mapped behind the end of the disk. The L1 table keeps its size, as it does in QEMU. */
export function dropBehindEnd(tables: ImageTables): Steps {
  const { l1, geometry, header } = tables;
  const { order } = tables.writable!;
  const end = alignUp(header.value.size, geometry.clusterSize);
  const firstWhole = Math.ceil(end / geometry.l2Coverage);
  const first = Math.floor(end / geometry.l2Coverage);
  const total = l1.entries - first;
  let index = l1.entries;
  return stepsOf(() => {
    if (index <= first) return null;
    for (let dropped = 0; dropped < TABLES_PER_STEP && index > firstWhole;) {
      index--;
      if (l1.get(index) === 0) continue;
      dropTable(tables, index);
      dropped++;
    }
    if (index === firstWhole) {
      if (first < firstWhole && l1.get(first) !== 0) dropTail(tables, end);
      index = first;
    }
    order.flush();
    return { done: total - (index - first), total, what: 'freeing what lies behind the end of the disk' };
  });
}

function dropTable(tables: ImageTables, index: number): void {
  const { l1, l2, geometry, header } = tables;
  const { allocator } = tables.writable!;
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

/** Clears the entries behind `end` in the table that `end` lies in. */
function dropTail(tables: ImageTables, end: number): void {
  const { l2, geometry } = tables;
  const { clusterSize, l2Coverage } = geometry;
  const stop = alignUp(end, l2Coverage);
  for (let at = end; at < stop;) {
    const run = l2.runAt(at, stop - at);
    const clusters = Math.ceil(run.length / clusterSize);
    const empty = run.kind === 'unallocated' && run.reserved === null && run.length >= clusterSize;
    const count = empty ? Math.floor(run.length / clusterSize) : clusters;
    if (!empty) l2.unlink(at / clusterSize, count);
    at += count * clusterSize;
  }
}
