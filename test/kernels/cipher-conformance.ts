/**
 * The conformance suite of the sector ciphers, run for each implementation. It proves:
 *
 * - the vectors of IEEE 1619 and NIST SP 800-38A, and that `node:crypto` agrees with them
 * - for every cipher, mode and kind of IV: the same bytes as `node:crypto`, both ways, for any key, run of sectors, number of
 *   the first one up to 2^55, and place in memory; nothing around them is written
 * - what is asked of keys, and that nothing of them is left after `wipe`
 */
import { createCipheriv, randomBytes } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isQcow2Error, type ErrorCode } from '../../src/errors.js';
import { SECTOR_BYTES, SECTOR_LIMIT, WINDOW_BYTES } from '../../src/kernels/cipher-contract.js';
import type { CreateSectorCipher, SectorCipherOptions } from '../../src/kernels/cipher-contract.js';
import { oracle, sum } from './cipher-oracle.js';
import { NIST_VECTORS, XTS_VECTORS, type XtsVector } from './cipher-vectors.js';
import { withMemories } from './recorded-memory.js';

const CIPHERS = ['aes-128', 'aes-192', 'aes-256'] as const;
const MODES = ['ecb', 'cbc', 'ctr', 'xts'] as const;
const IVS = ['plain', 'plain64', 'essiv'] as const;
const COMBINATIONS = CIPHERS.flatMap((cipher) => MODES.flatMap((mode) => IVS.map((iv) => ({ cipher, mode, iv }))));
type Combination = (typeof COMBINATIONS)[number];

const withCode = (code: ErrorCode) => expect.toSatisfy((error) => isQcow2Error(error, code), `a Qcow2Error ${code}`);

/** @param runs how often each property is tried */
export function testSectorCipherConformance(title: string, create: CreateSectorCipher, runs: number): void {
  describe(title, () => {
    testVectors(create);
    testAgainstOracle(create, runs);
    testLongRuns(create);
    testKeys(create);
    testWiping(create);
  });
}

function testVectors(create: CreateSectorCipher): void {
  test.each(XTS_VECTORS)('IEEE 1619, vector $vector', (vector) => {
    const options = { cipher: vector.cipher, mode: 'xts', iv: 'plain64', key: fromHex(vector.key) } as const;
    const plain = inSector(vector.plaintext);
    const length = vector.plaintext.length / 2;
    const encrypted = encrypt(create, options, plain, vector.sector);
    expect(hex(encrypted.subarray(0, length))).toBe(vector.ciphertext);
    expectBytes(encrypted, oracle(options, 'encrypt', plain, vector.sector));
    const decrypted = decrypt(create, options, inSector(vector.ciphertext), vector.sector);
    expect(hex(decrypted.subarray(0, length))).toBe(vector.plaintext);
  });

  // Each of these goes on where the one before ended: with the same key, and with the next sector.
  test.each([
    [4, 5, 6],
    [7, 8, 9],
  ])('IEEE 1619, vectors %i, %i and %i as one run of sectors', (...numbers) => {
    const run = XTS_VECTORS.filter(({ vector }) => numbers.includes(vector));
    const [{ cipher, key, sector }] = run as [XtsVector];
    expect(run.map((vector) => vector.key)).toEqual([key, key, key]);
    expect(run.map((vector) => vector.sector)).toEqual([sector, sector + 1, sector + 2]);
    const options = { cipher, mode: 'xts', iv: 'plain64', key: fromHex(key) } as const;
    const plain = fromHex(run.map(({ plaintext }) => plaintext).join(''));
    const encrypted = fromHex(run.map(({ ciphertext }) => ciphertext).join(''));
    expectBytes(encrypt(create, options, plain, sector), encrypted);
    expectBytes(decrypt(create, options, encrypted, sector), plain);
  });

  const nist = (mode: string) => NIST_VECTORS.filter((vector) => vector.mode === mode);

  test.each(nist('ecb'))('NIST SP 800-38A, $section, $cipher in mode ecb', (vector) => {
    const options = { cipher: vector.cipher, mode: 'ecb', iv: 'plain', key: fromHex(vector.key) } as const;
    expect(hex(encrypt(create, options, inSector(vector.plaintext), 0).subarray(0, 64))).toBe(vector.ciphertext);
    expect(hex(decrypt(create, options, inSector(vector.ciphertext), 0).subarray(0, 64))).toBe(vector.plaintext);
  });

  // The IV of sector 0 is zero, so the vector's is added to the first block by hand.
  test.each(nist('cbc'))('NIST SP 800-38A, $section, $cipher in mode cbc', (vector) => {
    const options = { cipher: vector.cipher, mode: 'cbc', iv: 'plain64', key: fromHex(vector.key) } as const;
    const withIv = sum(inSector(vector.plaintext), inSector(vector.iv ?? ''));
    expect(hex(encrypt(create, options, withIv, 0).subarray(0, 64))).toBe(vector.ciphertext);
    expectBytes(decrypt(create, options, inSector(vector.ciphertext), 0).subarray(0, 64), withIv.subarray(0, 64));
  });

  // No sector's IV is the vector's first counter, so the counters are encrypted by hand, and the oracle, which all modes are compared
  // with, is judged itself.
  test.each(nist('ctr'))('NIST SP 800-38A, $section, the key stream of $cipher in mode ctr', (vector) => {
    const options = { cipher: vector.cipher, mode: 'ecb', iv: 'plain', key: fromHex(vector.key) } as const;
    const counters = Array.from({ length: 4 }, (_, count) => BigInt(`0x${vector.iv}`) + BigInt(count));
    const keyStream = encrypt(create, options, inSector(counters.map((counter) => counter.toString(16)).join('')), 0);
    expect(hex(sum(fromHex(vector.plaintext), keyStream.subarray(0, 64)))).toBe(vector.ciphertext);
    const ctr = createCipheriv(`${vector.cipher}-ctr`, options.key, fromHex(vector.iv ?? ''));
    expect(hex(ctr.update(fromHex(vector.plaintext)))).toBe(vector.ciphertext);
  });
}

