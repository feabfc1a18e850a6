/**
 * LUKS headers, both ways, over cipher, mode, IV and hash, in QEMU's `luks` format: a header area with the encrypted disk behind
 * it, its sectors counted from the disk's start. The same area in qcow2: `luks-in-qcow2.test.ts`.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { HASH_NAMES, type HashName } from '../../src/crypto/hashes.js';
import { createLuks, luksAreaBytes, type LuksOptions } from '../../src/crypto/luks-create.js';
import { unlock } from '../../src/crypto/luks.js';
import {
  KEY_SLOTS,
  LUKS_HEADER_BYTES,
  decodeLuksHeader,
  encodeLuksHeader,
  newMaterialSector,
} from '../../src/format/luks-header.js';
import { isQcow2Error } from '../../src/index.js';
import { bytesOf, cipherWith, newArea, tools, volumeOf } from '../crypto/luks-volumes.js';
import { SeededRandom } from '../support/seeded-random.js';
import { decryptedByQemu, qemuImgWith, qemuRefusal } from './qemu-secrets.js';
import { inTemporaryDirectory } from './qemu.js';

const PASSPHRASE = 'correct horse, battery staple';
/** More sectors than one key slot's, and no two alike. */
const random = new SeededRandom(5);
const disk = Uint8Array.from({ length: 520 * 512 }, () => random.below(256));

/** QEMU takes 2 s for an image, however few iterations are asked for: every value and every pair that behaves apart is there. */
const MADE_BY_QEMU: readonly Omit<LuksOptions, 'iterTime'>[] = [
  {},
  { cipher: 'aes-128', mode: 'xts', iv: 'plain', hash: 'sha1' },
  { cipher: 'aes-192', mode: 'xts', iv: 'essiv', hash: 'ripemd160' },
  { cipher: 'aes-256', mode: 'xts', iv: 'essiv', ivHash: 'md5', hash: 'sha512' },
  { cipher: 'aes-128', mode: 'cbc', iv: 'essiv', ivHash: 'sha256', hash: 'sha224' },
  { cipher: 'aes-256', mode: 'ctr', iv: 'plain64', hash: 'sha384' },
  { cipher: 'aes-128', mode: 'ecb', iv: 'plain64', ivHash: 'sha512', hash: 'md5' },
];

function qemuOptions({ cipher, mode, iv, ivHash, hash }: LuksOptions): string {
  const named = {
    'cipher-alg': cipher,
    'cipher-mode': mode,
    'ivgen-alg': iv,
    'ivgen-hash-alg': ivHash,
    'hash-alg': hash,
  };
  const given = Object.entries(named).filter(([, value]) => value !== undefined);
  return ['key-secret=key', 'iter-time=0', ...given.map(([name, value]) => `${name}=${value}`)].join(',');
}

describe('a LUKS header made by QEMU', () => {
  it.each(MADE_BY_QEMU)('with %o is read, unlocked, and is byte for byte what we would write', async (options) => {
    await inTemporaryDirectory(async (path) => {
      writeFileSync(path('disk.raw'), disk);
      const output = ['-f', 'raw', '-O', 'luks', '-o', qemuOptions(options), path('disk.raw'), path('disk.luks')];
      qemuImgWith({ key: PASSPHRASE }, 'convert', ...output);
      const file = new Uint8Array(readFileSync(path('disk.luks')));
      const { payloadSector, slots, keyBytes } = decodeLuksHeader(file, file.length);
      const area = file.subarray(0, payloadSector * 512);

      const volume = volumeOf(area);
      expect(area.length).toBe(luksAreaBytes(options));
      expect(slots.map(({ materialSector }) => materialSector)).toEqual(
        Array.from({ length: KEY_SLOTS }, (_, index) => newMaterialSector(index, keyBytes)),
      );
      expect(Buffer.compare(encodeLuksHeader(volume.header), area.subarray(0, LUKS_HEADER_BYTES))).toBe(0);

      const { key, slot } = await unlock(volume, bytesOf(PASSPHRASE), tools);
      expect(slot).toBe(0);
      const payload = file.slice(area.length, area.length + disk.length);
      cipherWith(volume.cipher, key).decrypt(payload, 0);
      expect(Buffer.compare(payload, disk)).toBe(0);
      await expect(unlock(volume, bytesOf(`${PASSPHRASE}.`), tools)).rejects.toThrow('does not open key slot 0');
    });
  });
});

