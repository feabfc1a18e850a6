/**
 * Operations on whole images that are encrypted: each leaves a clean image that opens with its passphrase and reads as it should.
 */
import { describe, expect, it } from 'vitest';
import {
  amendImage,
  changeBackingFile,
  checkImage,
  copyDisk,
  createImage,
  createSnapshot,
  imageInfo,
  makeEmpty,
  MemoryStorage,
  newEncryption,
  openImage,
  openSnapshot,
  RawDisk,
  resizeImage,
  runToEnd,
  type OpenOptions,
  type Qcow2Image,
  type Repair,
} from '../../src/index.js';
import { act, randomRange, readWhole, type DiskAction } from '../support/disk-actions.js';
import { AES, FORMATS, freshEncrypted, LUKS, openEncrypted, PASSPHRASE } from '../support/encrypted-image.js';
import { expectSameBytes, ModelDisk } from '../support/model-disk.js';
import { Qcow2Bytes } from '../support/qcow2-bytes.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';

const SIZE = 0x4_0000 + 512;
const CLUSTER = 4096;
const shape = { size: SIZE, clusterSize: CLUSTER } as const;
const LAYOUTS = [
  shape,
  { ...shape, clusterSize: 512 },
  { ...shape, version: 2 },
  { ...shape, clusterSize: 16384, extendedL2: true },
  { ...shape, lazyRefcounts: true, refcountBits: 1 },
] as const;
const ACTIONS: readonly DiskAction[] = ['write', 'write', 'write', 'writeZeroes', 'unmap', 'discard', 'read'];

function noise(length: number): Uint8Array {
  return new Uint8Array(length).map((_, index) => 0x80 | (index * 7) | (index >> 9));
}

function expectClean(storage: MemoryStorage, when: string, repair: Repair = 'none'): void {
  const { corruptions, leaks, checkErrors } = runToEnd(checkImage(storage, { repair }));
  expect({ corruptions, leaks, checkErrors }, when).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
}

/** Closes, checks, opens with the passphrase, and compares all of the disk. */
async function expectKept(
  { storage, image }: { storage: MemoryStorage; image: Qcow2Image },
  bytes: Uint8Array,
  when: string,
): Promise<Qcow2Image> {
  image.close();
  expectClean(storage, when);
  const again = await openEncrypted(storage);
  expectSameBytes(readWhole(again), bytes, when);
  return again;
}

/** Without the cost of one assertion a cluster: no data cluster in the file is anything but encrypted. */
function expectNowherePlain(storage: MemoryStorage, bytes: Uint8Array): void {
  const file = Buffer.from(storage.toBytes());
  for (let at = 0; at + 32 <= bytes.length; at += 9999) {
    const part = Buffer.from(bytes.subarray(at, at + 32));
    if (part.every((byte) => byte === part[0])) continue;
    expect(file.includes(part), `the bytes at ${at}`).toBe(false);
  }
}

