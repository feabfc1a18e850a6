/** Encrypted qcow2 images of QEMU: where the header area lies, what it holds, and with what number a sector is encrypted. */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { LEGACY_AES, legacyAesKey } from '../../src/crypto/legacy-aes.js';
import { carryOut } from '../../src/crypto/key-slot-writes.js';
import { addKeySlot, changeKeySlot } from '../../src/crypto/luks-amend.js';
import type { LuksVolume } from '../../src/crypto/luks-volume.js';
import { unlock } from '../../src/crypto/luks.js';
import { decodeCryptoExtension, encodeCryptoExtension, type CryptoArea } from '../../src/format/crypto-extension.js';
import { EXTENSION_ENCRYPTION, decodeExtensions, findExtension } from '../../src/format/header-extensions.js';
import { MemoryStorage } from '../../src/index.js';
import { bytesOf, cipherWith, tools, volumeOf } from '../crypto/luks-volumes.js';
import { Qcow2Bytes } from '../support/qcow2-bytes.js';
import { SeededRandom } from '../support/seeded-random.js';
import { decryptedByQemu, encryptedImage, qemuImgWith } from './qemu-secrets.js';
import { inTemporaryDirectory } from './qemu.js';

const PASSPHRASE = 'correct horse';
const random = new SeededRandom(7);
const disk = Uint8Array.from({ length: 300 * 1024 }, () => random.below(256));

/** Has QEMU make an encrypted image of `disk`, and returns its bytes. */
function encryptedByQemu(path: (name: string) => string, passphrase: string, options: string): Qcow2Bytes {
  writeFileSync(path('disk.raw'), disk);
  const output = ['-f', 'raw', '-O', 'qcow2', '-o', `encrypt.key-secret=key,${options}`];
  qemuImgWith({ key: passphrase }, 'convert', ...output, path('disk.raw'), path('disk.qcow2'));
  return new Qcow2Bytes(readFileSync(path('disk.qcow2')));
}

/** The header area that the encryption extension names. */
function areaOf(image: Qcow2Bytes): CryptoArea {
  const cluster = new Uint8Array(image.bytes.subarray(0, image.clusterSize));
  const extension = findExtension(decodeExtensions(cluster, image.u32(100), cluster.length), EXTENSION_ENCRYPTION);
  if (extension === undefined) throw new Error('the image has no encryption extension');
  const area = decodeCryptoExtension(extension.data, image.clusterSize);
  expect(Buffer.compare(encodeCryptoExtension(area), extension.data)).toBe(0);
  return area;
}

const volumeIn = (image: Qcow2Bytes, { offset, length }: CryptoArea): LuksVolume =>
  volumeOf(new Uint8Array(image.bytes.subarray(offset, offset + length)));

describe('LUKS in a qcow2 image of QEMU', () => {
  it.each([512, 65536, 2 ** 21])(
    'with clusters of %i bytes is unlocked, and a sector is encrypted with its number in the file',
    async (clusterSize) => {
      await inTemporaryDirectory(async (path) => {
        const options = `encrypt.format=luks,encrypt.iter-time=0,cluster_size=${clusterSize}`;
        const image = encryptedByQemu(path, PASSPHRASE, options);
        const volume = volumeIn(image, areaOf(image));
        expect(volume.header.payloadSector * 512).toBe(areaOf(image).length);
        const { key } = await unlock(volume, bytesOf(PASSPHRASE), tools);
        const cipher = cipherWith(volume.cipher, key);
        for (let guest = 0; guest < disk.length; guest += clusterSize) {
          const host = image.hostOf(guest);
          const expected = disk.subarray(guest, guest + clusterSize);
          const cluster = new Uint8Array(image.bytes.subarray(host, host + expected.length));
          cipher.decrypt(cluster, host / 512);
          expect(Buffer.compare(cluster, expected), `the cluster at ${guest}`).toBe(0);
        }
      });
    },
  );

  it('has its passphrase changed by us and one more added, and QEMU finds nothing wrong', async () => {
    await inTemporaryDirectory(async (path) => {
      const image = encryptedByQemu(path, PASSPHRASE, 'encrypt.format=luks,encrypt.iter-time=0');
      const area = areaOf(image);
      const storage = new MemoryStorage(new Uint8Array(image.bytes));
      const inFile = {
        write: (offset: number, bytes: Uint8Array) => storage.write(area.offset + offset, bytes),
        flush: () => storage.flush(),
      };
      const volume = () => volumeIn(new Qcow2Bytes(storage.toBytes()), area);
      const change = { passphrase: bytesOf(PASSPHRASE), newPassphrase: bytesOf('new'), iterTime: 0 };
      carryOut((await changeKeySlot(volume(), change, tools)).plan, inFile);
      const addition = { passphrase: bytesOf('new'), newPassphrase: bytesOf('another'), iterTime: 0, slot: 6 };
      carryOut((await addKeySlot(volume(), addition, tools)).plan, inFile);
      expect(storage.size).toBe(image.length);

      writeFileSync(path('disk.qcow2'), storage.toBytes());
      qemuImgWith({ key: 'new' }, 'check', ...encryptedImage('qcow2', path('disk.qcow2'), 'key'));
      for (const passphrase of ['new', 'another']) {
        expect(Buffer.compare(decryptedByQemu('qcow2', path('disk.qcow2'), passphrase), disk)).toBe(0);
      }
      expect(() => decryptedByQemu('qcow2', path('disk.qcow2'), PASSPHRASE)).toThrow('Invalid password');
    });
  });
});

describe('legacy AES in a qcow2 image of QEMU', () => {
  it.each(['abc', '0123456789abcdef', '0123456789abcdef and more', 'ÄÖÜäöüß€€'])(
    'is read with the passphrase %j, a sector with its number on the disk',
    async (passphrase) => {
      await inTemporaryDirectory((path) => {
        const image = encryptedByQemu(path, passphrase, 'encrypt.format=aes');
        expect(image.u32(32)).toBe(1);
        const cipher = cipherWith(LEGACY_AES, legacyAesKey(bytesOf(passphrase)));
        for (let guest = 0; guest < disk.length; guest += image.clusterSize) {
          const host = image.hostOf(guest);
          const expected = disk.subarray(guest, guest + image.clusterSize);
          const cluster = new Uint8Array(image.bytes.subarray(host, host + expected.length));
          cipher.decrypt(cluster, guest / 512);
          expect(Buffer.compare(cluster, expected), `the cluster at ${guest}`).toBe(0);
        }
      });
    },
  );
});
