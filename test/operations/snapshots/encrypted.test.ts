/**
 * Snapshots of encrypted images. Over random histories each keeps its disk and its VM state, shared or not; a copy of all of
 * it opens with the same passphrase; and what is encrypted by its place on the disk is shared only at the same place.
 */
import { describe, expect, it } from 'vitest';
import {
  checkImage,
  copiedEncryption,
  copyWithSnapshots,
  createImage,
  createSnapshot,
  gotoSnapshot,
  layoutForCopy,
  MemoryStorage,
  openImage,
  openSnapshot,
  readVmState,
  resizeImage,
  runToEnd,
  writeVmState,
  type CreateOptions,
  type Qcow2Image,
} from '../../../src/index.js';
import { AES, FORMATS, freshEncrypted, LUKS, openEncrypted, type Encryption } from '../../support/encrypted-image.js';
import { expectSameBytes } from '../../support/model-disk.js';
import { seedOfThisRun, withSeed } from '../../support/seeded-random.js';
import { SnapshotHistory, type HistoryOptions } from '../../support/snapshot-history.js';

interface Shape {
  readonly title: string;
  readonly encryption: Encryption;
  readonly create: Omit<CreateOptions, 'size'> & { readonly clusterSize: number };
  readonly options?: HistoryOptions;
}

const SIZE = 100_352;
const resizes = { resizes: true };
const SHAPES: readonly Shape[] = [
  { title: 'LUKS, 4 KiB', encryption: LUKS, create: { clusterSize: 4096 }, options: { ...resizes, compresses: true } },
  { title: 'LUKS, 512 bytes', encryption: LUKS, create: { clusterSize: 512 }, options: resizes },
  { title: 'LUKS, extended L2', encryption: LUKS, create: { clusterSize: 16384, extendedL2: true } },
  { title: 'LUKS, version 2', encryption: LUKS, create: { clusterSize: 1024, version: 2 } },
  { title: 'AES, 4 KiB', encryption: AES, create: { clusterSize: 4096 }, options: { ...resizes, compresses: true } },
  { title: 'AES, 512 bytes', encryption: AES, create: { clusterSize: 512 }, options: resizes },
  { title: 'AES, lazy', encryption: AES, create: { clusterSize: 1024, lazyRefcounts: true }, options: resizes },
  { title: 'AES, version 2', encryption: AES, create: { clusterSize: 4096, version: 2 } },
];

function expectClean(storage: MemoryStorage, when: string): void {
  expect(runToEnd(checkImage(storage)).findings, when).toEqual([]);
}

/** Copies the image with its snapshots, as an export does. */
function copied(image: Qcow2Image): MemoryStorage {
  const storage = new MemoryStorage();
  const encryption = copiedEncryption(image)!;
  createImage(storage, { ...layoutForCopy(image), encryption });
  const target = openImage(storage, { encryption: encryption.opened });
  runToEnd(copyWithSnapshots(image, target));
  target.close();
  return storage;
}

describe('snapshots of an encrypted image', () => {
  for (const [salt, { title, encryption, create, options }] of SHAPES.entries()) {
    it(`keep what they hold, and so does a copy: ${title}`, () =>
      withSeed(title, seedOfThisRun(salt), async (random) => {
        const shape = { size: SIZE, clusterSize: create.clusterSize, version: create.version ?? 3 };
        const fresh = await freshEncrypted(encryption, { ...create, size: SIZE });
        const { storage } = fresh;
        let { image } = fresh;
        const history = new SnapshotHistory(shape, random, options);
        for (let step = 0; step < 25; step++) {
          history.guest(image, random.between(0, 12));
          const what = history.step(image);
          if (random.oneIn(3)) history.expect(image);
          image.reopen({});
          expectClean(storage, `after ${what}, step ${step}`);
          if (random.oneIn(6)) {
            image.close();
            image = await openEncrypted(storage);
          }
        }
        history.expect(image);
        const copy = copied(image);
        image.close();
        expectClean(copy, 'the copy');
        const opened = await openEncrypted(copy);
        history.expect(opened);
        opened.close();
      }));
  }
});

describe.each(FORMATS)('VM state with $format', (encryption) => {
  const CLUSTER = 4096;
  const STATE = new Uint8Array(10 * CLUSTER).map((_, index) => index * 5 + (index >> 8));
  const create = { size: SIZE, clusterSize: CLUSTER };

  /** An image of which the snapshot `one` has the state, and whose disk then has `size` bytes. */
  async function withState(size: number): Promise<{ storage: MemoryStorage; image: Qcow2Image }> {
    const fresh = await freshEncrypted(encryption, create);
    writeVmState(fresh.image, 0, STATE, { compress: true });
    createSnapshot(fresh.image, { name: 'one', vmStateBytes: STATE.length });
    if (size !== SIZE) runToEnd(resizeImage(fresh.image, { size, shrink: true }));
    return fresh;
  }

  it('is encrypted in the file, and shared where it is the same at the same place', async () => {
    const { storage, image } = await withState(SIZE);
    expect(writeVmState(image, 0, STATE, { like: 'one' })).toEqual({ stored: 0, shared: STATE.length, zero: 0 });
    createSnapshot(image, { name: 'two', vmStateBytes: STATE.length });
    const view = openSnapshot(image, 'one');
    // Compressed clusters would not be encrypted.
    for (let at = 0; at < STATE.length; at += CLUSTER) expect(view.vmStateRun(at)?.kind).toBe('data');
    image.close();
    const file = Buffer.from(storage.toBytes());
    for (let at = 0; at < STATE.length; at += 1024)
      expect(file.includes(Buffer.from(STATE.subarray(at, at + 64)))).toBe(false);
    expectClean(storage, 'in the end');
  });

  it.each([CLUSTER * 1024 * 8, 1024])(
    'can be read from snapshots of disks of different sizes, now %i bytes',
    async (size) => {
      const { storage, image } = await withState(size);
      // A state whose place moved with the end of the disk.
      const { shared } = writeVmState(image, 0, STATE, { like: 'one' });
      const moved = size > 512 * CLUSTER;
      expect(shared).toBe(encryption.format === 'aes' && moved ? 0 : STATE.length);
      createSnapshot(image, { name: 'two', vmStateBytes: STATE.length });
      for (const name of ['one', 'two', 'one']) {
        const view = openSnapshot(image, name);
        const state = new Uint8Array(STATE.length);
        view.readVmState(0, state);
        expectSameBytes(state, STATE, `the state of ${name}`);
        gotoSnapshot(image, name);
        readVmState(image, 0, state.fill(0));
        expectSameBytes(state, STATE, `the state after going to ${name}`);
      }
      image.close();
      expectClean(storage, 'in the end');
    },
  );
});
