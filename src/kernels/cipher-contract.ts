/**
 * Sector ciphers: AES over the 512-byte sectors of a disk, whole clusters a call, behind one interface with three
 * implementations: WASM (`cipher-wasm.ts`, the default), TypeScript (`cipher-reference.ts`, the oracle of the tests) and, in
 * Node, the host's own AES with WASM around it (`src/crypto/node-sector-cipher.ts`).
 *
 * A sector is encrypted for itself, under an IV that is made from its number:
 *
 *   plain     the low 32 bits of the number, little endian, then zeroes
 *   plain64   the low 64 bits
 *   essiv     plain64, encrypted by AES with a key of its own; LUKS makes that key by hashing the disk's
 *
 *   ECB   takes no IV (equal blocks stay equal: only for images that have it already)
 *   CBC   starts its chain from the IV
 *   CTR   counts from the IV, as a big-endian number of 128 bits, up to 2^128 - 1 and on from 0
 *   XTS   encrypts the IV with the second half of the key: IEEE 1619, the data unit being the sector
 *
 * What a sector's number is counted from is the caller's matter: LUKS in qcow2 counts from the start of the file, legacy AES
 * from the start of the disk.
 */
import { Qcow2Error } from '../errors.js';
import { assert } from '../util/assert.js';

export const SECTOR_BYTES = 512;

/** Bytes that are worked on in one piece: a cluster of the default size. */
export const WINDOW_BYTES = 0x10000;

/** No sector at or above this number. */
export const SECTOR_LIMIT = 2 ** 55;

const KEY_BYTES = { 'aes-128': 16, 'aes-192': 24, 'aes-256': 32 } as const;

export type CipherName = keyof typeof KEY_BYTES;
export type CipherMode = 'ecb' | 'cbc' | 'ctr' | 'xts';

/** The kinds of IV, in the order of the numbers that the WASM kernels know them by. */
export const IV_KINDS = ['plain', 'plain64', 'essiv'] as const;

export type SectorCipherOptions = {
  readonly cipher: CipherName;
  readonly mode: CipherMode;
  /** 16, 24 or 32 bytes, twice that for XTS. It is copied; the caller's array stays the caller's to wipe. */
  readonly key: Uint8Array;
} & SectorIv;

/** `ivKey` is an AES key: 16, 24 or 32 bytes, whatever the cipher's own. It is copied too. */
type SectorIv = { readonly iv: 'plain' | 'plain64' } | { readonly iv: 'essiv'; readonly ivKey: Uint8Array };

/** Nothing of it but the name is a property: who serialises a cipher, or sends it elsewhere, gives no key away. */
export interface SectorCipher {
  readonly name: 'wasm' | 'reference' | 'node';
  /** Encrypts whole sectors in place. Throws `CLOSED` after `wipe()`. */
  encrypt(data: Uint8Array, firstSector: number): void;
  /** Decrypts whole sectors in place. Throws `CLOSED` after `wipe()`. */
  decrypt(data: Uint8Array, firstSector: number): void;
  /** Overwrites the keys and all that was made with them, the last data too. The cipher is of no use after it. */
  wipe(): void;
}

/** Makes a cipher. Throws `BAD_ARGUMENT` when a key has the wrong length. */
export type CreateSectorCipher = (options: SectorCipherOptions) => SectorCipher;

/** The AES keys of a cipher. They are views of the caller's, not copies. */
export interface CipherKeys {
  readonly data: Uint8Array;
  /** For XTS. */
  readonly tweak: Uint8Array | null;
  /** For ESSIV. */
  readonly iv: Uint8Array | null;
}

/** Splits the key, and checks lengths. XTS: the first half is for the data, the second for the tweaks. */
export function cipherKeys(options: SectorCipherOptions): CipherKeys {
  const { cipher, mode, key } = options;
  const half = KEY_BYTES[cipher];
  const wanted = mode === 'xts' ? half * 2 : half;
  if (key.length !== wanted) {
    throw new Qcow2Error('BAD_ARGUMENT', `the key has ${key.length} bytes; ${cipher} in mode ${mode} takes ${wanted}`);
  }
  const iv = options.iv === 'essiv' ? options.ivKey : null;
  if (iv !== null && ![16, 24, 32].includes(iv.length)) {
    throw new Qcow2Error('BAD_ARGUMENT', `the key of the IVs has ${iv.length} bytes; AES takes 16, 24 or 32`);
  }
  return { data: key.subarray(0, half), tweak: mode === 'xts' ? key.subarray(half) : null, iv };
}

/** The number of sectors in `data`. The caller sees to it that they are whole, and that their numbers are. */
export function countSectors(data: Uint8Array, firstSector: number): number {
  assert(data.length % SECTOR_BYTES === 0, `${data.length} bytes to encrypt or decrypt are whole sectors`);
  const sectors = data.length / SECTOR_BYTES;
  assert(Number.isInteger(firstSector) && firstSector >= 0, `sector ${firstSector} is a number of a sector`);
  // Not as a sum, which would be rounded.
  assert(sectors <= SECTOR_LIMIT - firstSector, `sector ${firstSector} and ${sectors} in all are below 2^55`);
  return sectors;
}
