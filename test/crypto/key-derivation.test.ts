import { pbkdf2Sync } from 'node:crypto';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { HASH_NAMES, type HashName } from '../../src/crypto/hashes.js';
import { webKeyDerivation } from '../../src/crypto/key-derivation.js';
import { bytesOf } from './luks-volumes.js';

interface Vector {
  readonly password: string;
  readonly salt: string;
  readonly iterations: number;
  readonly derived: string;
}

/** RFC 6070, but for the one of 16 million iterations. */
const RFC_6070: readonly Vector[] = [
  { password: 'password', salt: 'salt', iterations: 1, derived: '0c60c80f961f0e71f3a9b524af6012062fe037a6' },
  { password: 'password', salt: 'salt', iterations: 2, derived: 'ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957' },
  { password: 'password', salt: 'salt', iterations: 4096, derived: '4b007901b765489abead49d926f721d065a429c1' },
  {
    password: 'passwordPASSWORDpassword',
    salt: 'saltSALTsaltSALTsaltSALTsaltSALTsalt',
    iterations: 4096,
    derived: '3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038',
  },
  { password: 'pass\0word', salt: 'sa\0lt', iterations: 4096, derived: '56fa6aa75548099dcc37d7f03425e0c3' },
];

/** RFC 7914, section 11. */
const RFC_7914: Vector = {
  password: 'passwd',
  salt: 'salt',
  iterations: 1,
  derived:
    '55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc' +
    '49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783',
};

async function derive(hash: HashName, { password, salt, iterations, derived }: Vector): Promise<string> {
  const request = { hash, password: bytesOf(password), salt: bytesOf(salt), iterations, length: derived.length / 2 };
  return Buffer.from(await webKeyDerivation.pbkdf2(request)).toString('hex');
}

afterEach(() => vi.unstubAllGlobals());

describe.each([
  ['through WebCrypto', () => {}],
  ['without WebCrypto', () => vi.stubGlobal('crypto', { getRandomValues: null })],
])('PBKDF2 %s', (_, prepare) => {
  it('meets the vectors of RFC 6070 and RFC 7914', async () => {
    prepare();
    for (const vector of RFC_6070) expect(await derive('sha1', vector)).toBe(vector.derived);
    expect(await derive('sha256', RFC_7914)).toBe(RFC_7914.derived);
  });

  it.each(HASH_NAMES)('with %s derives what OpenSSL does, for the lengths of digests and keys', async (hash) => {
    prepare();
    const salt = bytesOf('a salt, which has 32 bytes in all');
    for (const [password, length] of [
      ['', 20],
      ['abc123', 32],
      ['p'.repeat(200), 64],
    ] as const) {
      const request = { hash, password: bytesOf(password), salt, iterations: 321, length };
      expect(Buffer.from(await webKeyDerivation.pbkdf2(request))).toEqual(
        pbkdf2Sync(password, salt, 321, length, hash),
      );
    }
  });
});

describe('the hashes that run natively', () => {
  it('are those of WebCrypto', () => {
    expect(HASH_NAMES.filter((hash) => webKeyDerivation.isNative(hash))).toEqual([
      'sha1',
      'sha256',
      'sha384',
      'sha512',
    ]);
  });

  it('are none where there is no WebCrypto', () => {
    vi.stubGlobal('crypto', {});
    expect(HASH_NAMES.filter((hash) => webKeyDerivation.isNative(hash))).toEqual([]);
  });

  it('take a password and a salt that lie inside something larger, and leave them as they are', async () => {
    const shared = new Uint8Array(new SharedArrayBuffer(64)).fill(9);
    const request = {
      hash: 'sha256',
      password: shared.subarray(3, 9),
      salt: shared.subarray(10, 42),
      iterations: 5,
      length: 16,
    } as const;
    const expected = pbkdf2Sync(Buffer.alloc(6, 9), Buffer.alloc(32, 9), 5, 16, 'sha256');
    expect(Buffer.from(await webKeyDerivation.pbkdf2(request))).toEqual(expected);
    expect(shared.every((byte) => byte === 9)).toBe(true);
  });
});

describe('a derivation in JavaScript', () => {
  it('lets others have their turn before it ends', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const request = {
      hash: 'ripemd160',
      password: bytesOf('p'),
      salt: bytesOf('s'),
      iterations: 60_000,
      length: 20,
    } as const;
    await webKeyDerivation.pbkdf2(request);
    clearInterval(timer);
    expect(turns).toBeGreaterThan(1);
  });
});
