/**
 * Giving back what refcounts a smaller image no longer needs: blocks that count nothing but themselves, and the end of the
 * file behind the last cluster in use. The refcount table keeps its size, with the entries of those blocks 0, as in QEMU.
 *
 * - The entry is removed stably before the block's own refcount is lowered, where another block holds it (invariant 3 of
 *   `write-order.ts`). A block that counts itself takes its count along.
 * - The file is cut only where every count is stably 0.
 */
import type { ChangeableTables } from './changeable-tables.js';

/** Frees unused blocks and cuts the file. What was freed before has been flushed. */
export function shrinkRefcounts(tables: ChangeableTables): void {
  const { storage, geometry, caches } = tables;
  const { order, refcounts } = tables.writable;
  order.flush();
  // From the end on: dropping a block may leave the one that counts it without a use.
  for (let index = refcounts.table.entries - 1; index >= 0; index--) {
    const block = refcounts.table.get(index);
    if (block === 0 || isUsed(tables, index, block / geometry.clusterSize)) continue;
    refcounts.write();
    refcounts.table.set(index, 0, { copied: false });
    refcounts.write();
    storage.flush();
    caches[1]!.forget(block, geometry.clusterSize);
    const cluster = block / geometry.clusterSize;
    const counting = Math.floor(cluster / geometry.refcountBlockEntries);
    if (counting === index) continue;
    refcounts.add(cluster, 1, -1);
    // A block may lie behind the clusters that it counts: then the one that counts it has been looked at already.
    if (counting > index) index = counting + 1;
  }
  refcounts.write();
  storage.flush();
  const end = endOfUse(tables) * geometry.clusterSize;
  if (end < storage.size) storage.truncate(end);
  storage.flush();
}

/** Whether block `index` counts any cluster but `own`, its own. */
function isUsed(tables: ChangeableTables, index: number, own: number): boolean {
  const { refcountBlockEntries } = tables.geometry;
  const { refcounts } = tables.writable;
  const first = index * refcountBlockEntries;
  for (let cluster = first; cluster < first + refcountBlockEntries; cluster++) {
    if (cluster !== own && refcounts.get(cluster) !== 0) return true;
  }
  return false;
}

/** The cluster after the last that is in use. */
function endOfUse(tables: ChangeableTables): number {
  const { refcountBlockEntries } = tables.geometry;
  const { refcounts } = tables.writable;
  for (let index = refcounts.table.entries - 1; index >= 0; index--) {
    if (!refcounts.hasBlock(index)) continue;
    const first = index * refcountBlockEntries;
    for (let cluster = first + refcountBlockEntries - 1; cluster >= first; cluster--) {
      if (refcounts.get(cluster) !== 0) return cluster + 1;
    }
  }
  return 1;
}
