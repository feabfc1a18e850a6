/**
 * L2 entry: what one guest cluster maps to (spec, "L2 table entry"). Pure.
 *
 *    63  62  61      56 55                9 8      1  0
 *   +---+---+----------+-------------------+--------+---+
 *   | C | Z |    0     | host offset       |   0    | 0 |   C  COPIED: the refcount is exactly one
 *   +---+---+----------+-------------------+--------+---+   Z  compressed (then see compressed-descriptor.ts)
 *                                                     bit 0  reads as zeroes (version 3)
 *
 * An entry is handled as two 32-bit words, `low` and `high`, as it lies in a table slot; no `BigInt`.
 */
import type { HostOffset } from '../disk.js';

export const HIGH_COPIED = 0x8000_0000;
export const HIGH_COMPRESSED = 0x4000_0000;
export const LOW_ZERO = 1;

const HIGH_OFFSET_MASK = 0x00ff_ffff;
const LOW_OFFSET_MASK = 0xffff_fe00;

export type L2EntryKind = 'unallocated' | 'zero' | 'zero-allocated' | 'data' | 'compressed';

/** With an external data file, host offset 0 is a place like any other where COPIED is set. */
export function l2EntryKind(low: number, high: number, externalData = false): L2EntryKind {
  if ((high & HIGH_COMPRESSED) !== 0) return 'compressed';
  const allocated = (low & LOW_OFFSET_MASK) !== 0 || (high & HIGH_OFFSET_MASK) !== 0;
  if ((low & LOW_ZERO) !== 0) return allocated ? 'zero-allocated' : 'zero';
  return allocated || (externalData && (high & HIGH_COPIED) !== 0) ? 'data' : 'unallocated';
}

/** The host offset of a data or allocated zero cluster. Not for compressed ones. May pass 2^53 in a bad image. */
export function l2EntryHost(low: number, high: number): HostOffset {
  return (high & HIGH_OFFSET_MASK) * 0x1_0000_0000 + ((low & LOW_OFFSET_MASK) >>> 0);
}

export function l2EntryCopied(high: number): boolean {
  return (high & HIGH_COPIED) !== 0;
}

/** The low word of an entry that names `host`. */
export function lowOf(host: HostOffset): number {
  return (host % 0x1_0000_0000) >>> 0;
}

/** The high word of an entry that names `host`, without COPIED. */
export function highOf(host: HostOffset): number {
  return Math.floor(host / 0x1_0000_0000);
}
