/**
 * Rebuilds the refcounts of an image whose dirty bit is set: it was not closed, and its refcounts may be behind its tables
 * (spec, "incompatible_features" bit 0). The tables are right; the counts and the COPIED flags are made to follow them.
 *
 * The dirty bit is cleared by the caller, last, once all of this is stable. Being cut off and run again does no harm.
 */
import { Qcow2Error } from '../errors.js';
import { HIGH_COPIED, l2EntryHost, l2EntryKind } from '../format/l2-entry.js';
import { EXTENSION_BITMAPS, findExtension } from '../format/header-extensions.js';
import type { Storage } from '../storage/storage.js';
import { viewOf } from '../util/big-endian.js';
import type { ImageTables } from './image-tables.js';
import { countReferences } from './reference-counter.js';
import type { Refcounts } from './refcounts.js';

/** Throws `CORRUPT` or `LIMIT` when the tables themselves are damaged, `UNSUPPORTED` for an image with bitmaps. */
export function rebuildRefcounts(storage: Storage, tables: ImageTables): void {
  const { header, geometry, l1 } = tables;
  if (findExtension(header.value.extensions, EXTENSION_BITMAPS)) {
    const hint = 'run `qemu-img check -r all` on it first';
    throw new Qcow2Error(
      'UNSUPPORTED',
      `the image is dirty and has bitmaps, whose clusters are not known here; ${hint}`,
    );
  }
  const { refcounts } = tables.writable!;
  const counts = countReferences({ storage, header, geometry, l1, refcountTable: refcounts.table });
  checkWidths(counts, geometry);
  const places = placesForMissingBlocks(refcounts, counts, geometry.refcountBlockEntries);
  // Nothing has been written so far, and nothing can be refused from here on.
  for (const [index, cluster] of places) refcounts.placeBlock(index, cluster);
  const placed = new Set(places.values());
  setCounts(refcounts, counts, placed, geometry);
  refcounts.write();
  storage.flush();
  setCopiedFlags(storage, tables);
  storage.flush();
}

/**
 * Where the blocks that used clusters lack are to lie: for each index a cluster that nothing uses, counted by a block that
 * is there or will be. A block that a crash kept out of the table has left such a cluster free, so there is always one for
 * it; in an image where there is none, or whose tables reach past what the refcount table can count, only a check can help.
 */
function placesForMissingBlocks(
  refcounts: Refcounts,
  counts: Uint32Array,
  blockEntries: number,
): ReadonlyMap<number, number> {
  const missing: number[] = [];
  for (let index = 0; index * blockEntries < counts.length; index++) {
    const used = counts.subarray(index * blockEntries, (index + 1) * blockEntries).some((count) => count > 0);
    if (!used || refcounts.hasBlock(index)) continue;
    if (index >= refcounts.table.entries) throw beyondRepair(`the refcount table has no entry ${index}`);
    missing.push(index);
  }
  const places = new Map<number, number>();
  const taken = new Set<number>();
  for (const index of missing) {
    const cluster = firstUnused(candidates(index, missing, refcounts), counts, blockEntries, taken);
    if (cluster === null) throw beyondRepair(`there is no room for refcount block ${index}`);
    places.set(index, cluster);
    taken.add(cluster);
  }
  return places;
}

/** The blocks in whose clusters block `index` may lie, its own first. */
function* candidates(index: number, missing: readonly number[], refcounts: Refcounts): Generator<number> {
  yield index;
  yield* missing;
  for (let there = 0; there < refcounts.table.entries; there++) if (refcounts.hasBlock(there)) yield there;
}

/** The first cluster, among those that the blocks of `indices` count, that nothing uses. */
function firstUnused(
  indices: Iterable<number>,
  counts: Uint32Array,
  blockEntries: number,
  taken: ReadonlySet<number>,
): number | null {
  for (const index of indices) {
    for (let cluster = index * blockEntries; cluster < (index + 1) * blockEntries; cluster++) {
      if ((counts[cluster] ?? 0) === 0 && !taken.has(cluster)) return cluster;
    }
  }
  return null;
}

function beyondRepair(why: string): Qcow2Error {
  return new Qcow2Error('CORRUPT', `the image is dirty, and ${why}; run \`qemu-img check -r all\` on it first`);
}

function checkWidths(counts: Uint32Array, geometry: ImageTables['geometry']): void {
  const cluster = counts.findIndex((count) => count > geometry.maxRefcount);
  if (cluster < 0) return;
  const limit = `${geometry.refcountBits} bits hold at most ${geometry.maxRefcount}`;
  throw new Qcow2Error('LIMIT', `cluster ${cluster} is named ${counts[cluster]} times; ${limit}`);
}

function setCounts(
  refcounts: Refcounts,
  counts: Uint32Array,
  placed: ReadonlySet<number>,
  geometry: ImageTables['geometry'],
): void {
  const blocks = refcounts.table.entries;
  const end = Math.max(counts.length, ...[...placed].map((cluster) => cluster + 1));
  for (let index = 0; index < blocks; index++) {
    if (!refcounts.hasBlock(index)) continue;
    const first = index * geometry.refcountBlockEntries;
    for (let cluster = first; cluster < first + geometry.refcountBlockEntries; cluster++) {
      // Past the file nothing is used, but a stale count may stand there.
      const wanted = (cluster < counts.length ? counts[cluster]! : 0) + (placed.has(cluster) ? 1 : 0);
      if (cluster >= end && refcounts.get(cluster) === 0) continue;
      if (refcounts.get(cluster) !== wanted) refcounts.set(cluster, wanted);
    }
  }
}

/** COPIED is set exactly where the refcount is one, in the active tables (invariant 5). */
function setCopiedFlags(storage: Storage, tables: ImageTables): void {
  const { l1, geometry, writable } = tables;
  const refcountOf = (host: number) => writable!.refcounts.get(host / geometry.clusterSize);
  const bytes = new Uint8Array(geometry.clusterSize);
  const view = viewOf(bytes);
  for (let index = 0; index < l1.entries; index++) {
    const table = l1.get(index);
    if (table === 0) continue;
    const copied = refcountOf(table) === 1;
    if (copied !== l1.copied(index)) l1.set(index, table, { copied });
    storage.read(table, bytes);
    let changed = false;
    for (let at = 0; at < bytes.length; at += 8) {
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      const kind = l2EntryKind(low, high);
      if (kind !== 'data' && kind !== 'zero-allocated') continue;
      const single = refcountOf(l2EntryHost(low, high)) === 1;
      const wanted = (single ? high | HIGH_COPIED : high & ~HIGH_COPIED) >>> 0;
      if (wanted === high) continue;
      view.setUint32(at, wanted);
      changed = true;
    }
    if (changed) storage.write(table, bytes);
  }
  l1.write();
}
