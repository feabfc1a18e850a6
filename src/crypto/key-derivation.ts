/**
 * Key derivation: PBKDF2 with HMAC (RFC 8018, section 5.2), behind an interface, so that a host with something better can
 * bring it.
 *
 * Ours is WebCrypto, in browsers and in Node: off the thread, and as fast as the machine can (HMACs a second, measured:
 * SHA-256 5.7 million in Chromium and 3.1 in Node, SHA-512 1.5 and 1.1). What WebCrypto lacks comes from `@noble/hashes`, which
 * gives the thread back every 10 ms (SHA-224 0.6 million, RIPEMD-160 and MD5 0.35). Outside secure contexts WebCrypto is not
 * there, and all of it comes from there.
 */
import { pbkdf2Async } from '@noble/hashes/pbkdf2.js';
import { hashFunction, type HashName } from './hashes.js';
import { wipe } from './secrets.js';

export interface DerivationRequest {
  readonly hash: HashName;
  readonly password: Uint8Array;
  readonly salt: Uint8Array;
  /** At least 1. Whoever takes it from an image has it bounded by `key-limits.ts`. */
  readonly iterations: number;
  /** Bytes to derive. */
  readonly length: number;
}

export interface KeyDerivation {
  /** Whether `hash` runs at the speed of the machine: it decides how much of it an image may ask for. */
  isNative(hash: HashName): boolean;
  /** Resolves with bytes that are the caller's, to be wiped by it. */
  pbkdf2(request: DerivationRequest): Promise<Uint8Array>;
}

/** The names that WebCrypto has for some of the hashes. */
const WEB_CRYPTO_NAMES: Readonly<Partial<Record<HashName, string>>> = {
  sha1: 'SHA-1',
  sha256: 'SHA-256',
  sha384: 'SHA-384',
  sha512: 'SHA-512',
};

export const webKeyDerivation: KeyDerivation = {
  isNative: (hash) => WEB_CRYPTO_NAMES[hash] !== undefined && globalThis.crypto?.subtle !== undefined,

  async pbkdf2({ hash, password, salt, iterations, length }) {
    const name = WEB_CRYPTO_NAMES[hash];
    if (name === undefined || !webKeyDerivation.isNative(hash)) {
      return pbkdf2Async(hashFunction(hash), password, salt, { c: iterations, dkLen: length });
    }
    const { subtle } = globalThis.crypto;
    // WebCrypto takes no memory that might be shared, hence the copies.
    const copy = Uint8Array.from(password);
    try {
      const key = await subtle.importKey('raw', copy, 'PBKDF2', false, ['deriveBits']);
      const algorithm = { name: 'PBKDF2', hash: name, salt: Uint8Array.from(salt), iterations };
      return new Uint8Array(await subtle.deriveBits(algorithm, key, length * 8));
    } finally {
      wipe(copy);
    }
  },
};
