import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { cipherOf, hashOf, keyBytesOf, keyedCipher, namesOf, type CipherSpec } from '../../src/crypto/luks-cipher.js';
import type { LuksHeader } from '../../src/format/luks-header.js';
import { createCipher, newArea, refusal, volumeOf } from './luks-volumes.js';

const header: LuksHeader = volumeOf(await newArea('abc123')).header;

const cipherNamed = (cipherMode: string, keyBytes: number, cipherName = 'aes'): CipherSpec =>
  cipherOf({ ...header, cipherName, cipherMode, keyBytes });

describe('the names of a LUKS header', () => {
  it.each([
    ['xts-plain64', 64, { cipher: 'aes-256', mode: 'xts', iv: 'plain64' }],
    ['xts-plain', 48, { cipher: 'aes-192', mode: 'xts', iv: 'plain' }],
    ['xts-essiv:sha256', 32, { cipher: 'aes-128', mode: 'xts', iv: 'essiv', ivHash: 'sha256' }],
    ['cbc-essiv:md5', 16, { cipher: 'aes-128', mode: 'cbc', iv: 'essiv', ivHash: 'md5' }],
    ['ecb-plain', 32, { cipher: 'aes-256', mode: 'ecb', iv: 'plain' }],
    ['ctr-plain64:sha1', 16, { cipher: 'aes-128', mode: 'ctr', iv: 'plain64', ivHash: 'sha1' }],
  ] as const)('%s with a key of %i bytes say what they say, both ways', (cipherMode, keyBytes, spec) => {
    expect(cipherNamed(cipherMode, keyBytes)).toEqual(spec);
    expect(keyBytesOf(spec)).toBe(keyBytes);
    expect(namesOf(spec)).toEqual({ cipherName: 'aes', cipherMode });
  });

  it.each([
    ['serpent', 'xts-plain64', 64, /^UNSUPPORTED: .* "serpent" in mode "xts" with a key of 64 bytes; only AES/],
    ['twofish', 'cbc-plain64', 32, /^UNSUPPORTED: .* "twofish" in mode "cbc" with a key of 32 bytes; only AES/],
    ['cast5', 'cbc-plain64', 16, /^UNSUPPORTED: .* "cast5" .*; only AES/],
    ['AES', 'xts-plain64', 64, /^UNSUPPORTED: .* "AES" .*; only AES/],
    ['aes', 'xts-plain64', 33, /^UNSUPPORTED: .* "aes" in mode "xts" with a key of 33 bytes/],
    ['aes', 'cbc-plain64', 64, /^UNSUPPORTED: .* "aes" in mode "cbc" with a key of 64 bytes/],
    ['aes', 'cbc-plain64', 24, /^UNSUPPORTED: the cipher is aes-192 in mode cbc; in LUKS it must have mode xts/],
    ['aes', 'lrw-plain64', 32, /^UNSUPPORTED: the cipher mode is "lrw"; it must be one of xts, cbc, ecb, ctr/],
    ['aes', 'xts-benbi', 64, /^UNSUPPORTED: the IV generator is "benbi"; it must be one of plain, plain64, essiv/],
    ['aes', 'xts-plain64:junk', 64, /^UNSUPPORTED: the IV hash is "junk"; it must be one of md5, sha1/],
    ['aes', 'cbc-essiv', 32, /^UNSUPPORTED: the IV hash is missing with essiv; it must be md5 or sha256/],
    ['aes', 'cbc-essiv:sha1', 32, /^UNSUPPORTED: the IV hash is sha1 with essiv; it must be md5 or sha256/],
    ['aes', 'ecb', 32, /^UNSUPPORTED: the cipher mode of the LUKS header is "ecb"; .* as in "xts-plain64"/],
    ['aes', '', 32, /^UNSUPPORTED: the cipher mode of the LUKS header is ""/],
  ] as const)('%s %s with a key of %i bytes are refused', (cipherName, cipherMode, keyBytes, message) => {
    expect(refusal(() => cipherNamed(cipherMode, keyBytes, cipherName))).toMatch(message);
  });

  it('give the hash, or are refused with those that there are', () => {
    expect(hashOf({ ...header, hash: 'ripemd160' })).toBe('ripemd160');
    const message = /^UNSUPPORTED: the hash is "whirlpool"; it must be one of md5, sha1, .*, ripemd160$/;
    expect(refusal(() => hashOf({ ...header, hash: 'whirlpool' }))).toMatch(message);
  });
});

describe('a cipher with its key', () => {
  const key = Uint8Array.from({ length: 32 }, (_, index) => index);

  it('gets, for ESSIV, the hash of the whole key as the key of its IVs, which is wiped afterwards', () => {
    const spec = { cipher: 'aes-256', mode: 'cbc', iv: 'essiv', ivHash: 'sha256' } as const;
    let whenMade = '';
    const ivKey = keyedCipher(spec, key, (options) => {
      if (options.iv !== 'essiv') throw new Error(`the IV is ${options.iv}`);
      whenMade = Buffer.from(options.ivKey).toString('hex');
      return { ...createCipher(options), ivKey: options.ivKey };
    }).ivKey;
    expect(whenMade).toBe(createHash('sha256').update(key).digest('hex'));
    expect(ivKey).toEqual(new Uint8Array(32));
    expect(key[31]).toBe(31);
  });

  it('gets no hash of the IV where there is no use for one', () => {
    const spec = { cipher: 'aes-256', mode: 'cbc', iv: 'plain64', ivHash: 'sha1' } as const;
    const { options } = keyedCipher(spec, key, (given) => ({ ...createCipher(given), options: given }));
    expect(options).toEqual({ cipher: 'aes-256', mode: 'cbc', iv: 'plain64', key });
  });
});
