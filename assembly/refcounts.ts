/**
 * Refcount entries: one, or a range at once. Spec: "Refcount block entry".
 *
 * `order` is log2 of the width in bits. Blocks stay in the order of the file: entries of 16 to 64 bits are big endian,
 * and several narrow entries share a byte, the first in its least significant bits:
 *
 *   order 0   |7|6|5|4|3|2|1|0|     eight entries a byte
 *   order 1   | 3 | 2 | 1 | 0 |     four
 *   order 2   |   1   |   0   |     two
 *
 * A range is added to in two passes, so that it is all or nothing: first every entry is checked against the closed
 * interval `lowest .. highest` of values that can take the delta, then the delta is added. The check makes carries between
 * entries of one byte impossible, so bytes can be added to as a whole.
 */

/** One entry. */
export function refcountGet(block: usize, order: u32, index: u32): f64 {
  return <f64>getEntry(block, order, index);
}

/** Sets one entry; `value` fits the width. */
export function refcountSet(block: usize, order: u32, index: u32, value: f64): void {
  setEntry(block, order, index, <u64>value);
}

/** Adds `delta` to `count` entries. Returns -1, or the first index that can't take it, and then nothing was changed. */
export function refcountAdd(block: usize, order: u32, first: u32, count: u32, delta: i32): i32 {
  if (count == 0) return -1;
  const maximum = maximumOf(order);
  const magnitude: u64 = delta < 0 ? <u64>-(<i64>delta) : <u64>delta;
  if (magnitude > maximum) return first;
  const lowest: u64 = delta < 0 ? magnitude : 0;
  const highest: u64 = delta < 0 ? maximum : maximum - magnitude;
  const end = first + count;
  const outside = firstOutside(block, order, first, end, lowest, highest);
  if (outside < end) return outside;
  addToAll(block, order, first, end, delta);
  return -1;
}

/** The largest value of a width. */
function maximumOf(order: u32): u64 {
  return ~(<u64>0) >> (64 - (1 << order));
}

function getEntry(block: usize, order: u32, index: u32): u64 {
  if (order == 4) return <u64>bswap<u16>(load<u16>(block + (index << 1)));
  if (order < 4) {
    const bit = index << order;
    const mask: u32 = (1 << (1 << order)) - 1;
    return <u64>(((<u32>load<u8>(block + (bit >> 3))) >> (bit & 7)) & mask);
  }
  if (order == 5) return <u64>bswap<u32>(load<u32>(block + (index << 2)));
  return bswap<u64>(load<u64>(block + (index << 3)));
}

function setEntry(block: usize, order: u32, index: u32, value: u64): void {
  if (order == 4) {
    store<u16>(block + (index << 1), bswap<u16>(<u16>value));
  } else if (order < 4) {
    const bit = index << order;
    const address = block + (bit >> 3);
    const mask: u32 = ((1 << (1 << order)) - 1) << (bit & 7);
    store<u8>(address, ((<u32>load<u8>(address)) & ~mask) | (((<u32>value) << (bit & 7)) & mask));
  } else if (order == 5) {
    store<u32>(block + (index << 2), bswap<u32>(<u32>value));
  } else {
    store<u64>(block + (index << 3), bswap<u64>(value));
  }
}

/** The first index in `first .. end` whose entry lies outside `lowest .. highest`, or `end`. */
function firstOutside(block: usize, order: u32, first: u32, end: u32, lowest: u64, highest: u64): u32 {
  const perVector: u32 = 128 >> order;
  const aligned = (first + perVector - 1) & ~(perVector - 1);
  if (order == 6 || aligned + perVector > end) return scanEntries(block, order, first, end, lowest, highest);

  let index = scanEntries(block, order, first, aligned, lowest, highest);
  if (index < aligned) return index;
  const lows = splatLane(order, lowest);
  const highs = splatLane(order, highest);
  for (; index + perVector <= end; index += perVector) {
    const vector = v128.load(block + ((index << order) >> 3));
    if (anyOutside(order, vector, lows, highs)) break;
  }
  return scanEntries(block, order, index, end, lowest, highest);
}

