/**
 * The hashes of LUKS, by the names that its header uses: those that QEMU knows. WebCrypto lacks three of them and answers
 * later, so the functions are those of `@noble/hashes`.
 *
 * MD5, SHA-1 and RIPEMD-160 serve as the core of HMAC and as a mixer here; that collisions of them are known takes nothing
 * away from either.
 */
import { md5, ripemd160, sha1 } from '@noble/hashes/legacy.js';
import { sha224, sha256, sha384, sha512 } from '@noble/hashes/sha2.js';

const FUNCTIONS = { md5, sha1, sha224, sha256, sha384, sha512, ripemd160 } as const;

export type HashName = keyof typeof FUNCTIONS;
export type HashFunction = (typeof FUNCTIONS)[HashName];

export const HASH_NAMES = Object.keys(FUNCTIONS) as readonly HashName[];

export function hashFunction(name: HashName): HashFunction {
  return FUNCTIONS[name];
}

/** Bytes of a digest. */
export function digestBytes(name: HashName): number {
  return FUNCTIONS[name].outputLen;
}
