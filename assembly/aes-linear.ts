/**
 * The linear steps of a round: AddRoundKey, MixColumns and its inverse. FIPS 197, sections 5.1.3, 5.1.4, 5.3.3 and 5.3.4.
 * ShiftRows is done where the state is stored or loaded anyway, in `aes-sbox.ts` and `aes-sbox-inverse.ts`.
 *
 * Each is done to the eight registers of a group, bit by bit. As rows are 32-bit lanes, "the row below" is a rotation of the
 * lanes.
 *
 * Doubling in GF(2^8) moves bit i to i + 1, and bit 7 to the bits 0, 1, 3 and 4 (x^8 = x^4 + x^3 + x + 1).
 */
import { BIT0, BIT1, BIT2, BIT3, BIT4, BIT5, BIT6, BIT7, GROUP_BYTES } from './aes-groups';

/** The state exclusive-or a round key. */
export function addRoundKey(groups: usize, end: usize, key: usize): void {
  for (let group = groups; group < end; group += GROUP_BYTES) {
    v128.store(group, v128.xor(v128.load(group, BIT0), v128.load(key, BIT0)), BIT0);
    v128.store(group, v128.xor(v128.load(group, BIT1), v128.load(key, BIT1)), BIT1);
    v128.store(group, v128.xor(v128.load(group, BIT2), v128.load(key, BIT2)), BIT2);
    v128.store(group, v128.xor(v128.load(group, BIT3), v128.load(key, BIT3)), BIT3);
    v128.store(group, v128.xor(v128.load(group, BIT4), v128.load(key, BIT4)), BIT4);
    v128.store(group, v128.xor(v128.load(group, BIT5), v128.load(key, BIT5)), BIT5);
    v128.store(group, v128.xor(v128.load(group, BIT6), v128.load(key, BIT6)), BIT6);
    v128.store(group, v128.xor(v128.load(group, BIT7), v128.load(key, BIT7)), BIT7);
  }
}

/**
 * MixColumns. With a for a row and b, c, d for the rows below it, the new row is 2a + 3b + c + d = 2(a + b) + b + (c + d),
 * and c + d is a + b two rows further down.
 */
export function mix(groups: usize, end: usize): void {
  for (let group = groups; group < end; group += GROUP_BYTES) {
    const a0 = v128.load(group, BIT0);
    const a1 = v128.load(group, BIT1);
    const a2 = v128.load(group, BIT2);
    const a3 = v128.load(group, BIT3);
    const a4 = v128.load(group, BIT4);
    const a5 = v128.load(group, BIT5);
    const a6 = v128.load(group, BIT6);
    const a7 = v128.load(group, BIT7);
    const b0 = rowBelow(a0);
    const b1 = rowBelow(a1);
    const b2 = rowBelow(a2);
    const b3 = rowBelow(a3);
    const b4 = rowBelow(a4);
    const b5 = rowBelow(a5);
    const b6 = rowBelow(a6);
    const b7 = rowBelow(a7);
    const sum0 = v128.xor(a0, b0);
    const sum1 = v128.xor(a1, b1);
    const sum2 = v128.xor(a2, b2);
    const sum3 = v128.xor(a3, b3);
    const sum4 = v128.xor(a4, b4);
    const sum5 = v128.xor(a5, b5);
    const sum6 = v128.xor(a6, b6);
    const sum7 = v128.xor(a7, b7);
    v128.store(group, mixed(b0, sum0, sum7), BIT0);
    v128.store(group, mixed(b1, sum1, v128.xor(sum0, sum7)), BIT1);
    v128.store(group, mixed(b2, sum2, sum1), BIT2);
    v128.store(group, mixed(b3, sum3, v128.xor(sum2, sum7)), BIT3);
    v128.store(group, mixed(b4, sum4, v128.xor(sum3, sum7)), BIT4);
    v128.store(group, mixed(b5, sum5, sum4), BIT5);
    v128.store(group, mixed(b6, sum6, sum5), BIT6);
    v128.store(group, mixed(b7, sum7, sum6), BIT7);
  }
}