function scanEntries(block: usize, order: u32, first: u32, end: u32, lowest: u64, highest: u64): u32 {
  for (let index = first; index < end; index++) {
    const value = getEntry(block, order, index);
    if (value < lowest || value > highest) return index;
  }
  return end;
}

/** A value in every lane: bytes for the widths up to 8, else lanes of the width. */
function splatLane(order: u32, value: u64): v128 {
  if (order == 4) return i16x8.splat(<i16>value);
  if (order == 5) return i32x4.splat(<i32>value);
  return i8x16.splat(<i8>value);
}

/** Whether any of a vector's entries, as they lie in the file, is outside `lows .. highs`. Orders 0 to 5. */
function anyOutside(order: u32, vector: v128, lows: v128, highs: v128): bool {
  if (order == 4) {
    const lanes = swapLanes16(vector);
    return v128.any_true(v128.or(i16x8.lt_u(lanes, lows), i16x8.gt_u(lanes, highs)));
  }
  if (order == 5) {
    const lanes = swapLanes32(vector);
    return v128.any_true(v128.or(i32x4.lt_u(lanes, lows), i32x4.gt_u(lanes, highs)));
  }
  // The entries of a byte one after the other, each for all sixteen bytes.
  const width: u32 = 1 << order;
  const mask = i8x16.splat(<i8>(((<u32>1) << width) - 1));
  let outside = i64x2.splat(0);
  for (let shift: u32 = 0; shift < 8; shift += width) {
    const entries = v128.and(i8x16.shr_u(vector, shift), mask);
    outside = v128.or(outside, v128.or(i8x16.lt_u(entries, lows), i8x16.gt_u(entries, highs)));
  }
  return v128.any_true(outside);
}

/** Adds `delta` to entries that were all found able to take it. */
function addToAll(block: usize, order: u32, first: u32, end: u32, delta: i32): void {
  const perVector: u32 = 128 >> order;
  const aligned = (first + perVector - 1) & ~(perVector - 1);
  if (order == 6 || aligned + perVector > end) {
    addToEntries(block, order, first, end, delta);
    return;
  }
  addToEntries(block, order, first, aligned, delta);
  const deltas = splatDelta(order, delta);
  let index = aligned;
  for (; index + perVector <= end; index += perVector) {
    const address = block + ((index << order) >> 3);
    v128.store(address, addToVector(order, v128.load(address), deltas));
  }
  addToEntries(block, order, index, end, delta);
}

function addToEntries(block: usize, order: u32, first: u32, end: u32, delta: i32): void {
  for (let index = first; index < end; index++) {
    setEntry(block, order, index, getEntry(block, order, index) + <u64>(<i64>delta));
  }
}

/** The delta for every entry of a vector. For narrow entries: for each entry of a byte, as one number modulo 256. */
function splatDelta(order: u32, delta: i32): v128 {
  if (order == 4) return i16x8.splat(<i16>delta);
  if (order == 5) return i32x4.splat(delta);
  const onesPerEntry: i32 = 255 / ((1 << (1 << order)) - 1);
  return i8x16.splat(<i8>(delta * onesPerEntry));
}

function addToVector(order: u32, vector: v128, deltas: v128): v128 {
  if (order == 4) return swapLanes16(i16x8.add(swapLanes16(vector), deltas));
  if (order == 5) return swapLanes32(i32x4.add(swapLanes32(vector), deltas));
  return i8x16.add(vector, deltas);
}

function swapLanes16(vector: v128): v128 {
  return i8x16.swizzle(vector, i8x16(1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
}

function swapLanes32(vector: v128): v128 {
  return i8x16.swizzle(vector, i8x16(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12));
}
