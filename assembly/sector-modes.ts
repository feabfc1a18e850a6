/**
 * The sector ciphers as the host calls them: `sectors` sectors of 512 bytes at `data`, in place, in one call. The first one's
 * number comes as two words. `context` is laid out in `sector-context.ts`, `iv` is a kind of `sector-ivs.ts`.
 *
 * ECB and XTS take a sector at a time, which is four groups of blocks; so do CBC when it decrypts, and CTR. CBC that encrypts is
 * a chain within a sector, so it takes 32 sectors side by side.
 *
 * `aesIvs`, `addSectorTweaks` and `aesCbcUnchain` are what is left of XTS and CBC for a host that has a fast ECB of its own.
 */
import { decryptGroups, encryptGroups } from './aes-blocks';
import { BLOCK_BYTES } from './aes-groups';
import { expandKey } from './aes-keys';
import { BATCH, SECTOR_BYTES, blocksOf, dataKeyOf, ivsOf, slotOf } from './sector-context';
import { addTweaks, addTweaksToFour, groupsFor, makeFirstTweaks, makeIvs, makeTweaks, writeIvs } from './sector-ivs';

/** Groups of a sector. */
const ALL: usize = 4;

/** Expands the AES key of `keyBytes` (16, 24 or 32) at `key` into slot `slot` (0 to 2) of the context. */
export function aesSetKey(context: usize, slot: usize, key: usize, keyBytes: u32): void {
  expandKey(slotOf(context, slot), blocksOf(context), key, keyBytes);
}

export function aesEcbEncrypt(context: usize, data: usize, sectors: usize): void {
  const end = data + sectors * SECTOR_BYTES;
  for (let at = data; at < end; at += SECTOR_BYTES) encryptGroups(dataKeyOf(context), at, ALL);
}

export function aesEcbDecrypt(context: usize, data: usize, sectors: usize): void {
  const end = data + sectors * SECTOR_BYTES;
  for (let at = data; at < end; at += SECTOR_BYTES) decryptGroups(dataKeyOf(context), at, ALL);
}

export function aesXtsEncrypt(context: usize, data: usize, sectors: usize, low: u32, high: u32, iv: u32): void {
  xts(context, data, sectors, toSector(low, high), iv, false);
}

export function aesXtsDecrypt(context: usize, data: usize, sectors: usize, low: u32, high: u32, iv: u32): void {
  xts(context, data, sectors, toSector(low, high), iv, true);
}

/**
 * Writes the IVs of the sectors to `ivs`, 16 bytes each. What comes after them, up to a multiple of 128 bytes, may change. Encrypted
 * with XTS's second key, they are the first tweaks.
 */
export function aesIvs(context: usize, ivs: usize, sectors: usize, low: u32, high: u32, iv: u32): void {
  writeIvs(context, ivs, sectors, toSector(low, high), iv);
}

/** Adds to the sectors the tweaks of all their blocks, made from the first of each: before ECB and after it, that is XTS. */
export function addSectorTweaks(data: usize, sectors: usize, firstTweaks: usize): void {
  let done: usize = 0;
  for (; done + 4 <= sectors; done += 4) addTweaksToFour(data + done * SECTOR_BYTES, firstTweaks + done * BLOCK_BYTES);
  for (; done < sectors; done++) addTweaks(data + done * SECTOR_BYTES, firstTweaks + done * BLOCK_BYTES);
}

export function aesCbcEncrypt(context: usize, data: usize, sectors: usize, low: u32, high: u32, iv: u32): void {
  const sector = toSector(low, high);
  for (let done: usize = 0; done < sectors; done += BATCH) {
    const count = min<usize>(BATCH, sectors - done);
    makeIvs(context, count, sector + done, iv);
    encryptChains(context, data + done * SECTOR_BYTES, count);
  }
}

export function aesCbcDecrypt(context: usize, data: usize, sectors: usize, low: u32, high: u32, iv: u32): void {
  const sector = toSector(low, high);
  for (let done: usize = 0; done < sectors; done++) {
    if (done % BATCH == 0) makeIvs(context, min<usize>(BATCH, sectors - done), sector + done, iv);
    takePrevious(context, data, done % BATCH);
    decryptGroups(dataKeyOf(context), data, ALL);
    xorSectors(data, blocksOf(context), 1);
    data += SECTOR_BYTES;
  }
}

