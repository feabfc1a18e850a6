/**
 * Bitmap table: where the clusters of a bitmap's data lie (spec, "Bitmap table"). Pure.
 *
 *    63      56 55                                    9 8      1  0
 *   +----------+---------------------------------------+--------+---+
 *   | reserved |             host offset               |reserved| 1 |  no offset, bit 0: all ones; neither: all zeroes
 *   +----------+---------------------------------------+--------+---+
 *
 * An entry is handled as a number: `ALL_ZEROES`, `ALL_ONES`, or the offset of a cluster, which is none of the two.
 */
import { Qcow2Error } from '../errors.js';
import { setUint64, viewOf } from '../util/big-endian.js';
import { hex } from '../util/integers.js';

export const BITMAP_TABLE_ENTRY_BYTES = 8;
export const ALL_ZEROES = 0;
export const ALL_ONES = 1;

const HIGH_RESERVED = 0xff00_0000;
const LOW_RESERVED = 0x1fe;
const LOW_FLAGS = 0x1ff;

/** The entry at byte `at`; null for one that breaks the format. */
export function decodeBitmapTableEntry(view: DataView, at: number, clusterSize: number): number | null {
  const high = view.getUint32(at);
  const low = view.getUint32(at + 4);
  if ((high & HIGH_RESERVED) !== 0 || (low & LOW_RESERVED) !== 0) return null;
  const host = high * 0x1_0000_0000 + low - (low & LOW_FLAGS);
  if (host === 0) return low & ALL_ONES;
  const misplaced = host % clusterSize !== 0 || !Number.isSafeInteger(host + clusterSize);
  return misplaced || (low & LOW_FLAGS) !== 0 ? null : host;
}

/** All entries of a table. Throws `BAD_IMAGE` for one that breaks the format; `what` names the table. */
export function decodeBitmapTable(bytes: Uint8Array, clusterSize: number, what: string): Float64Array {
  const view = viewOf(bytes);
  return Float64Array.from({ length: bytes.length / BITMAP_TABLE_ENTRY_BYTES }, (_, index) => {
    const at = index * BITMAP_TABLE_ENTRY_BYTES;
    const entry = decodeBitmapTableEntry(view, at, clusterSize);
    if (entry !== null) return entry;
    const value = hex(view.getBigUint64(at));
    const rule = `it must be 0, 1, or a multiple of the cluster size ${clusterSize}`;
    throw new Qcow2Error('BAD_IMAGE', `entry ${index} of ${what} is ${value}; ${rule}`);
  });
}

export function encodeBitmapTable(entries: Float64Array): Uint8Array {
  const bytes = new Uint8Array(entries.length * BITMAP_TABLE_ENTRY_BYTES);
  const view = viewOf(bytes);
  entries.forEach((entry, index) => setUint64(view, index * BITMAP_TABLE_ENTRY_BYTES, entry));
  return bytes;
}

/** Whether an entry names a cluster. */
export function namesCluster(entry: number): boolean {
  return entry !== ALL_ZEROES && entry !== ALL_ONES;
}
