/**
 * The snapshot table as a whole: read entry by entry, found in by id or name, and rewritten for version 3, which asks each
 * entry to say how large the disk was (spec, "Snapshots"). Strict; the check reads it without trust (`listed-snapshots.ts`).
 */
import { Qcow2Error } from '../errors.js';
import type { Header } from '../format/header.js';
import { MAX_SNAPSHOT_TABLE_BYTES } from '../format/limits.js';
import {
  SNAPSHOT_FIXED_BYTES,
  decodeSnapshotEntry,
  encodeSnapshotEntry,
  snapshotEntryBytes,
  snapshotNames,
  type SnapshotEntry,
} from '../format/snapshot-table.js';
import type { Storage } from '../storage/storage.js';

export interface StoredSnapshot extends SnapshotEntry {
  /** The entry as it lies in the file, padding included. */
  readonly bytes: Uint8Array;
}

/** Read at once: a table of a thousand entries is read some ten times in an operation on snapshots. */
const READ_BYTES = 64 * 1024;

/** The entries, one by one, in the order of the file. Throws `BAD_IMAGE` for one out of the limits of the format. */
export function* snapshotEntries(storage: Storage, header: Header): Generator<StoredSnapshot> {
  const { snapshotsOffset, snapshotCount, clusterBits } = header;
  let window = new Uint8Array(0);
  let windowAt = snapshotsOffset;
  const bytesAt = (at: number, length: number): Uint8Array => {
    if (at + length > windowAt + window.length) {
      window = new Uint8Array(Math.max(length, READ_BYTES));
      windowAt = at;
      storage.read(at, window);
    }
    return window.subarray(at - windowAt, at - windowAt + length);
  };
  let at = snapshotsOffset;
  for (let index = 0; index < snapshotCount; index++) {
    const bytes = bytesAt(at, snapshotEntryBytes(bytesAt(at, SNAPSHOT_FIXED_BYTES)));
    at += bytes.length;
    if (at - snapshotsOffset > MAX_SNAPSHOT_TABLE_BYTES) {
      throw new Qcow2Error('BAD_IMAGE', `the snapshot table is longer than ${MAX_SNAPSHOT_TABLE_BYTES} bytes`);
    }
    yield Object.assign(decodeSnapshotEntry(bytes, 2 ** clusterBits), { bytes });
  }
}

/** All entries, in the order of the file. Throws `BAD_IMAGE` as `snapshotEntries`, and `LIMIT` for a size above 2^53 - 1. */
export function readSnapshots(storage: Storage, header: Header): StoredSnapshot[] {
  return [...snapshotEntries(storage, header)];
}

/** Bytes of the table that the entries were read from. */
export function tableBytes(snapshots: readonly StoredSnapshot[]): number {
  return snapshots.reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** The bytes of a table with these entries. */
export function joinEntries(entries: readonly Uint8Array[]): Uint8Array {
  const table = new Uint8Array(entries.reduce((sum, entry) => sum + entry.length, 0));
  let at = 0;
  for (const entry of entries) {
    table.set(entry, at);
    at += entry.length;
  }
  return table;
}

/** The table as version 3 wants it; null when it is so already. `diskSize` is that of the disk now. */
export function encodeFullSnapshots(snapshots: readonly StoredSnapshot[], diskSize: number): Uint8Array | null {
  if (snapshots.every((snapshot) => snapshot.diskSize !== null)) return null;
  return joinEntries(
    snapshots.map((snapshot) =>
      snapshot.diskSize === null
        ? encodeSnapshotEntry({ ...snapshot, diskSize }, snapshotNames(snapshot.bytes))
        : snapshot.bytes,
    ),
  );
}
