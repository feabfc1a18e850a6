/**
 * Encrypted images among others: backing chains in which some files are encrypted, conversions in and out, snapshots made by QEMU
 * and by us in turns, and what `qemu-img map` says. QEMU takes 2 s for each LUKS header that it makes, so most are ours.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  blockStatus,
  checkImage,
  copyDisk,
  createImage,
  newEncryption,
  openChain,
  openImage,
  runToEnd,
  type CreateOptions,
  type Qcow2Image,
} from '../../src/index.js';
import { createNodeSectorCipher, NodeFileStorage } from '../../src/node.js';
import { readWhole } from '../support/disk-actions.js';
import { AES, LUKS, type Encryption } from '../support/encrypted-image.js';
import { expectSameBytes, ModelDisk } from '../support/model-disk.js';
import { SeededRandom, seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { SnapshotHistory } from '../support/snapshot-history.js';
import { decryptedByQemu, encryptedImage, qemuCheckWith, qemuImgWith, qemuIoWith } from './qemu-secrets.js';
import { inTemporaryDirectory, qemuBytes, qemuImg } from './qemu.js';
import { Turns } from './turns.js';

const PASSPHRASE = 'correct horse';
const SECRETS = { key: PASSPHRASE };
const SIZE = 0x10_0000 + 512;

async function createOurs(path: string, encryption: Encryption | null, create: Omit<CreateOptions, 'size'>) {
  const made = encryption === null ? undefined : await newEncryption({ ...encryption, passphrase: PASSPHRASE });
  const storage = NodeFileStorage.open(path, { create: true });
  createImage(storage, { size: SIZE, ...create, encryption: made });
  storage.close();
  made?.opened.cipher.wipe();
}

/** With Node's own AES, so that this implementation is met, too. */
async function withOurs(path: string, body: (image: Qcow2Image) => void): Promise<void> {
  const image = await openChain(NodeFileStorage.open(path), {
    passphrase: PASSPHRASE,
    unlock: { createCipher: createNodeSectorCipher },
    opener: ({ name, writable }) => NodeFileStorage.open(name, { readOnly: !writable }),
  });
  body(image);
  image.close();
}

function expectClean(path: string, when: string): void {
  const storage = NodeFileStorage.open(path, { readOnly: true });
  const { findings } = runToEnd(checkImage(storage));
  storage.close();
  expect(findings, when).toEqual([]);
}

/** As an argument of QEMU's tools: an encrypted image over an encrypted or plain one. */
function chainOptions(top: string, topIsEncrypted: boolean, base: string, baseIsEncrypted: boolean): string[] {
  const file = (prefix: string, name: string, encrypted: boolean) =>
    `${prefix}driver=qcow2,${prefix}file.filename=${name}${encrypted ? `,${prefix}encrypt.key-secret=key` : ''}`;
  return ['--image-opts', `${file('', top, topIsEncrypted)},${file('backing.', base, baseIsEncrypted)}`];
}

describe('a chain of two files', () => {
  it.each([
    ['LUKS over plain', LUKS, null],
    ['plain over LUKS', null, LUKS],
    ['LUKS over AES', LUKS, AES],
    ['AES over LUKS', AES, LUKS],
  ] as const)('is read and written by QEMU and by us: %s', async (title, top, base) => {
    await inTemporaryDirectory((path) =>
      withSeed(title, seedOfThisRun(), async (random) => {
        await createOurs(path('base'), base, { clusterSize: 4096 });
        const below = new Turns({ size: SIZE, clusterSize: 4096, version: 3 }, random);
        await withOurs(path('base'), (image) => below.ours(image, 30));
        const backing = { name: path('base'), format: 'qcow2' } as const;
        await createOurs(path('top'), top, { clusterSize: 65536, backing });
        const shape = { size: SIZE, clusterSize: 65536, version: 3, backing: below.model.bytes } as const;
        const turns = new Turns(shape, random);
        const chain = chainOptions(path('top'), top !== null, path('base'), base !== null);
        const byQemu = () => {
          qemuImgWith(SECRETS, 'convert', '-O', 'raw', ...chain, path('raw'));
          return readFileSync(path('raw'));
        };
        await withOurs(path('top'), (image) => turns.ours(image, 30));
        expectSameBytes(byQemu(), turns.model.bytes, 'what QEMU reads');
        qemuIoWith(SECRETS, chain, turns.qemuCommands(20, { compress: false }));
        await withOurs(path('top'), (image) => expectSameBytes(readWhole(image), turns.model.bytes, 'what we read'));
        expectClean(path('top'), 'in the end');
      }),
    );
  });
});

