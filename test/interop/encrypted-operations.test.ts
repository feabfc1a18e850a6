/** Operations on encrypted images in turns: what QEMU or we resize, amend, commit, empty or compress, the other reads and goes on with. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  amendImage,
  checkImage,
  copyDisk,
  createImage,
  createSnapshot,
  makeEmpty,
  newEncryption,
  openChain,
  openImage,
  resizeImage,
  runToEnd,
  type CreateOptions,
  type Qcow2Image,
} from '../../src/index.js';
import { NodeFileStorage } from '../../src/node.js';
import { readWhole } from '../support/disk-actions.js';
import { AES, FORMATS, LUKS, type Encryption } from '../support/encrypted-image.js';
import { expectSameBytes } from '../support/model-disk.js';
import { SeededRandom, seedOfThisRun, withSeed } from '../support/seeded-random.js';
import {
  decryptedByQemu,
  encryptedImage,
  qemuCheckWith,
  qemuImgWith,
  qemuIoWith,
  qemuRefusal,
} from './qemu-secrets.js';
import { inTemporaryDirectory, qemuBytes, qemuImg } from './qemu.js';
import { Turns } from './turns.js';

const PASSPHRASE = 'correct horse';
const SECRETS = { key: PASSPHRASE };
const SIZE = 0x10_0000 + 512;
const noise = new SeededRandom(23).bytes(2 * SIZE);

async function createOurs(path: string, encryption: Encryption | null, create: Partial<CreateOptions> = {}) {
  const made = encryption === null ? undefined : await newEncryption({ ...encryption, passphrase: PASSPHRASE });
  const storage = NodeFileStorage.open(path, { create: true });
  createImage(storage, { size: SIZE, clusterSize: 4096, ...create, encryption: made });
  storage.close();
  made?.opened.cipher.wipe();
}

async function withOurs(path: string, body: (image: Qcow2Image) => unknown): Promise<void> {
  const image = await openChain(NodeFileStorage.open(path), {
    passphrase: PASSPHRASE,
    opener: ({ name, writable }) => NodeFileStorage.open(name, { readOnly: !writable }),
  });
  await body(image);
  image.close();
}

/** Both judges, and both readers. */
async function expectDisk(path: string, disk: Uint8Array, when: string): Promise<void> {
  const storage = NodeFileStorage.open(path, { readOnly: true });
  const { findings } = runToEnd(checkImage(storage));
  storage.close();
  expect(findings, when).toEqual([]);
  expect(qemuCheckWith(PASSPHRASE, path), when).toMatchObject({ leaks: 0, corruptions: 0, checkErrors: 0 });
  expectSameBytes(decryptedByQemu('qcow2', path, PASSPHRASE), disk, `what QEMU reads ${when}`);
  await withOurs(path, (image) => expectSameBytes(readWhole(image), disk, `what we read ${when}`));
}

const onImage = (command: string, path: string, ...args: string[]): string =>
  qemuImgWith(SECRETS, command, ...encryptedImage('qcow2', path, 'key'), ...args);