function testAgainstOracle(create: CreateSectorCipher, runs: number): void {
  test.each(COMBINATIONS)('$cipher, $mode, $iv: the same bytes as node:crypto', (combination) => {
    // Some of 32 sectors are worked on side by side, so runs end before, at and after that.
    const sectors = fc.oneof(fc.integer({ min: 0, max: 9 }), fc.constantFrom(31, 32, 33, 40));
    const place = fc.integer({ min: 0, max: 40 });
    fc.assert(
      fc.property(optionsOf(combination), firstSector, sectors, place, (options, first, count, offset) => {
        const plain = randomBytes(count * SECTOR_BYTES);
        const around = new Uint8Array(plain.length + 80).fill(0xa5);
        const data = around.subarray(offset, offset + plain.length);
        data.set(plain);
        const cipher = create(options);
        cipher.encrypt(data, first);
        const expected = new Uint8Array(around.length).fill(0xa5);
        expected.set(oracle(options, 'encrypt', plain, first), offset);
        expectBytes(around, expected);
        cipher.decrypt(data, first);
        expectBytes(data, plain);
        data.set(plain);
        cipher.decrypt(data, first);
        expectBytes(data, oracle(options, 'decrypt', plain, first));
        cipher.wipe();
      }),
      { numRuns: runs },
    );
  });

  test('every byte value in every place of a block, both ways', () => {
    const plain = Uint8Array.from({ length: 256 * 16 }, (_, index) => (index >> 4) + (index & 15) * 16);
    for (const cipher of CIPHERS) {
      const options = anyOptions({ cipher, mode: 'ecb', iv: 'plain' });
      const encrypted = oracle(options, 'encrypt', plain, 0);
      expectBytes(encrypt(create, options, plain, 0), encrypted);
      expectBytes(decrypt(create, options, encrypted, 0), plain);
      expectBytes(decrypt(create, options, plain, 0), oracle(options, 'decrypt', plain, 0));
    }
  });
}