describe('a conversion', () => {
  const disk = new SeededRandom(3).bytes(SIZE);

  it('from plain to encrypted by QEMU, and back by us, gives the same disk; and the other way round', async () => {
    await inTemporaryDirectory(async (path) => {
      writeFileSync(path('raw'), disk);
      qemuImg('convert', '-f', 'raw', '-O', 'qcow2', path('raw'), path('plain'));
      for (const format of ['luks', 'aes'] as const) {
        const options = `encrypt.format=${format},encrypt.key-secret=key${format === 'luks' ? ',encrypt.iter-time=10' : ''}`;
        qemuImgWith(SECRETS, 'convert', '-f', 'qcow2', '-O', 'qcow2', '-o', options, path('plain'), path(format));
        await createOurs(path('back'), null, {});
        await withOurs(path(format), (source) => {
          const target = openImage(NodeFileStorage.open(path('back')));
          runToEnd(copyDisk(source, target));
          target.close();
        });
        expectSameBytes(qemuBytes(path('back')), disk, `from ${format} by us`);
        await createOurs(path('ours'), format === 'luks' ? LUKS : AES, { clusterSize: 512 });
        const source = openImage(NodeFileStorage.open(path('plain')));
        await withOurs(path('ours'), (target) => runToEnd(copyDisk(source, target)));
        source.close();
        expectSameBytes(decryptedByQemu('qcow2', path('ours'), PASSPHRASE), disk, `to ${format} by us`);
      }
    });
  });

  it('of an image that QEMU made with any cipher is read, and written for QEMU to read', async () => {
    const made = [
      'encrypt.cipher-alg=aes-128,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256',
      'encrypt.cipher-alg=aes-192,encrypt.cipher-mode=xts,encrypt.hash-alg=sha512,cluster_size=512',
      'encrypt.cipher-alg=aes-256,encrypt.cipher-mode=ctr,encrypt.ivgen-alg=plain,encrypt.hash-alg=ripemd160,compat=0.10',
    ];
    await inTemporaryDirectory(async (path) => {
      writeFileSync(path('raw'), disk);
      for (const options of made) {
        const all = `encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=0,${options}`;
        qemuImgWith(SECRETS, 'convert', '-f', 'raw', '-O', 'qcow2', '-o', all, path('raw'), path('image'));
        const model = new ModelDisk({ size: SIZE, clusterSize: 512, version: 3 });
        model.write(0, disk);
        await withOurs(path('image'), (image) => {
          expectSameBytes(readWhole(image), disk, options);
          image.write(777, disk.subarray(0, 9000));
          model.write(777, disk.subarray(0, 9000));
        });
        expectSameBytes(decryptedByQemu('qcow2', path('image'), PASSPHRASE), model.bytes, options);
      }
    });
  });
});

describe('snapshots', () => {
  it.each([
    [LUKS, 4096],
    [AES, 65536],
  ])('are made, gone to and deleted by QEMU and by us: %j, clusters of %i bytes', async (encryption, clusterSize) => {
    await inTemporaryDirectory((path) =>
      withSeed(encryption.format, seedOfThisRun(), async (random) => {
        const file = path('image');
        await createOurs(file, encryption, { clusterSize });
        const history = new SnapshotHistory({ size: SIZE, clusterSize, version: 3 }, random);
        const image = encryptedImage('qcow2', file, 'key');
        const snapshot = (...args: string[]) => qemuImgWith(SECRETS, 'snapshot', ...args, ...image);
        for (let turn = 0; turn < 6; turn++) {
          await withOurs(file, (opened) => {
            history.guest(opened, 8);
            history.create(opened);
            history.guest(opened, 8);
            history.expect(opened);
          });
          const name = `by QEMU ${turn}`;
          snapshot('-c', name);
          const listed = snapshot('-l');
          const id = /^(\d+) +by QEMU/m.exec(listed.split('\n').find((line) => line.includes(name)) ?? '')?.[1];
          if (id === undefined) throw new Error(`qemu-img does not list its snapshot: ${listed}`);
          history.snapshots.push({ id, name, disk: history.model.bytes.slice(), vmState: new Uint8Array(0) });
          const chosen = random.pick(history.snapshots);
          if (random.oneIn(2)) {
            snapshot('-a', chosen.name);
            history.wentTo(chosen);
          } else if (history.snapshots.length > 2) {
            snapshot('-d', chosen.name);
            history.deleted(chosen);
          }
          await withOurs(file, (opened) => history.expect(opened));
          expect(qemuCheckWith(PASSPHRASE, file)).toMatchObject({ leaks: 0, corruptions: 0, checkErrors: 0 });
        }
        expectSameBytes(decryptedByQemu('qcow2', file, PASSPHRASE), history.model.bytes, 'what QEMU reads');
      }),
    );
  });
});

describe('block status', () => {
  it.each([LUKS, AES])('has no places, as `qemu-img map` shows none: %j', async (encryption) => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image');
      await createOurs(file, encryption, { clusterSize: 4096 });
      qemuIoWith(SECRETS, encryptedImage('qcow2', file, 'key'), [
        'write 8k 64k',
        'write -z 16k 8k',
        'write -zu 32k 4k',
      ]);
      const printed = qemuImgWith(SECRETS, 'map', '--output=json', ...encryptedImage('qcow2', file, 'key'));
      await withOurs(file, (image) => {
        const runs = [...blockStatus(image)].map(({ start, length, depth, present, zero, data, host }) => ({
          ...{ start, length, depth, present, zero, data },
          ...(host === null ? {} : { offset: host }),
        }));
        expect(runs).toEqual(JSON.parse(printed));
      });
    });
  });
});
