/**
 * L2 tables: byte order, and runs of entries. Spec: "Cluster mapping".
 *
 * In the file an entry is 8 bytes, big endian. In memory the host keeps tables in native order, so that an entry is one
 * `u64` here and two words (low, high) for JavaScript:
 *
 *   file    | 7 6 5 4 3 2 1 0 |  most significant byte first
 *   memory  | 0 1 2 3 4 5 6 7 |
 *
 * A run is `count` entries of which each is the one before plus `step`, modulo 2^64. Flag bits are part of an entry:
 * adding a small step never reaches them in a valid table, and in an invalid one the run simply ends or wraps.
 */

/** Bytes of an entry, as a shift. */
const ENTRY_SHIFT: u32 = 3;

/** Reverses the bytes of `count` entries on the way from `from` to `to`. */
export function swap64(from: usize, to: usize, count: u32): void {
  const reverse = i8x16(7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8);
  const end = from + (count << ENTRY_SHIFT);
  // Eight entries a step; all loads come before the stores, so `from` may equal `to`.
  while (from + 64 <= end) {
    const a = i8x16.swizzle(v128.load(from), reverse);
    const b = i8x16.swizzle(v128.load(from, 16), reverse);
    const c = i8x16.swizzle(v128.load(from, 32), reverse);
    const d = i8x16.swizzle(v128.load(from, 48), reverse);
    v128.store(to, a);
    v128.store(to, b, 16);
    v128.store(to, c, 32);
    v128.store(to, d, 48);
    from += 64;
    to += 64;
  }
  while (from < end) {
    store<u64>(to, bswap<u64>(load<u64>(from)));
    from += 8;
    to += 8;
  }
}

/** The length of the run of step `step` that starts at entry `first`, within `first .. end`; at least 1. */
export function l2RunLength(table: usize, first: u32, end: u32, step: u32): u32 {
  const increment = <u64>step;
  let index = first + 1;
  let expected = load<u64>(table + (first << ENTRY_SHIFT)) + increment;
  if (index < end && load<u64>(table + (index << ENTRY_SHIFT)) == expected) {
    index = skipWholeSteps(table, index, end, expected, increment);
    expected = load<u64>(table + (first << ENTRY_SHIFT)) + <u64>(index - first) * increment;
    while (index < end && load<u64>(table + (index << ENTRY_SHIFT)) == expected) {
      index += 1;
      expected += increment;
    }
  }
  return index - first;
}

/** Eight entries at a time: the first index at which a whole step of eight does not continue the run. */
function skipWholeSteps(table: usize, index: u32, end: u32, expected: u64, increment: u64): u32 {
  let pair = i64x2.replace_lane(i64x2.splat(expected), 1, expected + increment);
  const two = i64x2.splat(increment * 2);
  const four = i64x2.splat(increment * 4);
  const six = i64x2.splat(increment * 6);
  const eight = i64x2.splat(increment * 8);
  while (index + 8 <= end) {
    const entries = table + (index << ENTRY_SHIFT);
    const a = v128.xor(v128.load(entries), pair);
    const b = v128.xor(v128.load(entries, 16), i64x2.add(pair, two));
    const c = v128.xor(v128.load(entries, 32), i64x2.add(pair, four));
    const d = v128.xor(v128.load(entries, 48), i64x2.add(pair, six));
    if (v128.any_true(v128.or(v128.or(a, b), v128.or(c, d)))) break;
    pair = i64x2.add(pair, eight);
    index += 8;
  }
  return index;
}

/** Sets `count` entries from `first` to the run of step `step` that starts with `high:low`. */
export function l2FillRun(table: usize, first: u32, count: u32, low: u32, high: u32, step: u32): void {
  const increment = <u64>step;
  let entry = ((<u64>high) << 32) | (<u64>low);
  let address = table + (first << ENTRY_SHIFT);
  const end = address + (count << ENTRY_SHIFT);
  let pair = i64x2.replace_lane(i64x2.splat(entry), 1, entry + increment);
  const two = i64x2.splat(increment * 2);
  while (address + 16 <= end) {
    v128.store(address, pair);
    pair = i64x2.add(pair, two);
    address += 16;
  }
  if (address < end) {
    entry += increment * <u64>(count - 1);
    store<u64>(address, entry);
  }
}
