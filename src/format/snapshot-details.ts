/**
 * Snapshot details: what an entry of the snapshot table says of the snapshot beside its place and names (spec,
 * "Snapshots"; the layout is in `snapshot-table.ts`). Pure. The extra data are, as far as the entry has them:
 *
 *   40 VM state bytes (8), which then counts instead of the 4 bytes at 32
 *   48 disk size (8), by default that of the image now
 *   56 instruction count of the VM (8), all ones for none
 */
import { getUint64, viewOf } from '../util/big-endian.js';
import { SNAPSHOT_FIXED_BYTES } from './snapshot-table.js';

export interface SnapshotDetails {
  /** When it was made: seconds since 1970, and nanoseconds. */
  readonly date: { readonly seconds: number; readonly nanoseconds: number };
  /** How long the VM had run, in nanoseconds. */
  readonly vmClock: bigint;
  /** Bytes of the VM's state; 0 for a snapshot of the disk alone. */
  readonly vmStateBytes: number;
  /** Bytes of the disk then. */
  readonly diskSize: number;
  /** Instructions that the VM had executed, where it counted them. */
  readonly instructionCount: bigint | null;
}

const STATE_BYTES_AT = SNAPSHOT_FIXED_BYTES;
const DISK_SIZE_AT = STATE_BYTES_AT + 8;
const INSTRUCTIONS_AT = DISK_SIZE_AT + 8;
const NO_COUNT = 0xffff_ffff_ffff_ffffn;

/** @param bytes one entry, whole. Throws `LIMIT` for a size above 2^53 - 1. */
export function decodeSnapshotDetails(bytes: Uint8Array, imageSize: number): SnapshotDetails {
  const view = viewOf(bytes);
  const extraEnd = SNAPSHOT_FIXED_BYTES + view.getUint32(36);
  const has = (at: number): boolean => at + 8 <= extraEnd;
  const instructions = has(INSTRUCTIONS_AT) ? view.getBigUint64(INSTRUCTIONS_AT) : NO_COUNT;
  return {
    date: { seconds: view.getUint32(16), nanoseconds: view.getUint32(20) },
    vmClock: view.getBigUint64(24),
    vmStateBytes: has(STATE_BYTES_AT) ? getUint64(view, STATE_BYTES_AT, 'a VM state size') : view.getUint32(32),
    diskSize: has(DISK_SIZE_AT) ? getUint64(view, DISK_SIZE_AT, 'the disk size of a snapshot') : imageSize,
    instructionCount: instructions === NO_COUNT ? null : instructions,
  };
}
