/**
 * Anti-forensic split: a key blown up to 4000 stripes, of which each byte is needed to have it back (LUKS On-Disk Format
 * 1.2.3, "Anti-forensic splitting"). Overwriting any small part of the stripes destroys the key, even where a medium keeps old
 * copies of some sectors.
 *
 *   split:  s1 .. s3999 are random; d = 0, and for each of them d = H(d xor s);  s4000 = d xor key
 *   merge:  the same way through s1 .. s3999;                                    key = d xor s4000
 *
 * H diffuses one stripe: its parts, each as long as a digest, are replaced by hash(number of the part || part), the last
 * one cut to its length. The number is 32 bits, big endian.
 *
 * 4000 stripes of 64 bytes take 20 to 30 ms with SHA and 90 ms with MD5 or RIPEMD-160 (measured), against seconds for PBKDF2.
 */
import { STRIPES } from '../format/luks-header.js';
import { assert } from '../util/assert.js';
import { viewOf } from '../util/big-endian.js';
import { hashFunction, type HashFunction, type HashName } from './hashes.js';
import { fillRandom, wipe } from './secrets.js';

/** The stripes of `key`, one after the other: `STRIPES` times its length. `random` fills all but the last. */
export function splitKey(
  key: Uint8Array,
  hash: HashName,
  random: (target: Uint8Array<ArrayBuffer>) => void = fillRandom,
): Uint8Array<ArrayBuffer> {
  const stripes = new Uint8Array(STRIPES * key.length);
  const lastAt = stripes.length - key.length;
  random(stripes.subarray(0, lastAt));
  const mixed = mixStripes(stripes.subarray(0, lastAt), key.length, hash);
  for (let index = 0; index < key.length; index++) stripes[lastAt + index] = mixed[index]! ^ key[index]!;
  wipe(mixed);
  return stripes;
}

/** The key of `keyBytes` that was split into `stripes`. */
export function mergeKey(stripes: Uint8Array, keyBytes: number, hash: HashName): Uint8Array<ArrayBuffer> {
  assert(stripes.length === STRIPES * keyBytes, 'all stripes of a key are there');
  const lastAt = stripes.length - keyBytes;
  const key = mixStripes(stripes.subarray(0, lastAt), keyBytes, hash);
  for (let index = 0; index < keyBytes; index++) key[index]! ^= stripes[lastAt + index]!;
  return key;
}

/** All of `stripes` folded into one: xor a stripe, diffuse, and so on. */
function mixStripes(stripes: Uint8Array, stripeBytes: number, name: HashName): Uint8Array<ArrayBuffer> {
  const hash = hashFunction(name);
  const mixed = new Uint8Array(stripeBytes);
  for (let at = 0; at < stripes.length; at += stripeBytes) {
    for (let index = 0; index < stripeBytes; index++) mixed[index]! ^= stripes[at + index]!;
    diffuse(mixed, hash);
  }
  return mixed;
}

/** Replaces `stripe` by its diffusion. */
function diffuse(stripe: Uint8Array, hash: HashFunction): void {
  const number = new Uint8Array(4);
  const view = viewOf(number);
  for (let at = 0, count = 0; at < stripe.length; at += hash.outputLen, count++) {
    view.setUint32(0, count);
    const part = stripe.subarray(at, at + hash.outputLen);
    const digest = hash.create().update(number).update(part).digest();
    part.set(digest.subarray(0, part.length));
    wipe(digest);
  }
}
