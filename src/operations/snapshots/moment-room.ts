/**
 * Room for what a guest writes while a moment of its disk is held (`export-moment.ts`), looked for before the write.
 *
 * What was written in place before has to be copied away now, so a write may meet the end of the host's room that would need none otherwise;
 * and a write that fails on its way poisons the image. So the file is made long enough first, which fails without harm:
 *
 *   clusters of the write + L2 tables that it copies     what it allocates at most
 *   + all that a release of the moment writes anew       so that the moment can be let go of whenever there is no room for more
 *
 * Invariant: what has been allocated since the moment was taken lies within the file's length, so a flush needs no room.
 */
import type { Qcow2Image } from '../../image/qcow2-image.js';
import type { ChangeableTables } from '../../metadata/changeable-tables.js';
import { readSnapshots, tableBytes } from '../../metadata/snapshot-records.js';
import { divideUp } from '../../util/integers.js';

/** For refcount blocks that the new places need. */
const FURTHER_CLUSTERS = 4;

/** A write of `length` bytes. `fills`: each cluster gets a place; otherwise only those at both ends, as where zeroes are marked in tables. */
export interface ComingChange {
  readonly length: number;
  readonly fills: boolean;
}

/** Throws `NO_SPACE`; the image is as it was, and of use, then. Otherwise as any change does. */
export function reserveForChange(image: Qcow2Image, change: ComingChange): void {
  const tables = image.changeableTables();
  const { clusterSize, l2Entries } = tables.geometry;
  const touched = divideUp(change.length, clusterSize) + 1;
  const clusters = change.fills ? touched : 2;
  const l2Tables = divideUp(touched, l2Entries) + 1;
  const { runs, single } = clustersOfRelease(tables);
  const end = tables.writable.allocator.endOfNext(clusters + l2Tables + single + runs);
  // Tables in one piece may find none among the free clusters below.
  tables.storage.reserve(end + runs * clusterSize);
}

/** What deleting the snapshot puts in new places at most: tables in one piece, and single clusters. */
function clustersOfRelease({ geometry, l1, writable, header, storage }: ChangeableTables): {
  readonly runs: number;
  readonly single: number;
} {
  const { clusterSize } = geometry;
  const { table } = writable.refcounts;
  const tables = divideUp(l1.entries * 8, clusterSize) + divideUp(table.entries * 8, clusterSize);
  const records = divideUp(tableBytes(readSnapshots(storage, header.value)), clusterSize);
  return { runs: tables + records, single: l1.namedEntries + table.namedEntries + FURTHER_CLUSTERS };
}
