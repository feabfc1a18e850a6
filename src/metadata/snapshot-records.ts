/**
 * The snapshot table as a whole: read entry by entry, and rewritten for version 3, which asks each entry to say how large
 * the disk was (spec, "Snapshots").
 *
 *   extra data:   0 VM state bytes (8)   8 bytes of the disk (8)   16 and on: newer fields, kept
 */
import { Qcow2Error } from '../errors.js';
import type { Header } from '../format/header.js';
import { MAX_SNAPSHOT_TABLE_BYTES } from '../format/limits.js';
import {
  SNAPSHOT_FIXED_BYTES,
  decodeSnapshotEntry,
  snapshotEntryBytes,
  type SnapshotEntry,
} from '../format/snapshot-table.js';
import type { Storage } from '../storage/storage.js';
import { getUint64, setUint64, viewOf } from '../util/big-endian.js';
import { alignUp } from '../util/integers.js';

const VM_STATE_BYTES_AT = 32;
const EXTRA_BYTES_AT = 36;
/** What version 3 demands: the size of the VM state and that of the disk. */
const FULL_EXTRA_BYTES = 8 + 8;

export interface StoredSnapshot extends SnapshotEntry {
  /** The entry as it lies in the file, padding included. */
  readonly bytes: Uint8Array;
  readonly vmStateBytes: number;
  /** Null where the entry does not say it; it is the size of the disk then, as version 2 never resizes under snapshots. */
  readonly diskSize: number | null;
}

/** The entry and its bytes, for each in the order of the file. Throws `BAD_IMAGE` for one out of the limits of the format. */
export function* snapshotEntries(
  storage: Storage,
  header: Header,
): Generator<{ readonly entry: SnapshotEntry; readonly bytes: Uint8Array }> {
  let at = header.snapshotsOffset;
  for (let index = 0; index < header.snapshotCount; index++) {
    const fixed = new Uint8Array(SNAPSHOT_FIXED_BYTES);
    storage.read(at, fixed);
    const bytes = new Uint8Array(snapshotEntryBytes(fixed));
    storage.read(at, bytes);
    at += bytes.length;
    if (at - header.snapshotsOffset > MAX_SNAPSHOT_TABLE_BYTES) {
      throw new Qcow2Error('BAD_IMAGE', `the snapshot table is longer than ${MAX_SNAPSHOT_TABLE_BYTES} bytes`);
    }
    yield { entry: decodeSnapshotEntry(bytes, 2 ** header.clusterBits), bytes };
  }
}

/** All entries, in the order of the file. Throws `BAD_IMAGE` as `snapshotEntries`, and `LIMIT` for a size above 2^53 - 1. */
export function readSnapshots(storage: Storage, header: Header): StoredSnapshot[] {
  const snapshots: StoredSnapshot[] = [];
  for (const { entry, bytes } of snapshotEntries(storage, header)) {
    const view = viewOf(bytes);
    const extra = view.getUint32(EXTRA_BYTES_AT);
    snapshots.push({
      ...entry,
      bytes,
      vmStateBytes:
        extra >= 8
          ? getUint64(view, SNAPSHOT_FIXED_BYTES, 'vm_state_size of a snapshot')
          : view.getUint32(VM_STATE_BYTES_AT),
      diskSize: extra >= FULL_EXTRA_BYTES ? getUint64(view, SNAPSHOT_FIXED_BYTES + 8, 'disk_size of a snapshot') : null,
    });
  }
  return snapshots;
}

/** The table as version 3 wants it; null when it is so already. `diskSize` is that of the disk now. */
export function encodeFullSnapshots(snapshots: readonly StoredSnapshot[], diskSize: number): Uint8Array | null {
  if (snapshots.every((snapshot) => snapshot.diskSize !== null)) return null;
  const entries = snapshots.map((snapshot) =>
    snapshot.diskSize === null ? completed(snapshot, diskSize) : snapshot.bytes,
  );
  const table = new Uint8Array(entries.reduce((sum, entry) => sum + entry.length, 0));
  let at = 0;
  for (const entry of entries) {
    table.set(entry, at);
    at += entry.length;
  }
  return table;
}

/** The entry with both fields of its extra data. */
function completed({ bytes, vmStateBytes }: StoredSnapshot, diskSize: number): Uint8Array {
  const view = viewOf(bytes);
  const namesAt = SNAPSHOT_FIXED_BYTES + view.getUint32(EXTRA_BYTES_AT);
  const names = bytes.subarray(namesAt, namesAt + view.getUint16(12) + view.getUint16(14));
  const entry = new Uint8Array(alignUp(SNAPSHOT_FIXED_BYTES + FULL_EXTRA_BYTES + names.length, 8));
  entry.set(bytes.subarray(0, SNAPSHOT_FIXED_BYTES));
  entry.set(names, SNAPSHOT_FIXED_BYTES + FULL_EXTRA_BYTES);
  const target = viewOf(entry);
  target.setUint32(EXTRA_BYTES_AT, FULL_EXTRA_BYTES);
  setUint64(target, SNAPSHOT_FIXED_BYTES, vmStateBytes);
  setUint64(target, SNAPSHOT_FIXED_BYTES + 8, diskSize);
  return entry;
}
