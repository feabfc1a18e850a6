/**
 * AES-XTS over sectors of 512 bytes, built from `@noble/ciphers`, which has no XTS of its own. In two ways, because it depends
 * on the engine and the direction which is the faster:
 *
 *   blocks   its block functions, called for each block, with whole words in variables
 *   ecb      one call of its ECB for all the data, between two passes that add the tweaks
 */
import { ecb, unsafe } from '@noble/ciphers/aes.js';

const SECTOR_WORDS = 128;
const TWO_TO_32 = 0x1_0000_0000;
const UNPADDED = { disablePadding: true };

export interface PeerCipher {
  encrypt(data: Uint8Array<ArrayBuffer>, firstSector: number): void;
  decrypt(data: Uint8Array<ArrayBuffer>, firstSector: number): void;
}

/** @param key 64 bytes, as all of `noble-xts.ts`. `data` must be aligned to 4 bytes. */
export function nobleBlocksXts(key: Uint8Array): PeerCipher {
  const encryptionKey = unsafe.expandKeyLE(key.subarray(0, 32));
  const decryptionKey = unsafe.expandKeyDecLE(key.subarray(0, 32));
  const tweakKey = unsafe.expandKeyLE(key.subarray(32));
  const run = (data: Uint8Array<ArrayBuffer>, firstSector: number, decrypt: boolean) => {
    const words = wordsOf(data);
    const cipher = decrypt ? unsafe.decrypt : unsafe.encrypt;
    const dataKey = decrypt ? decryptionKey : encryptionKey;
    for (let at = 0; at < words.length; at += SECTOR_WORDS) {
      const sector = firstSector + at / SECTOR_WORDS;
      const first = unsafe.encrypt(tweakKey, (sector % TWO_TO_32) | 0, (sector / TWO_TO_32) | 0, 0, 0);
      let { s0: a, s1: b, s2: c, s3: d } = first;
      for (let word = at; word < at + SECTOR_WORDS; word += 4) {
        const block = cipher(
          dataKey,
          words[word]! ^ a,
          words[word + 1]! ^ b,
          words[word + 2]! ^ c,
          words[word + 3]! ^ d,
        );
        words[word] = block.s0 ^ a;
        words[word + 1] = block.s1 ^ b;
        words[word + 2] = block.s2 ^ c;
        words[word + 3] = block.s3 ^ d;
        const carry = (d >> 31) & 0x87;
        d = (d << 1) | (c >>> 31);
        c = (c << 1) | (b >>> 31);
        b = (b << 1) | (a >>> 31);
        a = (a << 1) ^ carry;
      }
    }
  };
  return {
    encrypt: (data, firstSector) => run(data, firstSector, false),
    decrypt: (data, firstSector) => run(data, firstSector, true),
  };
}

export function nobleEcbXts(key: Uint8Array): PeerCipher {
  const dataKey = key.subarray(0, 32);
  const tweakKey = key.subarray(32);
  const run = (data: Uint8Array<ArrayBuffer>, firstSector: number, direction: 'encrypt' | 'decrypt') => {
    const words = wordsOf(data);
    const tweaks = tweaksOf(words.length / SECTOR_WORDS, firstSector, tweakKey);
    for (let word = 0; word < words.length; word++) words[word]! ^= tweaks[word]!;
    // The objects of the library are for one use.
    const result = wordsOf(ecb(dataKey, UNPADDED)[direction](data));
    for (let word = 0; word < words.length; word++) words[word] = result[word]! ^ tweaks[word]!;
  };
  return {
    encrypt: (data, firstSector) => run(data, firstSector, 'encrypt'),
    decrypt: (data, firstSector) => run(data, firstSector, 'decrypt'),
  };
}

/** The tweaks of all blocks of `sectors` sectors, as words. */
function tweaksOf(sectors: number, firstSector: number, key: Uint8Array): Uint32Array {
  const ivs = new Uint32Array(sectors * 4);
  for (let index = 0; index < sectors; index++) {
    ivs[index * 4] = (firstSector + index) % TWO_TO_32;
    ivs[index * 4 + 1] = (firstSector + index) / TWO_TO_32;
  }
  const first = wordsOf(ecb(key, UNPADDED).encrypt(new Uint8Array(ivs.buffer)));
  const tweaks = new Uint32Array(sectors * SECTOR_WORDS);
  for (let index = 0; index < sectors; index++) {
    let [a, b, c, d] = first.subarray(index * 4, index * 4 + 4) as unknown as [number, number, number, number];
    for (let word = index * SECTOR_WORDS; word < (index + 1) * SECTOR_WORDS; word += 4) {
      tweaks[word] = a;
      tweaks[word + 1] = b;
      tweaks[word + 2] = c;
      tweaks[word + 3] = d;
      const carry = (d | 0) < 0 ? 0x87 : 0;
      d = (d << 1) | (c >>> 31);
      c = (c << 1) | (b >>> 31);
      b = (b << 1) | (a >>> 31);
      a = (a << 1) ^ carry;
    }
  }
  return tweaks;
}

function wordsOf(bytes: Uint8Array<ArrayBuffer>): Uint32Array {
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}
