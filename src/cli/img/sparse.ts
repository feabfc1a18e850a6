/**
 * Sparse runs: which parts of a buffer hold data and which are zeroes that need not be written, by sectors. Short runs of zeroes
 * between data are taken for data, and runs end where the target's requests do, so that nothing is read to be written again.
 */
import { isZero } from '../../util/bytes.js';

const SECTOR = 512;

/** All in sectors. */
export interface SparseRules {
  /** Runs of zeroes shorter than this are data. */
  readonly min: number;
  /** A power of two. */
  readonly alignment: number;
}

export interface Run {
  readonly data: boolean;
  /** Bytes. */
  readonly length: number;
}

/** The first run of `bytes`, whole sectors that are to be written at `offset`. */
export function firstRun(bytes: Uint8Array, offset: number, rules: SparseRules): Run {
  const total = bytes.length / SECTOR;
  const first = offset / SECTOR;
  const min = Math.min(rules.min, total);
  const start = uniformRun(bytes, 0, first, rules.alignment);
  if (!start.data) return { data: false, length: start.count * SECTOR };
  let used = start.count;
  for (let at = start.count; at < total;) {
    const { data, count } = uniformRun(bytes, at, first, rules.alignment);
    at += count;
    if (data) used = at;
    else if (count >= min) break;
  }
  return { data: true, length: used * SECTOR };
}

/** From sector `from` of the buffer on: how many sectors are alike, fitted to the alignment. */
function uniformRun(
  bytes: Uint8Array,
  from: number,
  first: number,
  alignment: number,
): { readonly data: boolean; readonly count: number } {
  const total = bytes.length / SECTOR - from;
  const zero = isZeroSector(bytes, from);
  let count = 1;
  while (count < total && isZeroSector(bytes, from + count) === zero) count++;
  if (count === total) return { data: !zero, count };
  const tail = (first + from + count) % alignment;
  if (tail === 0) return { data: !zero, count };
  // What follows is of the other kind, and is written together with the tail.
  if (zero && count > tail) return { data: false, count: count - tail };
  return { data: true, count: Math.min(total, count + alignment - tail) };
}

function isZeroSector(bytes: Uint8Array, sector: number): boolean {
  return isZero(bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR));
}
