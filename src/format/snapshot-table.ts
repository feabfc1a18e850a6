/**
 * Snapshot table: the directory of internal snapshots (spec, "Snapshots"). Pure.
 *
 *    0 l1_offset (8)   8 l1_entries   12 id bytes (2)  14 name bytes (2)
 *   16 date seconds   20 nanoseconds  24 VM clock (8)  32 VM state bytes  36 extra bytes
 *   40 extra data, id, name, padding to 8
 */
import { Qcow2Error } from '../errors.js';
import { getUint64, viewOf } from '../util/big-endian.js';
import { alignUp, hex, isAligned } from '../util/integers.js';
import { MAX_L1_BYTES, MAX_SNAPSHOT_EXTRA_BYTES } from './limits.js';

export const SNAPSHOT_FIXED_BYTES = 40;

export interface SnapshotEntry {
  readonly l1Offset: number;
  readonly l1Entries: number;
  readonly id: string;
  readonly name: string;
  /** Bytes of the entry in the table, padding included. */
  readonly byteLength: number;
}

/** Bytes of an entry, judged from its first `SNAPSHOT_FIXED_BYTES`. */
export function snapshotEntryBytes(fixed: Uint8Array): number {
  const view = viewOf(fixed);
  const extra = view.getUint32(36);
  if (extra > MAX_SNAPSHOT_EXTRA_BYTES) {
    throw new Qcow2Error(
      'BAD_IMAGE',
      `a snapshot's extra data has ${extra} bytes; the limit is ${MAX_SNAPSHOT_EXTRA_BYTES}`,
    );
  }
  return alignUp(SNAPSHOT_FIXED_BYTES + extra + view.getUint16(12) + view.getUint16(14), 8);
}

/** Decodes one entry of `snapshotEntryBytes` bytes. Throws `BAD_IMAGE` for an L1 table out of its limits. */
export function decodeSnapshotEntry(bytes: Uint8Array, clusterSize: number): SnapshotEntry {
  const view = viewOf(bytes);
  const idStart = SNAPSHOT_FIXED_BYTES + view.getUint32(36);
  const nameStart = idStart + view.getUint16(12);
  const text = new TextDecoder();
  const l1Offset = getUint64(view, 0, 'l1_table_offset of a snapshot');
  const l1Entries = view.getUint32(8);
  const id = text.decode(bytes.subarray(idStart, nameStart));
  if (!isAligned(l1Offset, clusterSize)) {
    throw new Qcow2Error(
      'BAD_IMAGE',
      `the L1 table of snapshot ${id} is at ${hex(l1Offset)}, not at a cluster's start`,
    );
  }
  if (l1Entries > MAX_L1_BYTES / 8) {
    throw new Qcow2Error(
      'BAD_IMAGE',
      `the L1 table of snapshot ${id} has ${l1Entries} entries; the limit is ${MAX_L1_BYTES / 8}`,
    );
  }
  const name = text.decode(bytes.subarray(nameStart, nameStart + view.getUint16(14)));
  return { l1Offset, l1Entries, id, name, byteLength: bytes.length };
}
