import { describe, expect, it } from 'vitest';
import { LEGACY_AES, legacyAesKey } from '../../src/crypto/legacy-aes.js';
import { keyBytesOf } from '../../src/crypto/luks-cipher.js';
import { bytesOf } from './luks-volumes.js';

describe('the key of legacy AES', () => {
  it('is the passphrase, filled up with zeroes', () => {
    expect([...legacyAesKey(bytesOf('abc'))]).toEqual([97, 98, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  });

  it('is its first 16 bytes where it has more', () => {
    expect(legacyAesKey(bytesOf('0123456789abcdefgh'))).toEqual(bytesOf('0123456789abcdef'));
  });

  it('is a copy, as long as its cipher wants it', () => {
    const passphrase = bytesOf('0123456789abcdef');
    const key = legacyAesKey(passphrase);
    key.fill(0);
    expect(passphrase).toEqual(bytesOf('0123456789abcdef'));
    expect(key.length).toBe(keyBytesOf(LEGACY_AES));
  });
});
