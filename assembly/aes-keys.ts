/**
 * Key slots: an expanded AES key, ready for the bitsliced rounds. FIPS 197, section 5.2.
 *
 *   0     the number of rounds: 10, 12 or 14
 *   16    round keys 0 to 14, each a group of eight equal blocks, sliced as in `aes-groups.ts`
 *
 * Each round key but the first also contains 0x63 in every byte, which the S-box leaves out. It may come that late, because
 * ShiftRows and MixColumns leave a state alone that has the same byte everywhere.
 */
import { BLOCK_BYTES, GROUP_BYTES, transpose } from './aes-groups';
import { substitute } from './aes-sbox';

export const ROUND_KEY_BYTES: usize = GROUP_BYTES;
const ROUND_KEYS: usize = 16;
/** Bytes of a key slot. */
export const SLOT_BYTES: usize = 2048;

const AFFINE_CONSTANT: i8 = 0x63;

/** What `expandKey` needs of memory: the words of all round keys, a group to work in, and a round key of zeroes. */
export const SCRATCH_BYTES: usize = 512;
const GROUP: usize = 256;
const ZEROES: usize = 384;

export function firstRoundKey(slot: usize): usize {
  return slot + ROUND_KEYS;
}

export function lastRoundKey(slot: usize): usize {
  return slot + ROUND_KEYS + <usize>load<u32>(slot) * ROUND_KEY_BYTES;
}

/** Expands the key of `keyBytes` (16, 24 or 32) at `key` into `slot`. `scratch` is zeroes afterwards. */
export function expandKey(slot: usize, scratch: usize, key: usize, keyBytes: u32): void {
  const keyWords = keyBytes >> 2;
  const rounds = keyWords + 6;
  memory.fill(scratch + ZEROES, 0, GROUP_BYTES);
  expandWords(scratch, key, keyWords, 4 * (rounds + 1));
  store<u32>(slot, rounds);
  for (let round: usize = 0; round <= rounds; round++) {
    const constant = round == 0 ? i8x16.splat(0) : i8x16.splat(AFFINE_CONSTANT);
    const block = v128.xor(v128.load(scratch + round * BLOCK_BYTES), constant);
    sliceEightOf(block, slot + ROUND_KEYS + round * ROUND_KEY_BYTES);
  }
  memory.fill(scratch, 0, SCRATCH_BYTES);
}

/** The words of all round keys, `count` of them, in the order of the standard. */
function expandWords(words: usize, key: usize, keyWords: u32, count: u32): void {
  memory.copy(words, key, keyWords << 2);
  let constant: u32 = 1;
  for (let index = keyWords; index < count; index++) {
    const address = words + (index << 2);
    let word = load<u32>(address - 4);
    const place = index % keyWords;
    if (place == 0) {
      // The first byte is the lowest, so RotWord is a rotation to the right.
      word = substituteWord(words, rotr<u32>(word, 8)) ^ constant;
      constant = (constant << 1) ^ ((constant >> 7) * 0x11b);
    } else if (keyWords > 6 && place == 4) {
      word = substituteWord(words, word);
    }
    store<u32>(address, load<u32>(address - (keyWords << 2)) ^ word);
  }
}

/** SubWord, by the circuit: on a state with four equal columns, which ShiftRows leaves alone. */
function substituteWord(scratch: usize, word: u32): u32 {
  const group = scratch + GROUP;
  const end = group + GROUP_BYTES;
  sliceEightOf(i32x4.splat(word), group);
  substitute(group, end, scratch + ZEROES);
  transpose(group, end);
  return load<u32>(group) ^ 0x63636363;
}

/** Makes a group of eight equal blocks. */
function sliceEightOf(block: v128, group: usize): void {
  for (let offset: usize = 0; offset < GROUP_BYTES; offset += BLOCK_BYTES) v128.store(group + offset, block);
  transpose(group, group + GROUP_BYTES);
}