/** What CBC decryption does after the cipher: adds to each block of `plain` the block of `cipher` before it, or the IV. */
export function aesCbcUnchain(
  context: usize,
  plain: usize,
  cipher: usize,
  sectors: usize,
  low: u32,
  high: u32,
  iv: u32,
): void {
  const sector = toSector(low, high);
  for (let done: usize = 0; done < sectors; done++) {
    if (done % BATCH == 0) makeIvs(context, min<usize>(BATCH, sectors - done), sector + done, iv);
    takePrevious(context, cipher + done * SECTOR_BYTES, done % BATCH);
    xorSectors(plain + done * SECTOR_BYTES, blocksOf(context), 1);
  }
}

/** CTR, which is its own inverse. The IV is the first counter, a big-endian number of 128 bits. NIST SP 800-38A, section 6.5. */
export function aesCtr(context: usize, data: usize, sectors: usize, low: u32, high: u32, iv: u32): void {
  const sector = toSector(low, high);
  for (let done: usize = 0; done < sectors; done++) {
    if (done % BATCH == 0) makeIvs(context, min<usize>(BATCH, sectors - done), sector + done, iv);
    makeCounters(context, done % BATCH);
    encryptGroups(dataKeyOf(context), blocksOf(context), ALL);
    xorSectors(data, blocksOf(context), 1);
    data += SECTOR_BYTES;
  }
}

/** XTS is ECB between two additions of the tweaks. IEEE 1619, sections 5.3 and 5.4. */
function xts(context: usize, data: usize, sectors: usize, sector: u64, iv: u32, decrypt: bool): void {
  const tweaks = blocksOf(context);
  for (let done: usize = 0; done < sectors; done++) {
    const index = done % BATCH;
    if (index == 0) makeFirstTweaks(context, min<usize>(BATCH, sectors - done), sector + done, iv);
    makeTweaks(ivsOf(context) + index * BLOCK_BYTES, tweaks);
    xorSectors(data, tweaks, 1);
    if (decrypt) decryptGroups(dataKeyOf(context), data, ALL);
    else encryptGroups(dataKeyOf(context), data, ALL);
    xorSectors(data, tweaks, 1);
    data += SECTOR_BYTES;
  }
}

/** `count` sectors at `data`, chained each in itself from the context's IVs on: one block of each at a time. */
function encryptChains(context: usize, data: usize, count: usize): void {
  const chains = ivsOf(context);
  for (let offset: usize = 0; offset < SECTOR_BYTES; offset += BLOCK_BYTES) {
    for (let index: usize = 0; index < count; index++) {
      const chain = chains + index * BLOCK_BYTES;
      v128.store(chain, v128.xor(v128.load(chain), v128.load(data + index * SECTOR_BYTES + offset)));
    }
    encryptGroups(dataKeyOf(context), chains, groupsFor(count));
    for (let index: usize = 0; index < count; index++) {
      v128.store(data + index * SECTOR_BYTES + offset, v128.load(chains + index * BLOCK_BYTES));
    }
  }
}

/** Puts IV `index` and all but the last block of the sector at `cipher` into the context's blocks. */
function takePrevious(context: usize, cipher: usize, index: usize): void {
  const blocks = blocksOf(context);
  v128.store(blocks, v128.load(ivsOf(context) + index * BLOCK_BYTES));
  memory.copy(blocks + BLOCK_BYTES, cipher, SECTOR_BYTES - BLOCK_BYTES);
}

/** Puts 32 counters from IV `index` on into the context's blocks. */
function makeCounters(context: usize, index: usize): void {
  const blocks = blocksOf(context);
  const iv = ivsOf(context) + index * BLOCK_BYTES;
  let high = bswap<u64>(load<u64>(iv));
  let low = bswap<u64>(load<u64>(iv, 8));
  for (let offset: usize = 0; offset < SECTOR_BYTES; offset += BLOCK_BYTES) {
    store<u64>(blocks + offset, bswap<u64>(high));
    store<u64>(blocks + offset, bswap<u64>(low), 8);
    low += 1;
    high += <u64>(low == 0);
  }
}

/** Adds the sectors at `from` to those at `to`. */
function xorSectors(to: usize, from: usize, sectors: usize): void {
  for (let offset: usize = 0; offset < sectors * SECTOR_BYTES; offset += 64) {
    const source = from + offset;
    const target = to + offset;
    v128.store(target, v128.xor(v128.load(target), v128.load(source)));
    v128.store(target, v128.xor(v128.load(target, 16), v128.load(source, 16)), 16);
    v128.store(target, v128.xor(v128.load(target, 32), v128.load(source, 32)), 32);
    v128.store(target, v128.xor(v128.load(target, 48), v128.load(source, 48)), 48);
  }
}

function toSector(low: u32, high: u32): u64 {
  return ((<u64>high) << 32) | (<u64>low);
}