/** Small numbers, numbers around 2^32, where `plain` starts again, and numbers up to the limit. */
const firstSector = fc.oneof(
  fc.nat(1000),
  fc.integer({ min: 2 ** 32 - 40, max: 2 ** 32 }),
  fc.maxSafeNat(),
  fc.nat(1000).map((below) => SECTOR_LIMIT - 40 - below * 8),
);

const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

function keyBytes({ cipher, mode }: Pick<Combination, 'cipher' | 'mode'>): number {
  return { 'aes-128': 16, 'aes-192': 24, 'aes-256': 32 }[cipher] * (mode === 'xts' ? 2 : 1);
}

function optionsOf(combination: Combination): fc.Arbitrary<SectorCipherOptions> {
  const ivKey = fc.constantFrom(16, 24, 32).chain(bytesOf);
  return fc.record({ key: bytesOf(keyBytes(combination)), ivKey }).map((keys) => ({ ...combination, ...keys }));
}

function anyOptions(combination: Combination): SectorCipherOptions {
  return { ...combination, key: randomBytes(keyBytes(combination)), ivKey: randomBytes(32) };
}

function testLongRuns(create: CreateSectorCipher): void {
  test.each(MODES)('%s: data longer than the window go on where the window ended', (mode) => {
    const options = anyOptions({ cipher: 'aes-256', mode, iv: 'essiv' });
    const plain = randomBytes(WINDOW_BYTES + 3 * SECTOR_BYTES);
    const encrypted = encrypt(create, options, plain, 2 ** 32 - 130);
    expectBytes(encrypted, oracle(options, 'encrypt', plain, 2 ** 32 - 130));
    expectBytes(decrypt(create, options, encrypted, 2 ** 32 - 130), plain);
  });

  test('plain starts again after 2^32 sectors, and plain64 does not', () => {
    const zeroes = new Uint8Array(SECTOR_BYTES);
    const sectorUnder = (iv: 'plain' | 'plain64', sector: number) =>
      hex(encrypt(create, { cipher: 'aes-128', mode: 'xts', iv, key: KEY }, zeroes, sector));
    expect(sectorUnder('plain', 2 ** 32 + 5)).toBe(sectorUnder('plain', 5));
    expect(sectorUnder('plain64', 2 ** 32 + 5)).not.toBe(sectorUnder('plain64', 5));
    expect(sectorUnder('plain64', 5)).toBe(sectorUnder('plain', 5));
  });

  test('parts of sectors, and numbers that are none, are mistakes of ours', () => {
    const cipher = create({ cipher: 'aes-128', mode: 'xts', iv: 'plain64', key: KEY });
    const sector = new Uint8Array(SECTOR_BYTES);
    expect(() => cipher.encrypt(new Uint8Array(SECTOR_BYTES - 16), 0)).toThrow(/whole sectors/);
    for (const number of [-1, 0.5, Number.NaN, SECTOR_LIMIT]) {
      expect(() => cipher.encrypt(sector, number)).toThrow(/^internal: sector/);
      expect(() => cipher.decrypt(sector, number)).toThrow(/^internal: sector/);
    }
    cipher.encrypt(sector, SECTOR_LIMIT - 8);
  });
}

const KEY = Uint8Array.from({ length: 32 }, (_, index) => index * 7 + 1);

