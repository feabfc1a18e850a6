/** Internal snapshots: which there are, which one is meant, and what each costs (spec, "Snapshots"). Changes nothing. */
import type { HostOffset } from '../../disk.js';
import { isQcow2Error, Qcow2Error } from '../../errors.js';
import type { Header } from '../../format/header.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { CountChanges } from '../../metadata/count-changes.js';
import type { ImageTables } from '../../metadata/image-tables.js';
import { L2References, namedTables } from '../../metadata/l2-references.js';
import { refcountReader } from '../../metadata/refcount-reader.js';
import { readSnapshots, type StoredSnapshot } from '../../metadata/snapshot-records.js';
import { snapshotL1, withUsableL1 } from './snapshot-tables.js';
import type { SnapshotInfo, SnapshotKey, SnapshotUsage } from './snapshot-info.js';

/** All snapshots, oldest first as a rule: in the order of the file. Throws `BAD_IMAGE` or `LIMIT` for a damaged table. */
export function listSnapshots(image: Qcow2Image): SnapshotInfo[] {
  const { header } = image;
  return readSnapshots(image.storage, header).map((snapshot) => snapshotInfo(snapshot, header));
}

/** Null if there is none. Of several snapshots with a name it is the first. */
export function findSnapshot(image: Qcow2Image, key: SnapshotKey): SnapshotInfo | null {
  const found = selectSnapshot(readSnapshots(image.storage, image.header), key);
  return found && snapshotInfo(found, image.header);
}

/**
 * All snapshots, with the room that is each one's own. Reads the L2 tables that only one of them has. Of an image that is
 * open for writing, what was freed since the last flush still counts.
 */
export function snapshotUsage(image: Qcow2Image): SnapshotUsage[] {
  const { header, tables, storage } = image;
  const snapshots = readSnapshots(storage, header);
  checkL1Bytes(withUsableL1(snapshots, tables), storage.size + tables.geometry.clusterSize);
  if (snapshots.length === 0) return [];
  const known = { countOf: refcountReader(tables), visited: new Set<HostOffset>() };
  // Tables of their own: what is found there by only looking must not end the disk that is in use.
  const looking = image.snapshotTables(header);
  return snapshots.map((snapshot) => ({
    ...snapshotInfo(snapshot, header),
    ownBytes: ownBytes(looking, snapshot, known),
  }));
}

/** 0 for a snapshot whose tables can't be followed. */
function ownBytes(tables: ImageTables, snapshot: StoredSnapshot, known: KnownTables): number {
  try {
    return ownClusters(tables, snapshot, known) * tables.geometry.clusterSize;
  } catch (error) {
    if (isQcow2Error(error, 'CORRUPT') || isQcow2Error(error, 'BAD_IMAGE')) return 0;
    throw error;
  }
}

/** In a good image they lie apart. Thousands of large ones at one place would be read for hours. */
function checkL1Bytes(snapshots: readonly StoredSnapshot[], most: number): void {
  const bytes = snapshots.reduce((sum, { l1Entries }) => sum + l1Entries * 8, 0);
  if (bytes <= most) return;
  const what = `the L1 tables of ${snapshots.length} snapshots have ${bytes} bytes together`;
  throw new Qcow2Error('BAD_IMAGE', `${what}; that is more than the file has, so they overlap`);
}

export function snapshotInfo(snapshot: StoredSnapshot, header: Header): SnapshotInfo {
  const { id, name, date, vmClock, vmStateBytes, diskSize, instructionCount } = snapshot;
  return { id, name, date, vmClock, vmStateBytes, diskSize: diskSize ?? header.size, instructionCount };
}

/** The snapshot that is meant: by id, else by name. */
export function selectSnapshot(snapshots: readonly StoredSnapshot[], key: SnapshotKey): StoredSnapshot | null {
  const byId = (id: string) => snapshots.find((snapshot) => snapshot.id === id);
  const byName = (name: string) => snapshots.find((snapshot) => snapshot.name === name);
  if (typeof key === 'string') return byId(key) ?? byName(key) ?? null;
  return ('id' in key ? byId(key.id) : byName(key.name)) ?? null;
}

/** The same, which must be there. Throws `NOT_FOUND`. */
export function requireSnapshot(snapshots: readonly StoredSnapshot[], key: SnapshotKey): StoredSnapshot {
  const found = selectSnapshot(snapshots, key);
  if (found !== null) return found;
  const what = typeof key === 'string' ? `id or name ${JSON.stringify(key)}` : JSON.stringify(key);
  throw new Qcow2Error('NOT_FOUND', `there is no snapshot with ${what}; the image has ${snapshots.length} snapshots`);
}

interface KnownTables {
  readonly countOf: (cluster: number) => number;
  /** L2 tables that only one snapshot has, by their counts; in a bad image several name them. */
  readonly visited: Set<HostOffset>;
}

/** Clusters that nothing else refers to. What an L2 table names that others have, too, is theirs as well: it is not read. */
function ownClusters(tables: ImageTables, snapshot: StoredSnapshot, { countOf, visited }: KnownTables): number {
  const { geometry } = tables;
  const references = new L2References(tables);
  const named = new CountChanges();
  for (const table of namedTables(snapshotL1(tables, snapshot), geometry)) {
    const shared = countOf(table.host / geometry.clusterSize) > table.times || visited.has(table.host);
    if (shared) continue;
    visited.add(table.host);
    references.count(table, named, 1);
  }
  let own = Math.ceil((snapshot.l1Entries * 8) / geometry.clusterSize);
  named.forEach((cluster, times) => {
    if (countOf(cluster) <= times) own++;
  });
  return own;
}
