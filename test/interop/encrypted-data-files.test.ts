/**
 * Encrypted images with an external data file, plain or raw, in turns: QEMU takes every combination, and so do we. What a raw one
 * holds is encrypted as well, so it "reads as the disk does" only to who decrypts it.
 */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  amendImage,
  checkImage,
  createImage,
  imageInfo,
  makeEmpty,
  newEncryption,
  openChain,
  resizeImage,
  runToEnd,
  type Qcow2Image,
} from '../../src/index.js';
import { NodeFileStorage } from '../../src/node.js';
import { readWhole } from '../support/disk-actions.js';
import { AES, LUKS, type Encryption } from '../support/encrypted-image.js';
import { expectSameBytes, ModelDisk } from '../support/model-disk.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { qemuImgWith, qemuIoWith } from './qemu-secrets.js';
import { inTemporaryDirectory } from './qemu.js';
import { Turns } from './turns.js';

const PASSPHRASE = 'correct horse';
const SECRETS = { key: PASSPHRASE };
const SIZE = 0x10_0000;
const CLUSTER = 4096;

type Path = (name: string) => string;

const SHAPES = [
  [LUKS, false],
  [LUKS, true],
  [AES, false],
  [AES, true],
] as const satisfies readonly (readonly [Encryption, boolean])[];

async function createOurs(path: Path, encryption: Encryption, raw: boolean): Promise<void> {
  const made = await newEncryption({ ...encryption, passphrase: PASSPHRASE });
  const storage = NodeFileStorage.open(path('image'), { create: true });
  const data = NodeFileStorage.open(path('data'), { create: true });
  const dataFile = { name: path('data'), storage: data, raw };
  createImage(storage, { size: SIZE, clusterSize: CLUSTER, dataFile, encryption: made });
  storage.close();
  data.close();
  made.opened.cipher.wipe();
}

async function withOurs(path: Path, body: (image: Qcow2Image) => unknown): Promise<void> {
  const image = await openChain(NodeFileStorage.open(path('image')), {
    passphrase: PASSPHRASE,
    opener: ({ name, writable }) => NodeFileStorage.open(name, { readOnly: !writable }),
  });
  await body(image);
  image.close();
}

const subject = (path: Path): string[] => [
  '--image-opts',
  `driver=qcow2,encrypt.key-secret=key,file.filename=${path('image')},data-file.driver=file,data-file.filename=${path('data')}`,
];

function byQemu(path: Path): Buffer {
  qemuImgWith(SECRETS, 'convert', '-O', 'raw', ...subject(path), path('raw'));
  return readFileSync(path('raw'));
}

function expectClean(path: Path): void {
  const storage = NodeFileStorage.open(path('image'), { readOnly: true });
  expect(runToEnd(checkImage(storage)).findings).toEqual([]);
  storage.close();
  qemuImgWith(SECRETS, 'check', ...subject(path));
}

describe('an encrypted image with an external data file', () => {
  it.each(SHAPES)('of ours is read and written by QEMU and by us: %j, raw %s', async (encryption, raw) => {
    await inTemporaryDirectory((path) =>
      withSeed(`${encryption.format} ${raw}`, seedOfThisRun(), async (random) => {
        await createOurs(path, encryption, raw);
        const turns = new Turns({ size: SIZE, clusterSize: CLUSTER, version: 3 }, random);
        expectSameBytes(byQemu(path), turns.model.bytes, 'what QEMU reads of the new disk');
        await withOurs(path, (image) => {
          expect(imageInfo(image).dataFile).toEqual({ name: path('data'), raw });
          turns.ours(image, 30);
        });
        expectSameBytes(byQemu(path), turns.model.bytes, 'what QEMU reads');
        qemuIoWith(SECRETS, subject(path), turns.qemuCommands(20, { compress: false }));
        await withOurs(path, (image) => {
          expectSameBytes(readWhole(image), turns.model.bytes, 'what we read');
          turns.ours(image, 20);
          runToEnd(resizeImage(image, { size: 2 * SIZE }));
        });
        const grown = new ModelDisk({ size: 2 * SIZE, clusterSize: CLUSTER, version: 3 });
        grown.write(0, turns.model.bytes);
        expectSameBytes(byQemu(path), grown.bytes, 'what QEMU reads of the grown disk');
        expectClean(path);
        const text = Buffer.from('what nobody else may read');
        await withOurs(path, (image) => image.write(4097, text));
        expect(readFileSync(path('data')).includes(text)).toBe(false);
        await withOurs(path, (image) => runToEnd(makeEmpty(image)));
        expectSameBytes(byQemu(path), new Uint8Array(2 * SIZE), 'what QEMU reads of the emptied disk');
        expectClean(path);
      }),
    );
  });

  it.each(SHAPES)('of QEMU is read, written and amended by us: %j, raw %s', async (encryption, raw) => {
    await inTemporaryDirectory((path) =>
      withSeed(`QEMU ${encryption.format} ${raw}`, seedOfThisRun(), async (random) => {
        const luks = encryption.format === 'luks' ? ',encrypt.iter-time=10' : '';
        const encrypt = `encrypt.format=${encryption.format},encrypt.key-secret=key${luks}`;
        const files = `data_file=${path('data')},data_file_raw=${raw ? 'on' : 'off'}`;
        const options = `${encrypt},${files},cluster_size=${CLUSTER}`;
        qemuImgWith(SECRETS, 'create', '-q', '-f', 'qcow2', '-o', options, path('image'), String(SIZE));
        expect(existsSync(path('data'))).toBe(true);
        const turns = new Turns({ size: SIZE, clusterSize: CLUSTER, version: 3 }, random);
        // A new raw one of QEMU reads as whatever its zeroes decrypt to.
        const all = random.bytes(SIZE);
        turns.model.write(0, all);
        await withOurs(path, (image) => {
          expectSameBytes(readWhole(image), byQemu(path), 'the new disk');
          image.write(0, all);
          turns.ours(image, 30);
        });
        expectSameBytes(byQemu(path), turns.model.bytes, 'what QEMU reads');
        qemuIoWith(SECRETS, subject(path), turns.qemuCommands(20, { compress: false }));
        await withOurs(path, (image) => {
          expectSameBytes(readWhole(image), turns.model.bytes, 'what we read');
          runToEnd(amendImage(image, { dataFileRaw: false }));
          turns.ours(image, 10);
        });
        expectSameBytes(byQemu(path), turns.model.bytes, 'what QEMU reads in the end');
        expectClean(path);
      }),
    );
  });
});
