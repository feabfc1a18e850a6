/**
 * Listed snapshots: the snapshot table read without trust, for the check (spec, "Snapshots"). What an entry says of its L1
 * table is not judged here.
 *
 * What can be wrong with the table itself, and what a repair makes of it:
 * - an entry with more extra data than the limit: cut to the limit
 * - a table longer than the limit: the entries past it are dropped
 * - an entry of version 3 without the extra data that the format demands: filled up
 */
import { MAX_SNAPSHOT_EXTRA_BYTES, MAX_SNAPSHOT_TABLE_BYTES } from '../format/limits.js';
import { SNAPSHOT_FIXED_BYTES } from '../format/snapshot-table.js';
import { viewOf } from '../util/big-endian.js';
import { alignUp } from '../util/integers.js';
import type { ImageUnderCheck } from './image-under-check.js';

/** Extra data that version 3 demands: the size of the VM state and that of the disk. */
export const DEMANDED_EXTRA_BYTES = 8 + 8;

export interface ListedSnapshot {
  /** Of the entry in the file. */
  readonly at: number;
  readonly l1Offset: number;
  readonly l1Entries: number;
  readonly extraBytes: number;
  readonly idBytes: number;
  readonly nameBytes: number;
  /** Id and name, for messages. */
  readonly label: string;
}

export interface SnapshotList {
  readonly entries: readonly ListedSnapshot[];
  /** Bytes of the table in the file. */
  readonly byteLength: number;
  /** Entries with too much extra data, entries past the limit of the table, entries with too little extra data. */
  readonly overlong: number;
  readonly beyond: number;
  readonly incomplete: number;
}

export function readSnapshotList(image: ImageUnderCheck): SnapshotList {
  const { snapshotCount, snapshotsOffset, version } = image.header;
  const entries: ListedSnapshot[] = [];
  let at = snapshotsOffset;
  let overlong = 0;
  let incomplete = 0;
  for (let index = 0; index < snapshotCount; index++) {
    const entry = readEntry(image, at);
    const end = at + entryBytes(entry);
    if (end - snapshotsOffset > MAX_SNAPSHOT_TABLE_BYTES) break;
    entries.push(entry);
    if (entry.extraBytes > MAX_SNAPSHOT_EXTRA_BYTES) overlong++;
    if (version === 3 && entry.extraBytes < DEMANDED_EXTRA_BYTES) incomplete++;
    at = end;
  }
  const beyond = snapshotCount - entries.length;
  return { entries, byteLength: at - snapshotsOffset, overlong, beyond, incomplete };
}

function entryBytes(entry: ListedSnapshot): number {
  return alignUp(SNAPSHOT_FIXED_BYTES + entry.extraBytes + entry.idBytes + entry.nameBytes, 8);
}

function readEntry(image: ImageUnderCheck, at: number): ListedSnapshot {
  const view = viewOf(image.read(at, SNAPSHOT_FIXED_BYTES));
  const extraBytes = view.getUint32(36);
  const idBytes = view.getUint16(12);
  const nameBytes = view.getUint16(14);
  const words = image.read(at + SNAPSHOT_FIXED_BYTES + extraBytes, idBytes + nameBytes);
  const text = new TextDecoder();
  return {
    at,
    l1Offset: view.getUint32(0) * 0x1_0000_0000 + view.getUint32(4),
    l1Entries: view.getUint32(8),
    extraBytes,
    idBytes,
    nameBytes,
    label: `${text.decode(words.subarray(0, idBytes))} (${text.decode(words.subarray(idBytes))})`,
  };
}
