/**
 * Listed snapshots: the snapshot table read without trust, for the check (spec, "Snapshots"). What an entry says of its L1
 * table is not judged here.
 *
 * What can be wrong with the table itself, and what a repair makes of it:
 * - more entries than the limit: those past it are dropped
 * - an entry with more extra data than the limit: cut to the limit
 * - a table longer than the limit, with its entries cut: the entries past it are dropped
 * - an entry of version 3 without the extra data that the format demands: filled up
 *
 * A check that must not repair does not follow a table past the first three: what its snapshots lead to is not known then.
 */
import { MAX_SNAPSHOT_EXTRA_BYTES, MAX_SNAPSHOT_TABLE_BYTES, MAX_SNAPSHOTS } from '../format/limits.js';
import { SNAPSHOT_FIXED_BYTES } from '../format/snapshot-table.js';
import { viewOf } from '../util/big-endian.js';
import { alignUp, isAligned } from '../util/integers.js';
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

/** Why a table is not followed. `beyond`: the entries past the limit. */
export type SnapshotTableFlaw =
  | { readonly flaw: 'place' }
  | { readonly flaw: 'too-many'; readonly beyond: number }
  | { readonly flaw: 'extra-data'; readonly index: number; readonly bytes: number }
  | { readonly flaw: 'too-long'; readonly beyond: number };

export interface SnapshotList {
  /** None where the table is not followed. */
  readonly entries: readonly ListedSnapshot[];
  /** Bytes of the table in the file, as far as its entries are kept. */
  readonly byteLength: number;
  /** Entries past the limit on their number, and past that on the length of the table. */
  readonly tooMany: number;
  readonly beyond: number;
  readonly flaw: SnapshotTableFlaw | null;
}

/** Farther than this from the table's start QEMU reads no entry. */
const FARTHEST_BYTES = 2 ** 31 - 1;

/** With `repair` the entries that can be kept; else all, or none and the first flaw. */
export function readSnapshotList(image: ImageUnderCheck, { repair }: { readonly repair: boolean }): SnapshotList {
  const { snapshotCount, snapshotsOffset } = image.header;
  if (!isAligned(snapshotsOffset, image.clusterSize)) return unread({ flaw: 'place' });
  const tooMany = Math.max(0, snapshotCount - MAX_SNAPSHOTS);
  if (tooMany > 0 && !repair) return unread({ flaw: 'too-many', beyond: tooMany });
  const count = snapshotCount - tooMany;
  const entries: ListedSnapshot[] = [];
  let at = snapshotsOffset;
  let keptBytes = 0;
  for (let index = 0; index < count; index++) {
    const entry = readEntry(image, at);
    const { extraBytes } = entry;
    if (extraBytes > MAX_SNAPSHOT_EXTRA_BYTES && !repair) {
      return unread({ flaw: 'extra-data', index, bytes: extraBytes });
    }
    const end = at + entryBytes(entry, extraBytes);
    keptBytes += entryBytes(entry, Math.min(extraBytes, MAX_SNAPSHOT_EXTRA_BYTES));
    if (keptBytes > MAX_SNAPSHOT_TABLE_BYTES || end - snapshotsOffset > FARTHEST_BYTES) {
      if (!repair) return unread({ flaw: 'too-long', beyond: count - index });
      break;
    }
    entries.push(entry);
    at = end;
  }
  return { entries, byteLength: at - snapshotsOffset, tooMany, beyond: count - entries.length, flaw: null };
}

function unread(flaw: SnapshotTableFlaw): SnapshotList {
  return { entries: [], byteLength: 0, tooMany: 0, beyond: 0, flaw };
}

function entryBytes({ idBytes, nameBytes }: ListedSnapshot, extraBytes: number): number {
  return alignUp(SNAPSHOT_FIXED_BYTES + extraBytes + idBytes + nameBytes, 8);
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