describe.each(FORMATS)('with $format', (encryption) => {
  it.each(LAYOUTS)('a disk is what a guest makes of it: %j', (layout) =>
    withSeed(JSON.stringify(layout), seedOfThisRun(), async (random) => {
      const version = 'version' in layout ? layout.version : 3;
      const fresh = await freshEncrypted(encryption, layout);
      const model = new ModelDisk({ ...layout, version });
      for (let turn = 0; turn < 150; turn++) {
        const range = randomRange(random, SIZE, layout.clusterSize, 40_000);
        act(random.pick(ACTIONS), range, { disk: fresh.image, model, random });
      }
      (await expectKept(fresh, model.bytes, 'in the end')).close();
    }),
  );

  it.each(LAYOUTS)('emptying keeps the key slots, and the image goes on: %j', async (layout) => {
    const fresh = await freshEncrypted(encryption, layout);
    fresh.image.write(0, noise(SIZE));
    runToEnd(makeEmpty(fresh.image));
    const again = await expectKept(fresh, new Uint8Array(SIZE), 'the empty disk');
    again.write(700, noise(9000));
    const expected = new Uint8Array(SIZE);
    expected.set(noise(9000), 700);
    (await expectKept({ storage: fresh.storage, image: again }, expected, 'the disk written again')).close();
  });

  it('shrinking and growing leaves nothing of what lay behind the end', async () => {
    const fresh = await freshEncrypted(encryption, shape);
    fresh.image.write(0, noise(SIZE));
    runToEnd(resizeImage(fresh.image, { size: 70_144, shrink: true }));
    runToEnd(resizeImage(fresh.image, { size: 2 * SIZE }));
    const expected = new Uint8Array(2 * SIZE);
    expected.set(noise(SIZE).subarray(0, 70_144));
    (await expectKept(fresh, expected, 'the disk')).close();
  });

  it.each(['metadata', 'falloc', 'full'] as const)(
    'preallocation %s reads as zeroes, new or grown',
    async (preallocation) => {
      for (const layout of [shape, { ...shape, clusterSize: 16384, extendedL2: true }]) {
        const fresh = await freshEncrypted(encryption, { ...layout, preallocation });
        expectSameBytes(readWhole(fresh.image), new Uint8Array(SIZE), 'the new disk');
        runToEnd(resizeImage(fresh.image, { size: 2 * SIZE, preallocation }));
        fresh.image.write(SIZE - 100, noise(200));
        const expected = new Uint8Array(2 * SIZE);
        expected.set(noise(200), SIZE - 100);
        (await expectKept(fresh, expected, 'the grown disk')).close();
      }
    },
  );

  it.each(['off', 'metadata', 'falloc', 'full'] as const)(
    'an external data file is encrypted, and reads as zeroes at first: preallocation %s',
    async (preallocation) => {
      const data = new MemoryStorage();
      const dataFile = { name: 'data', storage: data };
      const { storage, image: first } = await freshWith(
        encryption,
        {
          ...shape,
          dataFile,
          preallocation,
        },
        { dataFile: data },
      );
      expectSameBytes(readWhole(first), new Uint8Array(SIZE), 'the new disk');
      runToEnd(resizeImage(first, { size: 2 * SIZE, preallocation }));
      expectSameBytes(readWhole(first), new Uint8Array(2 * SIZE), 'the grown disk');
      first.write(5000, noise(20_000));
      first.close();
      expectClean(storage, 'with an external data file');
      expectNowherePlain(data, noise(20_000));
      const again = await openEncrypted(storage, { dataFile: data });
      const expected = new Uint8Array(2 * SIZE);
      expected.set(noise(20_000), 5000);
      expectSameBytes(readWhole(again), expected, 'the disk');
      runToEnd(makeEmpty(again));
      expectSameBytes(readWhole(again), new Uint8Array(2 * SIZE), 'the emptied disk');
      again.close();
    },
  );

  it('version 2 and back keep the disk, zero clusters with a place and without, over a backing file and beside a snapshot', async () => {
    for (const over of [false, true]) {
      const backing = { name: 'base', format: 'raw' } as const;
      const below = () => (over ? new RawDisk(new MemoryStorage(noise(SIZE))) : null);
      const { storage, image: created } = await freshWith(encryption, over ? { ...shape, backing } : shape, {
        backing: below(),
      });
      created.write(0, noise(50_000));
      createSnapshot(created, { name: 'one' });
      created.writeZeroes(8192, 20_000);
      // Clusters of its own, which keep their places.
      created.write(160_000, noise(30_000));
      created.writeZeroes(163_840, 16_384);
      created.writeZeroes(100_000, 50_000, { unmap: true });
      created.write(30_000, noise(100));
      const bytes = readWhole(created);
      runToEnd(amendImage(created, { version: 2 }));
      expectSameBytes(readWhole(created), bytes, 'in version 2');
      created.close();
      expectClean(storage, 'in version 2');
      const again = await openEncrypted(storage, { backing: below() });
      expectSameBytes(readWhole(again), bytes, 'in version 2, opened again');
      const snapshot = readWhole(openSnapshot(again, 'one')).subarray(0, 50_000);
      expectSameBytes(snapshot, noise(50_000), 'the snapshot');
      runToEnd(amendImage(again, { version: 3 }));
      expectSameBytes(readWhole(again), bytes, 'in version 3 again');
      again.close();
      expectClean(storage, 'in version 3 again');
    }
  });

  it('changes of refcount width, lazy refcounts, size and backing file keep the key slots', async () => {
    const fresh = await freshEncrypted(encryption, { ...shape, clusterSize: 512 });
    const below = () => new RawDisk(new MemoryStorage(noise(SIZE)));
    let { image } = fresh;
    const { storage } = fresh;
    image.write(0, noise(60_000));
    const before = imageInfo(image).encryption;
    for (const refcountBits of [64, 1, 8, 2, 32, 4, 16]) {
      runToEnd(amendImage(image, { refcountBits }));
      image.write(refcountBits * 1000, noise(60_000).subarray(refcountBits * 1000, refcountBits * 1000 + 500));
    }
    for (const lazyRefcounts of [true, false]) runToEnd(amendImage(image, { lazyRefcounts, size: 2 * SIZE }));
    const expected = new Uint8Array(2 * SIZE);
    expected.set(noise(64_500).subarray(0, 60_000));
    expected.set(noise(60_000).subarray(64_000, 64_500), 64_000);
    changeBackingFile(image, { name: './'.repeat(100) + 'base', format: 'raw' });
    expect(imageInfo(image).encryption).toEqual(before);
    image.close();
    image = await openEncrypted(storage, { backing: below() });
    changeBackingFile(image, null);
    image.close();
    image = await openEncrypted(storage);
    expectSameBytes(readWhole(image), expected, 'the disk');
    image.close();
    expectClean(storage, 'in the end');
  });

  it('compressed writes are refused, and change nothing', async () => {
    const { storage, image } = await freshEncrypted(encryption, shape);
    expect(() => image.writeCompressed(0, new Uint8Array(CLUSTER))).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED' }),
    );
    image.close();
    expectClean(storage, 'afterwards');
  });

  it('copying from plain to encrypted and back gives the same disk', async () => {
    const source = new RawDisk(new MemoryStorage(noise(SIZE)));
    const { storage, image } = await freshEncrypted(encryption, shape);
    runToEnd(copyDisk(source, image));
    const again = await expectKept({ storage, image }, noise(SIZE), 'the encrypted copy');
    expectNowherePlain(storage, noise(SIZE));
    const plain = new MemoryStorage();
    createImage(plain, shape);
    const target = openImage(plain);
    runToEnd(copyDisk(again, target));
    expectSameBytes(readWhole(target), noise(SIZE), 'the plain copy');
    target.close();
    again.close();
  });

  it.each(['leaks', 'all'] as const)(
    'a check repairs %s without a key, and takes nothing from the key slots',
    async (repair) => {
      const fresh = await freshEncrypted(encryption, { ...shape, clusterSize: 512 });
      fresh.image.write(0, noise(SIZE));
      fresh.image.close();
      const bytes = new Qcow2Bytes(fresh.storage.toBytes());
      const host = bytes.append(new Uint8Array(512));
      bytes.setRefcount(host, 1);
      if (repair === 'all') for (let cluster = 0; cluster < 40; cluster++) bytes.setRefcount(cluster * 512, 0);
      const damaged = new MemoryStorage(new Uint8Array(bytes.bytes));
      expectRepaired(damaged, repair);
      const again = await openEncrypted(damaged);
      expectSameBytes(readWhole(again), noise(SIZE), 'the repaired disk');
      again.close();
    },
  );

  it('a refcount structure that is lost is built anew around the key slots', async () => {
    const fresh = await freshEncrypted(encryption, shape);
    fresh.image.write(0, noise(SIZE));
    fresh.image.close();
    const bytes = new Qcow2Bytes(fresh.storage.toBytes());
    bytes.setBits(bytes.refcountTableOffset, 0x201n);
    const damaged = new MemoryStorage(new Uint8Array(bytes.bytes));
    expectRepaired(damaged, 'all');
    const again = await openEncrypted(damaged);
    again.write(0, noise(SIZE));
    expectSameBytes(readWhole(again), noise(SIZE), 'the repaired disk');
    (await expectKept({ storage: damaged, image: again }, noise(SIZE), 'written and opened again')).close();
  });

  it('an image left dirty is repaired when it is opened, locked or not', async () => {
    for (const locked of [true, false]) {
      const { storage, image } = await freshEncrypted(encryption, { ...shape, lazyRefcounts: true });
      image.write(0, noise(SIZE));
      image.flush();
      const left = new MemoryStorage(storage.toBytes());
      if (locked) openImage(left, { encryption: null }).close();
      const again = await openEncrypted(left);
      expectSameBytes(readWhole(again), noise(SIZE), 'the disk');
      again.close();
      expectClean(left, 'after the repair');
    }
  });
});

function expectRepaired(storage: MemoryStorage, repair: Repair): void {
  runToEnd(checkImage(storage, { repair }));
  expectClean(storage, 'after the repair');
}

/** With what is opened beside it or below it. */
async function freshWith(
  encryption: typeof LUKS | typeof AES,
  create: Parameters<typeof freshEncrypted>[1],
  files: OpenOptions,
): Promise<{ storage: MemoryStorage; image: Qcow2Image }> {
  const storage = new MemoryStorage();
  const made = await newEncryption({ ...encryption, passphrase: PASSPHRASE });
  createImage(storage, { ...create, encryption: made });
  return { storage, image: openImage(storage, { ...files, encryption: made.opened }) };
}
