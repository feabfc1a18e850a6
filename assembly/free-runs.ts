/**
 * Free and used runs in a refcount block. Spec: "Refcount block entry".
 *
 * Every width is brought to one form first: a mask of 64 bits for a group of 64 entries, bit `k` set when entry `k` of the
 * group is zero. The searches then know nothing of widths.
 *
 *   entries   0 0 3 1 0 0 0 2 ...      mask   ... 0 1 1 1 0 0 1 1   (bit 0 at the right)
 *
 * A group is 8 bytes at width 1 and 512 at width 64. Groups are read whole, so the memory has to reach to the end of the
 * last one; entries outside the range asked for are masked out.
 */

/** Entries of a group. */
const GROUP: u32 = 64;
const ALL: u64 = ~(<u64>0);

/** How many entries from `first` on, below `end`, are zero without a gap. */
export function refcountFreeLength(block: usize, order: u32, first: u32, end: u32): u32 {
  return lengthUntil(block, order, first, end, ALL);
}

/** How many entries from `first` on, below `end`, are not zero without a gap. */
export function refcountUsedLength(block: usize, order: u32, first: u32, end: u32): u32 {
  return lengthUntil(block, order, first, end, 0);
}

/** The distance from `first` to the first set bit of the free masks, each exclusive-or `flip`; at most to `end`. */
function lengthUntil(block: usize, order: u32, first: u32, end: u32, flip: u64): u32 {
  for (let group = first & ~(GROUP - 1); group < end; group += GROUP) {
    const stops = (freeMask(block, order, group) ^ flip) & rangeMask(group, first, end);
    if (stops != 0) return group + <u32>ctz<u64>(stops) - first;
  }
  return end > first ? end - first : 0;
}

/** The bits of a group that lie in `first .. end`. */
function rangeMask(group: u32, first: u32, end: u32): u64 {
  let mask = ALL;
  if (group < first) mask <<= first - group;
  if (end - group < GROUP) mask &= ~(ALL << (end - group));
  return mask;
}

/** The mask of the zero entries of the group that starts at entry `group`. */
function freeMask(block: usize, order: u32, group: u32): u64 {
  const address = block + ((group << order) >> 3);
  switch (order) {
    case 0:
      return ~load<u64>(address);
    case 1:
      return freeMaskOfPairs(load<u64>(address)) | (freeMaskOfPairs(load<u64>(address, 8)) << 32);
    case 2:
      return (<u64>freeMaskOfNibbles(address)) | ((<u64>freeMaskOfNibbles(address + 16)) << 32);
    case 3:
      return join(zeroBytes(address), zeroBytes(address + 16), zeroBytes(address + 32), zeroBytes(address + 48));
    case 4:
      return join(zeroWords(address), zeroWords(address + 32), zeroWords(address + 64), zeroWords(address + 96));
    case 5:
      return join(zeroLongs(address), zeroLongs(address + 64), zeroLongs(address + 128), zeroLongs(address + 192));
    default:
      return freeMaskOfQuads(address);
  }
}

/** Four times sixteen bits. */
function join(a: u32, b: u32, c: u32, d: u32): u64 {
  return (<u64>(a | (b << 16))) | ((<u64>(c | (d << 16))) << 32);
}

/** 32 entries of 2 bits. */
function freeMaskOfPairs(pairs: u64): u64 {
  // One bit for each pair, at the even positions, then moved together by halves.
  let mask = ~(pairs | (pairs >> 1)) & 0x5555555555555555;
  mask = (mask | (mask >> 1)) & 0x3333333333333333;
  mask = (mask | (mask >> 2)) & 0x0f0f0f0f0f0f0f0f;
  mask = (mask | (mask >> 4)) & 0x00ff00ff00ff00ff;
  mask = (mask | (mask >> 8)) & 0x0000ffff0000ffff;
  return (mask | (mask >> 16)) & 0x00000000ffffffff;
}

/** 32 entries of 4 bits. */
function freeMaskOfNibbles(address: usize): u32 {
  const zero = i64x2.splat(0);
  const nibbles = v128.load(address);
  const low = i8x16.eq(v128.and(nibbles, i8x16.splat(0x0f)), zero);
  const high = i8x16.eq(i8x16.shr_u(nibbles, 4), zero);
  const first = i8x16.shuffle(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const second = i8x16.shuffle(low, high, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  return (<u32>i8x16.bitmask(first)) | ((<u32>i8x16.bitmask(second)) << 16);
}

/** 16 entries of 8 bits. */
function zeroBytes(address: usize): u32 {
  return i8x16.bitmask(i8x16.eq(v128.load(address), i64x2.splat(0)));
}

/** 16 entries of 16 bits. */
function zeroWords(address: usize): u32 {
  const zero = i64x2.splat(0);
  const first = i16x8.eq(v128.load(address), zero);
  const second = i16x8.eq(v128.load(address, 16), zero);
  return i8x16.bitmask(i8x16.narrow_i16x8_s(first, second));
}

/** 16 entries of 32 bits. */
function zeroLongs(address: usize): u32 {
  const zero = i64x2.splat(0);
  const a = i32x4.eq(v128.load(address), zero);
  const b = i32x4.eq(v128.load(address, 16), zero);
  const c = i32x4.eq(v128.load(address, 32), zero);
  const d = i32x4.eq(v128.load(address, 48), zero);
  return i8x16.bitmask(i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d)));
}

/** 64 entries of 64 bits. */
function freeMaskOfQuads(address: usize): u64 {
  const zero = i64x2.splat(0);
  let mask: u64 = 0;
  for (let index: u32 = 0; index < GROUP; index += 2) {
    const pair = <u64>i64x2.bitmask(i64x2.eq(v128.load(address + (index << 3)), zero));
    mask |= pair << index;
  }
  return mask;
}
