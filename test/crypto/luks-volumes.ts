/** What the tests of LUKS share: tools, cheap volumes, and how a promise failed. */
import { isQcow2Error } from '../../src/index.js';
import { webKeyDerivation } from '../../src/crypto/key-derivation.js';
import { createLuks, type LuksOptions } from '../../src/crypto/luks-create.js';
import type { KeyTools } from '../../src/crypto/luks-key-slots.js';
import { readLuksVolume, type LuksVolume } from '../../src/crypto/luks-volume.js';
import { keyedCipher, type CipherSpec, type KeyCipher } from '../../src/crypto/luks-cipher.js';
import type { SectorCipherOptions } from '../../src/kernels/cipher-contract.js';
import { oracle } from '../kernels/cipher-oracle.js';

/** A sector cipher of `node:crypto` alone: slow, plain, and no code shared with what is tested. */
export function createCipher(options: SectorCipherOptions): KeyCipher {
  const key = options.key.slice();
  const own = options.iv === 'essiv' ? { ...options, key, ivKey: options.ivKey.slice() } : { ...options, key };
  return {
    encrypt: (data, firstSector) => data.set(oracle(own, 'encrypt', data, firstSector)),
    decrypt: (data, firstSector) => data.set(oracle(own, 'decrypt', data, firstSector)),
    wipe: () => void key.fill(0),
  };
}

export const tools: KeyTools = { derivation: webKeyDerivation, createCipher };

export const cipherWith = (spec: CipherSpec, key: Uint8Array): KeyCipher => keyedCipher(spec, key, createCipher);

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

/** The volume in `area`, the whole header area. */
export function volumeOf(area: Uint8Array): LuksVolume {
  return readLuksVolume((offset, target) => target.set(area.subarray(offset, offset + target.length)), area.length);
}

/** A header area whose slot 0 opens with `passphrase`, with the fewest iterations. */
export async function newArea(passphrase: string, options: LuksOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
  return (await createLuks({ iterTime: 0, ...options }, bytesOf(passphrase), tools)).area;
}

/** `CODE: message` of what `operation` rejects with; it must be one of our errors. */
export async function rejection(operation: Promise<unknown>): Promise<string> {
  try {
    await operation;
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
    return `${error.code}: ${error.message}`;
  }
  throw new Error('it did not reject');
}

/** The same for what throws at once. */
export function refusal(operation: () => unknown): string {
  try {
    operation();
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
    return `${error.code}: ${error.message}`;
  }
  throw new Error('it did not throw');
}