/** All ciphers that QEMU takes, each with the next hash. */
function madeByUs(): LuksOptions[] {
  const ivs = [
    { iv: 'plain' },
    { iv: 'plain64' },
    { iv: 'essiv', ivHash: 'sha256' },
    { iv: 'essiv', ivHash: 'md5' },
    { iv: 'plain64', ivHash: 'sha384' },
  ] as const;
  const ciphers = (['xts', 'cbc', 'ecb', 'ctr'] as const).flatMap((mode) =>
    (['aes-128', 'aes-192', 'aes-256'] as const).flatMap((cipher) =>
      cipher === 'aes-192' && mode !== 'xts' ? [] : [{ cipher, mode }],
    ),
  );
  const all = ciphers.flatMap((cipher) => ivs.map((iv) => ({ ...cipher, ...iv })));
  return all.map((options, index) => ({ ...options, hash: HASH_NAMES[index % HASH_NAMES.length] as HashName }));
}

describe('a LUKS header made by us', () => {
  it.each(madeByUs())('with %o is unlocked by QEMU, which reads the disk behind it', async (options) => {
    await inTemporaryDirectory(async (path) => {
      const { area, key, cipher } = await createLuks({ ...options, iterTime: 0 }, bytesOf(PASSPHRASE), tools);
      const payload = disk.slice();
      cipherWith(cipher, key).encrypt(payload, 0);
      writeFileSync(path('disk.luks'), Buffer.concat([area, payload]));
      expect(Buffer.compare(decryptedByQemu('luks', path('disk.luks'), PASSPHRASE), disk)).toBe(0);
    });
  });

  it.each(['', 'ÄÖ€😀', 'a,b=c', 'x'.repeat(300)])('takes the passphrase %j, as QEMU does', async (passphrase) => {
    await inTemporaryDirectory(async (path) => {
      const area = await newArea(passphrase);
      writeFileSync(path('empty.luks'), area);
      expect(decryptedByQemu('luks', path('empty.luks'), passphrase).length).toBe(0);
    });
  });
});

describe('a damaged LUKS header', () => {
  const DAMAGES: readonly [string, number, readonly number[]][] = [
    ['without magic', 0, [0]],
    ['of version 2', 6, [0, 2]],
    ['with a cipher name that does not end', 8, Array<number>(32).fill(0x61)],
    ['with an unknown IV generator', 40, [...bytesOf('xts-benbi\0')]],
    ['with ESSIV and no hash for it', 40, [...bytesOf('xts-essiv\0\0')]],
    ['with ESSIV and a hash of the wrong length', 40, [...bytesOf('xts-essiv:sha1\0')]],
    ['with an unknown hash of the IV, which has no use for one', 40, [...bytesOf('xts-plain64:junk\0')]],
    ['with an unknown hash', 72, [...bytesOf('whirlpool\0')]],
    ['with its payload in the header', 104, [0, 0, 0, 7]],
    ['with its payload in the key material', 104, [0, 0, 0x0f, 0xc3]],
    ['with a key of no bytes', 108, [0, 0, 0, 0]],
    ['with a digest of no iterations', 164, [0, 0, 0, 0]],
    ['with a slot of no iterations', 212, [0, 0, 0, 0]],
    ['with a slot in an unknown state', 352, [0, 0, 0, 1]],
    ['with another number of stripes', 492, [0, 0, 0, 1]],
    ['with key material in the header', 248, [0, 0, 0, 7]],
    ['with key material of two slots at one place', 296, [0, 0, 3, 0xf8]],
    ['with key material that reaches into the payload', 584, [0, 0, 0x0d, 0xd5]],
  ];

  it('is refused by QEMU and by us', async () => {
    const good = await newArea(PASSPHRASE);
    await inTemporaryDirectory(async (path) => {
      for (const [title, at, bytes] of DAMAGES) {
        const damaged = good.slice();
        damaged.set(bytes, at);
        writeFileSync(path('damaged.luks'), damaged);
        expect(qemuRefusal({}, 'info', '-f', 'luks', path('damaged.luks')), title).toContain('Could not open');
        expect(() => volumeOf(damaged), title).toThrow(
          expect.toSatisfy((error: unknown) => isQcow2Error(error, 'BAD_IMAGE') || isQcow2Error(error, 'UNSUPPORTED')),
        );
      }
    });
  });

  it('is not one whose uuid does not end, and not one with an empty slot that counts iterations', async () => {
    const area = await newArea(PASSPHRASE);
    area.fill(0x75, 168, 208);
    area[260 + 3] = 9;
    await inTemporaryDirectory(async (path) => {
      writeFileSync(path('odd.luks'), area);
      expect(decryptedByQemu('luks', path('odd.luks'), PASSPHRASE).length).toBe(0);
      expect((await unlock(volumeOf(area), bytesOf(PASSPHRASE), tools)).slot).toBe(0);
    });
  });
});
