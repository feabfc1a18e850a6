/**
 * The vectors of the standards, as they are in `vectors/`.
 *
 * IEEE 1619-2007, annex B: 1 to 14 and 19. The others are of data units that are no whole number of blocks, which sectors never
 * are; 1 to 3 have 32 bytes, which are the start of a sector.
 * NIST SP 800-38A, appendix F: ECB, CBC and CTR with the three lengths of keys, four blocks each.
 */
import { readFileSync } from 'node:fs';
import type { CipherName } from '../../src/kernels/cipher-contract.js';

export interface XtsVector {
  readonly vector: number;
  readonly cipher: CipherName;
  /** Both keys, in hexadecimal as all that follows. */
  readonly key: string;
  readonly sector: number;
  readonly plaintext: string;
  readonly ciphertext: string;
}

export interface NistVector {
  /** Of appendix F. */
  readonly section: string;
  readonly cipher: CipherName;
  readonly mode: 'ecb' | 'cbc' | 'ctr';
  readonly key: string;
  /** Of CTR: the first counter. Null for ECB. */
  readonly iv: string | null;
  readonly plaintext: string;
  readonly ciphertext: string;
}

function read<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`vectors/${name}.json`, import.meta.url), 'utf8')) as T;
}

export const XTS_VECTORS = read<readonly XtsVector[]>('ieee-1619');
export const NIST_VECTORS = read<readonly NistVector[]>('nist-sp800-38a');
