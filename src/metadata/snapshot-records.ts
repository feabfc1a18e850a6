/**
 * The snapshot table as a whole: read entry by entry, found in by id or name, and rewritten for version 3, which asks each
 * entry to say how large the disk was (spec, "Snapshots"). Strict; the check reads it without trust (`listed-snapshots.ts`).
 *
 * A table that can't be followed is refused as soon as anything is to be done with it, and when an image is opened to be
 * written. What an entry says of its L1 table is judged by who uses that table (`checkSnapshotL1`).
 */
import { Qcow2Error } from '../errors.js';
import type { Header } from '../format/header.js';
import { checkSnapshotTable } from '../format/header-checks.js';
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
import { alignUp, hex } from '../util/integers.js';

export interface StoredSnapshot extends SnapshotEntry {
  /** The entry as it lies in the file, padding included. */
  readonly bytes: Uint8Array;
}

/** Read at once: a table of a thousand entries is read some ten times in an operation on snapshots. */
const READ_BYTES = 64 * 1024;

export interface EntriesOptions {
  /** A table that the file does not hold whole: refused, or read as far as it is there. Default `refuse`. */
  readonly cutShort?: 'refuse' | 'accept';
}

/** The entries, one by one, in the order of the file. Throws `BAD_IMAGE` for one out of the limits of the format. */
export function* snapshotEntries(
  storage: Storage,
  header: Header,
  { cutShort = 'refuse' }: EntriesOptions = {},
): Generator<StoredSnapshot> {
  checkSnapshotTable(header);
  const { snapshotsOffset, snapshotCount, clusterBits } = header;
  // The last cluster of a file may be cut short.
  const fileEnd = alignUp(storage.size, 2 ** clusterBits);
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
    const length =
      at + SNAPSHOT_FIXED_BYTES > fileEnd ? Infinity : snapshotEntryBytes(bytesAt(at, SNAPSHOT_FIXED_BYTES));
    if (at + length > fileEnd) {
      if (cutShort === 'accept') return;
      refuseCutShort(header, index, storage.size);
    }
    const bytes = bytesAt(at, length);
    at += length;
    if (at - snapshotsOffset > MAX_SNAPSHOT_TABLE_BYTES) {
      throw new Qcow2Error('BAD_IMAGE', `the snapshot table is longer than ${MAX_SNAPSHOT_TABLE_BYTES} bytes`);
    }
    yield Object.assign(decodeSnapshotEntry(bytes), { bytes });
  }
}

function refuseCutShort({ snapshotCount, snapshotsOffset }: Header, index: number, fileSize: number): never {
  const where = `the snapshot table at ${hex(snapshotsOffset)} (nb_snapshots ${snapshotCount})`;
  throw new Qcow2Error('BAD_IMAGE', `${where} is cut short at entry ${index}; the file ends at ${hex(fileSize)}`);
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
