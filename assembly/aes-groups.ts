/**
 * Bitslicing: AES as a circuit of XOR and AND gates, each gate one instruction for all 128 bytes of a group of eight blocks. So
 * there are no tables and no branches that depend on data or keys, and the time says nothing about them.
 *
 * A group is sliced and put together again where it lies. Sliced, its register `BIT i` has bit `i` of each byte; bit `k` of a byte of
 * the register belongs to block `k`. The bytes lie row by row (AES counts them column by column), so that a row of the
 * cipher's state is a 32-bit lane:
 *
 *   byte of a register    0  1  2  3 |  4  5  6  7 |  8  9 10 11 | 12 13 14 15
 *   byte of the block     0  4  8 12 |  1  5  9 13 |  2  6 10 14 |  3  7 11 15
 *                         row 0         row 1         row 2         row 3
 *
 * Each step of a round is a loop over all groups, four for a sector. What a step waits for is then four groups old (measured: all
 * rounds of one group before the next are 8 % slower).
 */

export const BLOCK_BYTES: usize = 16;
/** Blocks of a group: one for each bit of a byte. */
export const GROUP_BLOCKS: usize = 8;
export const GROUP_BYTES: usize = GROUP_BLOCKS * BLOCK_BYTES;

export const BIT0: usize = 0;
export const BIT1: usize = 16;
export const BIT2: usize = 32;
export const BIT3: usize = 48;
export const BIT4: usize = 64;
export const BIT5: usize = 80;
export const BIT6: usize = 96;
export const BIT7: usize = 112;

/**
 * Slices the groups from `groups` to `end`, or puts them together again: bit i of block k changes places with bit k of block
 * i, in every byte, and rows with columns. The first is an 8 by 8 transposition, done for the three bits of i and k in turn.
 */
export function transpose(groups: usize, end: usize): void {
  for (let group = groups; group < end; group += GROUP_BYTES) {
    let a = swapRowsAndColumns(v128.load(group, BIT0));
    let b = swapRowsAndColumns(v128.load(group, BIT1));
    let c = swapRowsAndColumns(v128.load(group, BIT2));
    let d = swapRowsAndColumns(v128.load(group, BIT3));
    let e = swapRowsAndColumns(v128.load(group, BIT4));
    let f = swapRowsAndColumns(v128.load(group, BIT5));
    let g = swapRowsAndColumns(v128.load(group, BIT6));
    let h = swapRowsAndColumns(v128.load(group, BIT7));
    let t = different1(a, b);
    a = v128.xor(a, i64x2.shl(t, 1));
    b = v128.xor(b, t);
    t = different1(c, d);
    c = v128.xor(c, i64x2.shl(t, 1));
    d = v128.xor(d, t);
    t = different1(e, f);
    e = v128.xor(e, i64x2.shl(t, 1));
    f = v128.xor(f, t);
    t = different1(g, h);
    g = v128.xor(g, i64x2.shl(t, 1));
    h = v128.xor(h, t);
    t = different2(a, c);
    a = v128.xor(a, i64x2.shl(t, 2));
    c = v128.xor(c, t);
    t = different2(b, d);
    b = v128.xor(b, i64x2.shl(t, 2));
    d = v128.xor(d, t);
    t = different2(e, g);
    e = v128.xor(e, i64x2.shl(t, 2));
    g = v128.xor(g, t);
    t = different2(f, h);
    f = v128.xor(f, i64x2.shl(t, 2));
    h = v128.xor(h, t);
    t = different4(a, e);
    v128.store(group, v128.xor(a, i64x2.shl(t, 4)), BIT0);
    v128.store(group, v128.xor(e, t), BIT4);
    t = different4(b, f);
    v128.store(group, v128.xor(b, i64x2.shl(t, 4)), BIT1);
    v128.store(group, v128.xor(f, t), BIT5);
    t = different4(c, g);
    v128.store(group, v128.xor(c, i64x2.shl(t, 4)), BIT2);
    v128.store(group, v128.xor(g, t), BIT6);
    t = different4(d, h);
    v128.store(group, v128.xor(d, i64x2.shl(t, 4)), BIT3);
    v128.store(group, v128.xor(h, t), BIT7);
  }
}

function swapRowsAndColumns(block: v128): v128 {
  return i8x16.swizzle(block, i8x16(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
}

// Where the upper bits of `low` and the lower ones of `high` that are to change places differ: in each 2, 4 or 8 bits.

function different1(low: v128, high: v128): v128 {
  return v128.and(v128.xor(i64x2.shr_u(low, 1), high), i8x16.splat(0x55));
}

function different2(low: v128, high: v128): v128 {
  return v128.and(v128.xor(i64x2.shr_u(low, 2), high), i8x16.splat(0x33));
}

function different4(low: v128, high: v128): v128 {
  return v128.and(v128.xor(i64x2.shr_u(low, 4), high), i8x16.splat(0x0f));
}
