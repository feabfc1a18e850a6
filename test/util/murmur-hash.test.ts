import { describe, expect, it } from 'vitest';
import { murmurHash32 } from '../../src/util/murmur-hash.js';

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

describe('MurmurHash3', () => {
  // From the reference implementation, seed 0.
  it.each([
    ['', 0],
    ['abc', 0xb3dd93fa],
    ['test', 0xba6bd213],
    ['hello', 0x248bfa47],
    ['hello, world', 0x149bbb7f],
    ['Hello, world!', 0xc0363e43],
    ['The quick brown fox jumps over the lazy dog', 0x2e4ff723],
  ])('gives the sum of the reference for %j', (text, expected) => {
    expect(murmurHash32(bytesOf(text))).toBe(expected);
  });

  it('does not depend on where the bytes lie in their buffer', () => {
    const text = bytesOf('0123456789abcdef0123456789abcdef0123456');
    for (let shift = 0; shift < 4; shift++) {
      const shifted = new Uint8Array(text.length + shift);
      shifted.set(text, shift);
      expect(murmurHash32(shifted.subarray(shift))).toBe(murmurHash32(text));
    }
  });

  it('finds each flipped bit', () => {
    const bytes = bytesOf('fifty bytes of a machine state, more or less, here');
    const sums = new Set([murmurHash32(bytes)]);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      sums.add(murmurHash32(bytes));
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
    expect(sums.size).toBe(bytes.length * 8 + 1);
  });
});
