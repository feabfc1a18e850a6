/**
 * Encrypted images in turns: QEMU and we write one image, over cipher, mode, IV, hash and layout, and both read all of it as
 * the model has it. LUKS and legacy AES.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  checkImage,
  createImage,
  createSnapshot,
  gotoSnapshot,
  newEncryption,
  openChain,
  readVmState,
  resizeImage,
  runToEnd,
  writeVmState,
  type CreateOptions,
  type EncryptionSettings,
  type Qcow2Image,
} from '../../src/index.js';
import { NodeFileStorage } from '../../src/node.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { decryptedByQemu, encryptedImage, qemuImgWith, qemuIoWith } from './qemu-secrets.js';
import { inTemporaryDirectory } from './qemu.js';
import { Turns } from './turns.js';

const PASSPHRASE = 'correct horse battery staple';
const SIZE = 0x40_0000 + 512;

type WithoutPassphrase<Each> = Each extends EncryptionSettings ? Omit<Each, 'passphrase'> : never;
type Settings = WithoutPassphrase<EncryptionSettings>;

interface Shape {
  readonly encryption: Settings;
  readonly create: Omit<CreateOptions, 'size' | 'encryption'> & { readonly clusterSize: number };
}

const luks = { format: 'luks', iterTime: 1 } as const;
const SHAPES: readonly Shape[] = [
  { encryption: luks, create: { clusterSize: 65536 } },
  { encryption: { ...luks, cipher: 'aes-128', hash: 'sha1' }, create: { clusterSize: 512 } },
  { encryption: { ...luks, cipher: 'aes-192', hash: 'sha512' }, create: { clusterSize: 4096, refcountBits: 1 } },
  { encryption: { ...luks, mode: 'cbc', iv: 'essiv', hash: 'sha256' }, create: { clusterSize: 4096 } },
  { encryption: { ...luks, mode: 'cbc', iv: 'plain' }, create: { clusterSize: 16384, extendedL2: true } },
  { encryption: { ...luks, mode: 'ecb', iv: 'plain' }, create: { clusterSize: 0x20_0000 } },
  {
    encryption: { ...luks, mode: 'ctr', iv: 'plain64', hash: 'ripemd160' },
    create: { clusterSize: 65536, lazyRefcounts: true },
  },
  { encryption: luks, create: { clusterSize: 4096, version: 2 } },
  { encryption: { format: 'aes' }, create: { clusterSize: 65536 } },
  { encryption: { format: 'aes' }, create: { clusterSize: 512, version: 2 } },
];

const titleOf = ({ encryption, create }: Shape): string => JSON.stringify({ ...encryption, ...create });

async function withEncrypted<T>(file: string, body: (image: Qcow2Image) => T | Promise<T>): Promise<T> {
  const image = await openChain(NodeFileStorage.open(file), {
    passphrase: PASSPHRASE,
    opener: ({ name, writable }) => NodeFileStorage.open(name, { readOnly: !writable }),
  });
  const result = await body(image);
  image.close();
  return result;
}

async function createEncrypted(file: string, { encryption, create }: Shape, size = SIZE): Promise<void> {
  const made = await newEncryption({ ...encryption, passphrase: PASSPHRASE });
  const storage = NodeFileStorage.open(file, { create: true });
  createImage(storage, { ...create, size, encryption: made });
  storage.close();
  made.opened.cipher.wipe();
}

function expectClean(file: string, when: string): void {
  const storage = NodeFileStorage.open(file, { readOnly: true });
  const { corruptions, leaks } = runToEnd(checkImage(storage));
  storage.close();
  expect({ corruptions, leaks }, when).toEqual({ corruptions: 0, leaks: 0 });
  qemuImgWith({ key: PASSPHRASE }, 'check', ...encryptedImage('qcow2', file, 'key'));
}

describe('an encrypted image', () => {
  for (const [salt, shape] of SHAPES.entries()) {
    const { clusterSize, version = 3 } = shape.create;
    it(`of ours is read and written by QEMU and by us: ${titleOf(shape)}`, async () => {
      await inTemporaryDirectory((path) =>
        withSeed(titleOf(shape), seedOfThisRun(salt), async (random) => {
          const file = path('image.qcow2');
          await createEncrypted(file, shape);
          const turns = new Turns({ size: SIZE, clusterSize, version }, random);
          await withEncrypted(file, (image) => turns.ours(image, 40));
          expectSameBytes(decryptedByQemu('qcow2', file, PASSPHRASE), turns.model.bytes, 'what QEMU reads');
          qemuIoWith({ key: PASSPHRASE }, file, turns.qemuCommands(25, { compress: false }));
          await withEncrypted(file, (image) => {
            expectSameBytes(readWhole(image), turns.model.bytes, 'what we read after QEMU wrote');
            turns.ours(image, 20);
          });
          expectSameBytes(decryptedByQemu('qcow2', file, PASSPHRASE), turns.model.bytes, 'what QEMU reads in the end');
          expectClean(file, 'in the end');
        }),
      );
    });
  }

  it('of QEMU keeps its snapshots and their VM state, resized and gone back to by us', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      const options = 'encrypt.format=luks,encrypt.iter-time=10,encrypt.key-secret=key';
      qemuImgWith({ key: PASSPHRASE }, 'create', '-f', 'qcow2', '-o', options, file, String(SIZE));
      const state = new Uint8Array(300_000).fill(7);
      await withEncrypted(file, (image) => {
        image.write(1000, new Uint8Array(200_000).fill(1));
        writeVmState(image, 0, state);
        createSnapshot(image, { name: 'one', vmStateBytes: state.length });
        image.write(0, new Uint8Array(SIZE).fill(2));
        writeVmState(image, 0, state, { like: 'one' });
        createSnapshot(image, { name: 'two', vmStateBytes: state.length });
        runToEnd(resizeImage(image, { size: 2 * SIZE }));
      });
      const grown = new Uint8Array(2 * SIZE).fill(2, 0, SIZE);
      expectSameBytes(decryptedByQemu('qcow2', file, PASSPHRASE), grown, 'the grown disk');
      await withEncrypted(file, (image) => {
        gotoSnapshot(image, 'one');
        const read = new Uint8Array(state.length);
        readVmState(image, 0, read);
        expectSameBytes(read, state, 'the VM state');
      });
      const first = new Uint8Array(SIZE).fill(1, 1000, 201_000);
      expectSameBytes(decryptedByQemu('qcow2', file, PASSPHRASE), first, 'the disk gone back to');
      expectClean(file, 'in the end');
      expect(readFileSync(file).includes(Buffer.alloc(512, 7))).toBe(false);
    });
  });
});
