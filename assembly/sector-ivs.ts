/**
 * What makes equal sectors differ: the IV of each, made from its number, and XTS's tweaks, made from the IV.
 *
 *   plain     the low 32 bits of the number, little endian, then zeroes
 *   plain64   all 64 bits of it
 *   essiv     plain64, encrypted with a key of its own
 */
import { encryptGroups } from './aes-blocks';
import { BLOCK_BYTES, GROUP_BLOCKS } from './aes-groups';
import { SECTOR_BYTES, ivKeyOf, ivsOf, tweakKeyOf } from './sector-context';

/** The kinds of IV, as the host passes them. */
const PLAIN: u32 = 0;
const ESSIV: u32 = 2;

/** Puts the IVs of `count` (at most 32) sectors from `sector` on into the context's IVs. */
export function makeIvs(context: usize, count: usize, sector: u64, kind: u32): void {
  writeIvs(context, ivsOf(context), count, sector, kind);
}

/** Writes the IVs of `count` sectors to `ivs`. What comes after them, up to a whole group, may change. */
export function writeIvs(context: usize, ivs: usize, count: usize, sector: u64, kind: u32): void {
  const mask: u64 = kind == PLAIN ? 0xffffffff : ~(<u64>0);
  for (let index: usize = 0; index < count; index++) {
    store<u64>(ivs + index * BLOCK_BYTES, (sector + index) & mask);
    store<u64>(ivs + index * BLOCK_BYTES, 0, 8);
  }
  if (kind == ESSIV) encryptGroups(ivKeyOf(context), ivs, groupsFor(count));
}

/** Makes the IVs the first tweaks of their sectors. IEEE 1619, section 5.3.1. */
export function makeFirstTweaks(context: usize, count: usize, sector: u64, kind: u32): void {
  makeIvs(context, count, sector, kind);
  encryptGroups(tweakKeyOf(context), ivsOf(context), groupsFor(count));
}

/** The groups that `blocks` blocks take. What else is in the last one does no harm. */
export function groupsFor(blocks: usize): usize {
  return (blocks + GROUP_BLOCKS - 1) / GROUP_BLOCKS;
}

/**
 * Writes the tweaks of all blocks of a sector to `tweaks`: each is the one before, times x in GF(2^128), where the bytes are
 * little endian. IEEE 1619, section 5.2.
 */
export function makeTweaks(firstTweak: usize, tweaks: usize): void {
  let tweak = v128.load(firstTweak);
  for (let offset: usize = 0; offset < SECTOR_BYTES; offset += BLOCK_BYTES) {
    v128.store(tweaks + offset, tweak);
    tweak = double(tweak);
  }
}

/** Adds the tweaks of all blocks of a sector to it. */
export function addTweaks(data: usize, firstTweak: usize): void {
  let tweak = v128.load(firstTweak);
  for (const end = data + SECTOR_BYTES; data < end; data += BLOCK_BYTES) {
    v128.store(data, v128.xor(v128.load(data), tweak));
    tweak = double(tweak);
  }
}

/** The same for four sectors side by side: as each tweak waits for the one before it, one sector alone takes 1.5 times as long (measured). */
export function addTweaksToFour(data: usize, firstTweaks: usize): void {
  let a = v128.load(firstTweaks);
  let b = v128.load(firstTweaks, 16);
  let c = v128.load(firstTweaks, 32);
  let d = v128.load(firstTweaks, 48);
  for (const end = data + SECTOR_BYTES; data < end; data += BLOCK_BYTES) {
    v128.store(data, v128.xor(v128.load(data), a));
    v128.store(data, v128.xor(v128.load(data, 512), b), 512);
    v128.store(data, v128.xor(v128.load(data, 1024), c), 1024);
    v128.store(data, v128.xor(v128.load(data, 1536), d), 1536);
    a = double(a);
    b = double(b);
    c = double(c);
    d = double(d);
  }
}

function double(tweak: v128): v128 {
  // The top bit of the low half enters the high one; the one of the high half comes back as x^7 + x^2 + x + 1.
  const signs = i32x4.shr_s(tweak, 31);
  const carried = v128.and(i32x4.shuffle(signs, signs, 3, 3, 1, 1), i32x4(0x87, 0, 1, 0));
  return v128.xor(i64x2.shl(tweak, 1), carried);
}