function testKeys(create: CreateSectorCipher): void {
  test.each([
    ['aes-128', 'cbc', 32, 16],
    ['aes-192', 'ctr', 16, 24],
    ['aes-256', 'ecb', 0, 32],
    ['aes-128', 'xts', 16, 32],
    ['aes-256', 'xts', 32, 64],
  ] as const)('%s in mode %s refuses a key of %i bytes, and says that it takes %i', (cipher, mode, length, takes) => {
    const make = () => create({ cipher, mode, iv: 'plain64', key: new Uint8Array(length) });
    expect(make).toThrow(withCode('BAD_ARGUMENT'));
    expect(make).toThrow(new RegExp(`has ${length} bytes.* takes ${takes}$`));
  });

  test('refuses a key of the IVs that is none of AES', () => {
    const make = () => create({ cipher: 'aes-256', mode: 'cbc', iv: 'essiv', key: KEY, ivKey: new Uint8Array(20) });
    expect(make).toThrow(withCode('BAD_ARGUMENT'));
  });

  test('keys are copied: the caller may wipe its own at once, and they are not changed', () => {
    const options = { cipher: 'aes-128', mode: 'xts', iv: 'essiv', key: KEY.slice(), ivKey: KEY.slice() } as const;
    const plain = randomBytes(SECTOR_BYTES);
    const expected = oracle(options, 'encrypt', plain, 9);
    const cipher = create(options);
    expectBytes(options.key, KEY);
    expectBytes(options.ivKey, KEY);
    options.key.fill(0);
    options.ivKey.fill(0);
    cipher.encrypt(plain, 9);
    expectBytes(plain, expected);
  });

  test('two ciphers at once do not know of each other', () => {
    const [first, second] = [anyOptions(XTS_256), anyOptions(XTS_256)];
    const ciphers = [create(first), create(second)];
    const plain = randomBytes(SECTOR_BYTES);
    for (const [index, options] of [first, second, first, second].entries()) {
      const data = Buffer.from(plain);
      ciphers[index % 2]?.encrypt(data, index);
      expectBytes(data, oracle(options, 'encrypt', plain, index));
    }
  });
}

const XTS_256 = { cipher: 'aes-256', mode: 'xts', iv: 'essiv' } as const;

function testWiping(create: CreateSectorCipher): void {
  test('after wipe nothing is left in its memory, and it refuses to work', () => {
    const { cipher, memories } = withMemories(() => create(anyOptions(XTS_256)));
    const data = randomBytes(WINDOW_BYTES);
    cipher.encrypt(data, 0);
    for (const memory of memories) expect(memory.some((byte) => byte !== 0)).toBe(true);
    cipher.wipe();
    cipher.wipe();
    for (const memory of memories) expect(memory.every((byte) => byte === 0)).toBe(true);
    const sector = new Uint8Array(SECTOR_BYTES);
    expect(() => cipher.encrypt(sector, 0)).toThrow(withCode('CLOSED'));
    expect(() => cipher.decrypt(sector, 0)).toThrow(withCode('CLOSED'));
    expect(() => cipher.encrypt(new Uint8Array(0), 0)).toThrow(withCode('CLOSED'));
    expect(sector.every((byte) => byte === 0)).toBe(true);
  });

  test('its name is all that there is to be copied or printed', () => {
    const cipher = create(anyOptions(XTS_256));
    cipher.encrypt(randomBytes(WINDOW_BYTES), 0);
    expect(JSON.parse(JSON.stringify(cipher))).toEqual({ name: cipher.name });
    expect(structuredClone(cipher)).toEqual({ name: cipher.name });
  });
}

function encrypt(create: CreateSectorCipher, options: SectorCipherOptions, plain: Uint8Array, sector: number): Buffer {
  const data = Buffer.from(plain);
  create(options).encrypt(data, sector);
  return data;
}

function decrypt(create: CreateSectorCipher, options: SectorCipherOptions, cipher: Uint8Array, sector: number): Buffer {
  const data = Buffer.from(cipher);
  create(options).decrypt(data, sector);
  return data;
}

/** The bytes at the start of a sector of zeroes. */
function inSector(text: string): Buffer {
  const sector = Buffer.alloc(SECTOR_BYTES);
  sector.set(fromHex(text));
  return sector;
}

function fromHex(text: string): Buffer {
  return Buffer.from(text, 'hex');
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** Compares quickly, and shows no more than the bytes around the first difference. */
function expectBytes(actual: Uint8Array, expected: Uint8Array): void {
  if (Buffer.compare(actual, expected) === 0) return;
  const differing = actual.findIndex((byte, index) => byte !== expected[index]);
  const around = (bytes: Uint8Array) => hex(bytes.subarray(differing & ~15, (differing & ~15) + 16));
  expect(actual.length, 'bytes').toBe(expected.length);
  expect(around(actual), `the block with byte ${differing}`).toBe(around(expected));
}