describe.each(FORMATS)('with $format', (encryption) => {
  it('a disk is shrunk and grown by QEMU and by us', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image');
      await createOurs(file, encryption);
      await withOurs(file, (image) => image.write(0, noise.subarray(0, SIZE)));
      qemuImgWith(SECRETS, 'resize', '--shrink', ...encryptedImage('qcow2', file, 'key'), '700416');
      await expectDisk(file, noise.subarray(0, 700_416), 'shrunk by QEMU');
      await withOurs(file, (image) => runToEnd(resizeImage(image, { size: 2 * SIZE })));
      const grown = new Uint8Array(2 * SIZE);
      grown.set(noise.subarray(0, 700_416));
      await expectDisk(file, grown, 'grown by us');
      await withOurs(file, (image) => {
        image.write(690_000, noise.subarray(0, 400_000));
        runToEnd(resizeImage(image, { size: 800_256, shrink: true }));
      });
      grown.set(noise.subarray(0, 400_000), 690_000);
      await expectDisk(file, grown.slice(0, 800_256), 'shrunk by us');
      onImage('resize', file, String(SIZE));
      const last = new Uint8Array(SIZE);
      last.set(grown.subarray(0, 800_256));
      await withOurs(file, (image) =>
        expectSameBytes(readWhole(image).subarray(0, 800_256), last.subarray(0, 800_256), ''),
      );
    });
  });

  it('an image is amended by QEMU and by us: version, lazy refcounts, width of refcounts', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image');
      await createOurs(file, encryption);
      const disk = noise.slice(0, SIZE);
      await withOurs(file, (image) => {
        image.write(0, disk);
        image.writeZeroes(200_000, 100_000, { unmap: true });
      });
      disk.fill(0, 200_000, 300_000);
      for (const options of [
        'compat=0.10',
        'compat=1.1',
        'lazy_refcounts=on',
        'lazy_refcounts=off',
        'refcount_bits=64',
      ]) {
        onImage('amend', file, '-o', options);
        await expectDisk(file, disk, `after QEMU's ${options}`);
      }
      // Zero clusters that keep their place: QEMU's compat=0.10 writes plain zeroes there, which then read as anything.
      await withOurs(file, (image) => image.writeZeroes(40_960, 81_920));
      disk.fill(0, 40_960, 122_880);
      for (const options of [{ refcountBits: 16 }, { version: 2 }, { version: 3 }, { refcountBits: 1 }] as const) {
        await withOurs(file, (image) => runToEnd(amendImage(image, options)));
        await expectDisk(file, disk, `after our ${JSON.stringify(options)}`);
      }
    });
  });

  it('compressed clusters that QEMU has written beside encrypted ones are read, written over, freed and copied', async () => {
    await inTemporaryDirectory((path) =>
      withSeed('compressed', seedOfThisRun(), async (random) => {
        const file = path('image');
        await createOurs(file, encryption);
        const turns = new Turns({ size: SIZE, clusterSize: 4096, version: 3 }, random);
        qemuIoWith(SECRETS, file, turns.qemuCommands(40));
        await expectDisk(file, turns.model.bytes, 'after QEMU wrote');
        await withOurs(file, (image) => {
          createSnapshot(image, { name: 'with compressed clusters' });
          turns.ours(image, 40);
        });
        await expectDisk(file, turns.model.bytes, 'after we wrote');
        await createOurs(path('copy'), encryption);
        await withOurs(file, (source) => withOurs(path('copy'), (target) => runToEnd(copyDisk(source, target))));
        await expectDisk(path('copy'), turns.model.bytes, 'in a copy');
      }),
    );
  });

  it('compressing all of an image is refused by QEMU and by us', async () => {
    await inTemporaryDirectory(async (path) => {
      qemuImg('create', '-q', '-f', 'qcow2', path('plain'), '1M');
      const options = `encrypt.format=${encryption.format},encrypt.key-secret=key`;
      const to = ['-c', '-f', 'qcow2', '-O', 'qcow2', '-o', options, path('plain'), path('target')];
      expect(qemuRefusal(SECRETS, 'convert', ...to)).toContain(
        'Compression and encryption not supported at the same time',
      );
      await createOurs(path('ours'), encryption);
      await withOurs(path('ours'), (image) => {
        expect(() => image.writeCompressed(0, new Uint8Array(4096))).toThrow(
          expect.objectContaining({ code: 'UNSUPPORTED' }),
        );
      });
    });
  });
});

