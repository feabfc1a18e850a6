/** Reading refcounts, also of an image that is open read-only and keeps no refcount structure in memory. */
import { getRefcountEntry } from '../kernels/refcount-entry.js';
import type { ImageTables } from './image-tables.js';
import { OffsetTable, REFCOUNT_TABLE_HIGH_MASK } from './offset-table.js';

/** A function from a cluster to its refcount. Counts that a lazy image has not written yet are those of the file. */
export function refcountReader(tables: ImageTables): (cluster: number) => number {
  const { storage, geometry, header, writable } = tables;
  if (writable !== null) return (cluster) => writable.refcounts.get(cluster);
  const { clusterSize, refcountBlockEntries, refcountOrder } = geometry;
  const table = new OffsetTable({
    storage,
    name: 'refcount table',
    offset: header.value.refcountTableOffset,
    entries: (header.value.refcountTableClusters * clusterSize) / 8,
    clusterSize,
    highMask: REFCOUNT_TABLE_HIGH_MASK,
  });
  let loaded = -1;
  const block = new Uint8Array(clusterSize);
  return (cluster) => {
    const index = Math.floor(cluster / refcountBlockEntries);
    const offset = index < table.entries ? table.get(index) : 0;
    if (offset === 0) return 0;
    if (index !== loaded) storage.read(offset, block);
    loaded = index;
    return getRefcountEntry(block, 0, refcountOrder, cluster % refcountBlockEntries);
  };
}
