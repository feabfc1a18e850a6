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
  const covered = refcounts.table.entries * geometry.refcountBlockEntries * geometry.clusterSize;
  if (storage.size > covered) {
    const sizes = `the refcount table covers ${covered} bytes, the file has ${storage.size}`;
    throw new Qcow2Error('CORRUPT', `the image is dirty, and ${sizes}; run \`qemu-img check -r all\` on it first`);
  }
  const counts = countReferences({ storage, header, geometry, l1, refcountTable: refcounts.table });
  const placed = placeMissingBlocks(refcounts, counts, geometry.refcountBlockEntries);
  setCounts(refcounts, counts, placed, geometry);
  refcounts.write();
  storage.flush();
  setCopiedFlags(storage, tables);
  storage.flush();
}

/**
 * Makes the blocks that used clusters lack, each in a cluster that nothing uses. Returns those clusters. They lie behind
 * the end of the file, where blocks can count themselves.
 */
function placeMissingBlocks(refcounts: Refcounts, counts: Uint32Array, blockEntries: number): Set<number> {
  const placed = new Set<number>();
  const missing = new Set<number>();
  for (let index = 0; index * blockEntries < counts.length; index++) {
    const end = Math.min(counts.length, (index + 1) * blockEntries);
    const used = counts.subarray(index * blockEntries, end).some((count) => count > 0);
    if (used && !refcounts.hasBlock(index)) missing.add(index);
  }
  let next = counts.length;
  const place = (index: number, cluster: number) => {
    refcounts.placeBlock(index, cluster);
    placed.add(cluster);
  };
  for (const index of missing) {
    // The cluster taken must be counted by a block as well; where there is none, that block goes first.
    let owner = Math.floor(next / blockEntries);
    while (!refcounts.hasBlock(owner) && !missing.has(owner)) {
      place(owner, next++);
      owner = Math.floor(next / blockEntries);
    }
    place(index, next++);
  }
  return placed;
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
      if (wanted > geometry.maxRefcount) {
        const limit = `${geometry.refcountBits} bits hold at most ${geometry.maxRefcount}`;
        throw new Qcow2Error('LIMIT', `cluster ${cluster} is named ${wanted} times; ${limit}`);
      }
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