describe('an overlay and its backing file', () => {
  const chainOf = (top: string, base: string, [topEncrypted, baseEncrypted]: readonly [boolean, boolean]): string[] => {
    const file = (prefix: string, name: string, encrypted: boolean) =>
      `${prefix}driver=qcow2,${prefix}file.filename=${name}${encrypted ? `,${prefix}encrypt.key-secret=key` : ''}`;
    return ['--image-opts', `${file('', top, topEncrypted)},${file('backing.', base, baseEncrypted)}`];
  };

  it.each([
    ['LUKS over LUKS', LUKS, LUKS],
    ['LUKS over plain', LUKS, null],
    ['plain over AES', null, AES],
  ] as const)('are committed by QEMU, and by us; the emptied overlay goes on: %s', async (_, top, base) => {
    await inTemporaryDirectory(async (path) => {
      const disk = noise.slice(0, SIZE);
      await createOurs(path('base'), base);
      await withOurs(path('base'), (image) => image.write(0, disk));
      await createOurs(path('top'), top, { backing: { name: path('base'), format: 'qcow2' } });
      const write = (offset: number) =>
        withOurs(path('top'), (image) => {
          image.write(offset, noise.subarray(SIZE, SIZE + 100_000));
          image.writeZeroes(offset + 200_000, 50_000);
          disk.set(noise.subarray(SIZE, SIZE + 100_000), offset);
          disk.fill(0, offset + 200_000, offset + 250_000);
        });
      const encrypted = [top !== null, base !== null] as const;
      const baseByQemu = () =>
        base === null ? qemuBytes(path('base')) : decryptedByQemu('qcow2', path('base'), PASSPHRASE);
      await write(5000);
      qemuImgWith(SECRETS, 'commit', ...chainOf(path('top'), path('base'), encrypted));
      await withOurs(path('base'), (image) => expectSameBytes(readWhole(image), disk, 'the base committed to by QEMU'));
      await withOurs(path('top'), (image) => expectSameBytes(readWhole(image), disk, 'the overlay emptied by QEMU'));
      await write(400_000);
      await withOurs(path('top'), async (image) => {
        // The base below is open to be read; what is to be written goes through another image on the same file.
        const content = readWhole(image);
        await withOurs(path('base'), (target) => target.write(0, content));
        image.invalidate();
        runToEnd(makeEmpty(image));
      });
      expectSameBytes(baseByQemu(), disk, 'the base committed to by us');
      qemuImgWith(SECRETS, 'convert', '-O', 'raw', ...chainOf(path('top'), path('base'), encrypted), path('raw'));
      expectSameBytes(readFileSync(path('raw')), disk, 'the overlay emptied by us');
    });
  });
});

describe('a plain image', () => {
  it('of ours is converted by QEMU from an encrypted one of ours, snapshot by snapshot', async () => {
    await inTemporaryDirectory(async (path) => {
      await createOurs(path('source'), LUKS);
      await withOurs(path('source'), (image) => {
        image.write(0, noise.subarray(0, 300_000));
        createSnapshot(image, { name: 'one' });
        image.write(0, noise.subarray(SIZE, SIZE + 300_000));
      });
      const from = ['-l', 'snapshot.name=one', ...encryptedImage('qcow2', path('source'), 'key')];
      qemuImgWith(SECRETS, 'convert', '-O', 'qcow2', ...from, path('one'));
      const image = openImage(NodeFileStorage.open(path('one')));
      const expected = new Uint8Array(SIZE);
      expected.set(noise.subarray(0, 300_000));
      expectSameBytes(readWhole(image), expected, 'the snapshot');
      image.close();
    });
  });
});

describe('an image that QEMU has encrypted with a cipher that is not AES', () => {
  it.each([
    ['serpent-256', 'xts', 'serpent'],
    ['twofish-256', 'xts', 'twofish'],
    ['cast5-128', 'cbc', 'cast5'],
  ])('is refused by name, checked without a key, and left as it is: %s', async (cipher, mode, name) => {
    await inTemporaryDirectory(async (path) => {
      const luks = `encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10`;
      const options = `${luks},encrypt.cipher-alg=${cipher},encrypt.cipher-mode=${mode}`;
      qemuImgWith(SECRETS, 'create', '-q', '-f', 'qcow2', '-o', options, path('image'), '1M');
      const before = readFileSync(path('image'));
      const storage = NodeFileStorage.open(path('image'));
      await expect(openChain(storage, { passphrase: PASSPHRASE })).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(new RegExp(`names the cipher "${name}" .*; only AES is supported$`)) as string,
      });
      expect(runToEnd(checkImage(storage, { repair: 'all' })).findings).toEqual([]);
      storage.close();
      expect(Buffer.compare(readFileSync(path('image')), before)).toBe(0);
    });
  });
});
