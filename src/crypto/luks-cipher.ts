/**
 * What the names in a LUKS header mean: cipher, mode, IV generator, and the two hashes (LUKS On-Disk Format 1.2.3, "Cipher and
 * hash specification registry"). All that QEMU 7.2 takes with AES is taken, by the same rules.
 *
 *   cipher name   cipher mode           key bytes
 *   aes           xts-plain64           32, 48, 64    two keys of AES-128, AES-192, AES-256
 *                 cbc-essiv:sha256      16, 32        AES-128, AES-256
 *                 |   |     |
 *                 mode IV   hash of the IV's key; with other IV generators it is allowed, and ignored
 *
 * - AES-192 has XTS only: 4000 stripes of 24 bytes are no whole number of sectors, on which QEMU 7.2 aborts.
 * - ESSIV encrypts the sector's number with AES, with the hash of the key for a key: so a digest must be as long as one.
 * - Serpent, Twofish and CAST5, which QEMU has too, are refused by name: no library for browsers that is kept up gives their blocks
 *   (docs/QEMU-PARITY.md).
 */
import { Qcow2Error, type ErrorCode } from '../errors.js';
import type { LuksHeader } from '../format/luks-header.js';
import {
  IV_KINDS,
  type CipherMode,
  type CipherName,
  type SectorCipher,
  type SectorCipherOptions,
} from '../kernels/cipher-contract.js';
import { assert } from '../util/assert.js';
import { HASH_NAMES, digestBytes, hashFunction, type HashName } from './hashes.js';
import { wipe } from './secrets.js';

export const CIPHERS = ['aes-128', 'aes-192', 'aes-256'] as const satisfies readonly CipherName[];
export const CIPHER_MODES = ['xts', 'cbc', 'ecb', 'ctr'] as const satisfies readonly CipherMode[];
export type IvKind = (typeof IV_KINDS)[number];

/** A sector cipher without its key. */
export interface CipherSpec {
  readonly cipher: CipherName;
  readonly mode: CipherMode;
  readonly iv: IvKind;
  /** Means something to ESSIV only, which needs it. */
  readonly ivHash?: HashName;
}

const AES_KEY_BYTES: Readonly<Record<CipherName, number>> = { 'aes-128': 16, 'aes-192': 24, 'aes-256': 32 };

/** What key material needs of a sector cipher. */
export type KeyCipher = Pick<SectorCipher, 'encrypt' | 'decrypt' | 'wipe'>;

/** The cipher of `spec` with `key`, which `create` copies: the caller's array stays the caller's to wipe. */
export function keyedCipher<T extends KeyCipher>(
  { cipher, mode, iv, ivHash }: CipherSpec,
  key: Uint8Array,
  create: (options: SectorCipherOptions) => T,
): T {
  if (iv !== 'essiv') return create({ cipher, mode, iv, key });
  assert(ivHash !== undefined, 'a cipher with ESSIV has been checked to have a hash for it');
  const ivKey = hashFunction(ivHash)(key);
  try {
    return create({ cipher, mode, iv, ivKey, key });
  } finally {
    wipe(ivKey);
  }
}

/** Bytes of the key: with XTS two keys, one behind the other. */
export function keyBytesOf({ cipher, mode }: CipherSpec): number {
  return AES_KEY_BYTES[cipher] * (mode === 'xts' ? 2 : 1);
}

/** What the image is encrypted with. Throws `UNSUPPORTED`, naming what is not handled. */
export function cipherOf({ cipherName, cipherMode, keyBytes }: LuksHeader): CipherSpec {
  const parts = /^([^-]*)-([^:]*)(?::(.*))?$/.exec(cipherMode);
  if (parts === null) {
    const limits = 'it must be a mode and an IV generator, as in "xts-plain64"';
    throw new Qcow2Error(
      'UNSUPPORTED',
      `the cipher mode of the LUKS header is ${JSON.stringify(cipherMode)}; ${limits}`,
    );
  }
  const [, mode, iv, ivHash] = parts;
  const bytes = mode === 'xts' ? keyBytes / 2 : keyBytes;
  const cipher = CIPHERS.find((name) => AES_KEY_BYTES[name] === bytes);
  if (cipherName !== 'aes' || cipher === undefined) {
    const what = `${JSON.stringify(cipherName)} in mode ${JSON.stringify(mode)} with a key of ${keyBytes} bytes`;
    throw new Qcow2Error('UNSUPPORTED', `the LUKS header names the cipher ${what}; only AES is supported`);
  }
  return checkedCipher({ cipher, mode, iv, ivHash }, 'UNSUPPORTED');
}

/** The hash of PBKDF2 and of the anti-forensic split. Throws `UNSUPPORTED`. */
export function hashOf({ hash }: LuksHeader): HashName {
  return oneOf('hash', hash, HASH_NAMES, 'UNSUPPORTED');
}

/** The names by which a header says `spec`. */
export function namesOf({ mode, iv, ivHash }: CipherSpec): Pick<LuksHeader, 'cipherName' | 'cipherMode'> {
  return { cipherName: 'aes', cipherMode: `${mode}-${iv}${ivHash === undefined ? '' : `:${ivHash}`}` };
}

export interface UncheckedCipher {
  readonly cipher: string;
  readonly mode: string | undefined;
  readonly iv: string | undefined;
  readonly ivHash: string | undefined;
}

/** `wanted` if it is one of the ciphers above; throws `code` otherwise. */
export function checkedCipher(wanted: UncheckedCipher, code: ErrorCode): CipherSpec {
  const cipher = oneOf('cipher', wanted.cipher, CIPHERS, code);
  const mode = oneOf('cipher mode', wanted.mode, CIPHER_MODES, code);
  const iv = oneOf('IV generator', wanted.iv, IV_KINDS, code);
  const ivHash = wanted.ivHash === undefined ? undefined : oneOf('IV hash', wanted.ivHash, HASH_NAMES, code);
  if (cipher === 'aes-192' && mode !== 'xts') {
    throw new Qcow2Error(code, `the cipher is aes-192 in mode ${mode}; in LUKS it must have mode xts`);
  }
  if (iv === 'essiv') checkEssivHash(ivHash, code);
  return { cipher, mode, iv, ...(ivHash === undefined ? {} : { ivHash }) };
}

function checkEssivHash(hash: HashName | undefined, code: ErrorCode): void {
  const fitting = HASH_NAMES.filter((name) => Object.values(AES_KEY_BYTES).includes(digestBytes(name)));
  if (hash !== undefined && fitting.includes(hash)) return;
  const limits = `it must be ${fitting.join(' or ')}, whose digests are as long as a key of AES`;
  throw new Qcow2Error(code, `the IV hash is ${hash ?? 'missing'} with essiv; ${limits}`);
}

/** `name` if it is one of `names`; throws `code`, naming `field`, otherwise. */
export function oneOf<T extends string>(
  field: string,
  name: string | undefined,
  names: readonly T[],
  code: ErrorCode,
): T {
  const found = names.find((candidate) => candidate === name);
  if (found !== undefined) return found;
  throw new Qcow2Error(code, `the ${field} is ${JSON.stringify(name)}; it must be one of ${names.join(', ')}`);
}
