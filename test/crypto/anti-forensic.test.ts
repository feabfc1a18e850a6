/** The split against an oracle on `node:crypto`, written as the standard words it: whole stripes, one after the other. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { mergeKey, splitKey } from '../../src/crypto/anti-forensic.js';
import { HASH_NAMES, digestBytes } from '../../src/crypto/hashes.js';

const STRIPES = 4000;

function diffuse(stripe: Buffer, hash: string, size: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0, count = 0; at < stripe.length; at += size, count++) {
    const counter = Buffer.alloc(4);
    counter.writeUInt32BE(count);
    const part = stripe.subarray(at, at + size);
    parts.push(createHash(hash).update(counter).update(part).digest().subarray(0, part.length));
  }
  return Buffer.concat(parts);
}

function mergeByTheBook(stripes: Uint8Array, keyBytes: number, hash: string, size: number): Buffer {
  let state: Buffer = Buffer.alloc(keyBytes);
  for (let stripe = 0; stripe < STRIPES; stripe++) {
    const mixed = Buffer.from(state.map((byte, index) => byte ^ stripes[stripe * keyBytes + index]!));
    state = stripe < STRIPES - 1 ? diffuse(mixed, hash, size) : mixed;
  }
  return state;
}

const keyOf = (length: number): Uint8Array => Uint8Array.from({ length }, (_, index) => 7 * index + 1);

describe('the anti-forensic split', () => {
  for (const hash of HASH_NAMES) {
    it(`with ${hash} is what the standard says, for keys of 16 and 64 bytes`, () => {
      for (const length of [16, 64]) {
        const stripes = splitKey(keyOf(length), hash);
        expect(stripes.length).toBe(STRIPES * length);
        expect(mergeByTheBook(stripes, length, hash, digestBytes(hash))).toEqual(Buffer.from(keyOf(length)));
        expect(mergeKey(stripes, length, hash)).toEqual(keyOf(length));
      }
    });
  }

  it('is random: two of one key have nothing in common', () => {
    const [a, b] = [splitKey(keyOf(32), 'sha256'), splitKey(keyOf(32), 'sha256')];
    const same = a.reduce((count, byte, index) => count + (byte === b[index] ? 1 : 0), 0);
    expect(same).toBeLessThan((STRIPES * 32) / 100); // one byte in 256 is expected
  });

  it('loses the key when any one bit is lost', () => {
    const stripes = splitKey(keyOf(32), 'sha256');
    for (const at of [0, 31, 2000 * 32 + 5, 3999 * 32 - 1, STRIPES * 32 - 1]) {
      stripes[at]! ^= 0x10;
      expect(mergeKey(stripes, 32, 'sha256')).not.toEqual(keyOf(32));
      stripes[at]! ^= 0x10;
    }
    expect(mergeKey(stripes, 32, 'sha256')).toEqual(keyOf(32));
  });

  it('leaves the stripes it merges as they are', () => {
    const stripes = splitKey(keyOf(16), 'sha1');
    const before = stripes.slice();
    mergeKey(stripes, 16, 'sha1');
    expect(Buffer.compare(stripes, before)).toBe(0);
  });
});