/**
 * InvMixColumns: MixColumns after each row a became a + 4(a + c), where c is the row two further down. As matrices:
 * (2, 3, 1, 1) times (5, 0, 4, 0) is (14, 11, 13, 9).
 */
export function unmix(groups: usize, end: usize): void {
  for (let group = groups; group < end; group += GROUP_BYTES) {
    const r0 = v128.load(group, BIT0);
    const r1 = v128.load(group, BIT1);
    const r2 = v128.load(group, BIT2);
    const r3 = v128.load(group, BIT3);
    const r4 = v128.load(group, BIT4);
    const r5 = v128.load(group, BIT5);
    const r6 = v128.load(group, BIT6);
    const r7 = v128.load(group, BIT7);
    const t0 = v128.xor(r0, twoRowsBelow(r0));
    const t1 = v128.xor(r1, twoRowsBelow(r1));
    const t2 = v128.xor(r2, twoRowsBelow(r2));
    const t3 = v128.xor(r3, twoRowsBelow(r3));
    const t4 = v128.xor(r4, twoRowsBelow(r4));
    const t5 = v128.xor(r5, twoRowsBelow(r5));
    const t6 = v128.xor(r6, twoRowsBelow(r6));
    const t7 = v128.xor(r7, twoRowsBelow(r7));
    // Doubled twice, bit 6 goes to 0, 1, 3 and 4, and bit 7 to 1, 2, 4 and 5.
    const t67 = v128.xor(t6, t7);
    const a0 = v128.xor(r0, t6);
    const a1 = v128.xor(r1, t67);
    const a2 = v128.xor(r2, v128.xor(t0, t7));
    const a3 = v128.xor(r3, v128.xor(t1, t6));
    const a4 = v128.xor(r4, v128.xor(t2, t67));
    const a5 = v128.xor(r5, v128.xor(t3, t7));
    const a6 = v128.xor(r6, t4);
    const a7 = v128.xor(r7, t5);
    const b0 = rowBelow(a0);
    const b1 = rowBelow(a1);
    const b2 = rowBelow(a2);
    const b3 = rowBelow(a3);
    const b4 = rowBelow(a4);
    const b5 = rowBelow(a5);
    const b6 = rowBelow(a6);
    const b7 = rowBelow(a7);
    const sum0 = v128.xor(a0, b0);
    const sum1 = v128.xor(a1, b1);
    const sum2 = v128.xor(a2, b2);
    const sum3 = v128.xor(a3, b3);
    const sum4 = v128.xor(a4, b4);
    const sum5 = v128.xor(a5, b5);
    const sum6 = v128.xor(a6, b6);
    const sum7 = v128.xor(a7, b7);
    v128.store(group, mixed(b0, sum0, sum7), BIT0);
    v128.store(group, mixed(b1, sum1, v128.xor(sum0, sum7)), BIT1);
    v128.store(group, mixed(b2, sum2, sum1), BIT2);
    v128.store(group, mixed(b3, sum3, v128.xor(sum2, sum7)), BIT3);
    v128.store(group, mixed(b4, sum4, v128.xor(sum3, sum7)), BIT4);
    v128.store(group, mixed(b5, sum5, sum4), BIT5);
    v128.store(group, mixed(b6, sum6, sum5), BIT6);
    v128.store(group, mixed(b7, sum7, sum6), BIT7);
  }
}

/** One bit of 2(a + b) + b + (c + d); `sum` is that bit of a + b, `doubled` of 2(a + b). */
function mixed(b: v128, sum: v128, doubled: v128): v128 {
  return v128.xor(v128.xor(b, twoRowsBelow(sum)), doubled);
}

/** Row r gets what row r + 1 had. */
function rowBelow(bits: v128): v128 {
  return i32x4.shuffle(bits, bits, 1, 2, 3, 0);
}

/** Row r gets what row r + 2 had. */
function twoRowsBelow(bits: v128): v128 {
  return i32x4.shuffle(bits, bits, 2, 3, 0, 1);
}
