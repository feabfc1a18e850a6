/**
 * Exports that are written piece by piece to where nothing can be read back. The judge is the same export into memory: the two files are equal,
 * byte for byte, for all layouts and all that may be exported so. (Keys are random: what is encrypted is compared by what it holds.)
 */
import { describe, expect, it } from 'vitest';
import {
  checkImage,
  createImage,
  createSnapshot,
  MemoryStorage,
  openChain,
  openImage,
  runToEnd,
  type CreateOptions,
  type Qcow2Image,
} from '../../src/index.js';
import { newEncryption } from '../../src/image/unlock-image.js';
import { takeMoment } from '../../src/operations/snapshots/export-moment.js';
import { PouredStorage } from '../../src/storage/poured.js';
import type { Storage } from '../../src/storage/storage.js';
import { exportJob, isOfNow, type ExportInput } from '../../src/worker/export-job.js';
import type { ExportContent } from '../../src/worker/protocol.js';
import { act, randomRange, readWhole } from '../support/disk-actions.js';
import { expectSameBytes, ModelDisk } from '../support/model-disk.js';
import { SeededRandom, seedOfThisRun, withSeed } from '../support/seeded-random.js';

type Layout = Omit<CreateOptions, 'dataFile' | 'encryption'>;

const LAYOUTS: readonly (readonly [string, Layout])[] = [
  ['the smallest clusters', { size: 700_000, clusterSize: 512, refcountBits: 64 }],
  ['version 2', { size: 1_500_000, clusterSize: 4096, version: 2 }],
  ['one bit a refcount', { size: 3_000_320, clusterSize: 65_536, refcountBits: 1 }],
  ['subclusters', { size: 3_000_000, clusterSize: 32_768, extendedL2: true }],
  ['the largest clusters', { size: 9_000_448, clusterSize: 2 << 20 }],
  ['zstd', { size: 2_000_000, clusterSize: 16_384, compressionType: 'zstd' }],
];

const CONTENTS: readonly (readonly [string, ExportContent])[] = [
  ['the disk', { of: 'disk', snapshots: false }],
  ['the disk, compressed', { of: 'disk', snapshots: false, compress: true }],
  ['a snapshot', { of: 'snapshot', key: 'one' }],
  ['the overlay', { of: 'overlay' }],
  ['the overlay, compressed', { of: 'overlay', compress: true }],
  ['the file', { of: 'file' }],
];

/** An image over a base, with a history, a snapshot, and more of it since. */
function madeImage(layout: Layout, random: SeededRandom): Qcow2Image {
  const storage = new MemoryStorage();
  const size = Math.ceil(layout.size / 512) * 512;
  createImage(storage, { ...layout, size, backing: { name: 'base', format: 'raw' } });
  const base = new MemoryStorage();
  createImage(base, { size });
  const backing = openImage(base);
  backing.write(0, random.bytes(Math.min(size, 500_000)));
  const image = openImage(storage, { backing });
  const model = new ModelDisk({ size, clusterSize: image.clusterSize, version: image.header.version as 2 | 3 });
  const guest = (count: number): void => {
    for (let index = 0; index < count; index++) {
      const range = randomRange(random, size, image.clusterSize, Math.max(20_000, 2.5 * image.clusterSize));
      act(random.pick(['write', 'write', 'writeZeroes', 'discard']), range, { disk: image, model, random });
    }
  };
  guest(20);
  if (image.refcountBits > 1) createSnapshot(image, { name: 'one' });
  guest(10);
  return image;
}

function exported(image: Qcow2Image, file: Storage, content: ExportContent, input: Partial<ExportInput> = {}): void {
  // As the worker does it; of one bit a refcount there is no moment.
  const moment = isOfNow(content) ? takeMoment(image) : null;
  try {
    runToEnd<unknown>(exportJob(image, file, content, { moment, ...input }));
  } finally {
    if (moment !== null) runToEnd(moment.release());
  }
}

/** The file that becomes of it, taken now and then. */
function poured(write: (file: PouredStorage) => void): Uint8Array {
  const [file, written] = [new PouredStorage(), new MemoryStorage()];
  write(file);
  for (const { offset, bytes } of [...file.takePieces(), ...file.takeRest()]) written.write(offset, bytes);
  written.truncate(file.size);
  return written.toBytes();
}

describe.each(LAYOUTS)('an export of an image with %s', (_, layout) => {
  // With one bit a refcount there are no snapshots, and so no moment.
  const contents = CONTENTS.filter(([, { of }]) => of !== 'snapshot' || layout.refcountBits !== 1);
  it.each(contents)('of %s is poured as it is written', (name, content) =>
    withSeed(name, seedOfThisRun(812), (random) => {
      const image = madeImage(layout, random);
      const inMemory = new MemoryStorage();
      // First the one, so that both find the same file: a moment leaves its traces in what is free.
      exported(image, new MemoryStorage(), content);
      const elsewhere = poured((file) => exported(image, file, content));
      exported(image, inMemory, content);
      if (content.of !== 'file')
        expect(runToEnd(checkImage(new MemoryStorage(elsewhere.slice()))).findings).toEqual([]);
      expectSameBytes(elsewhere, inMemory.toBytes(), name);
    }),
  );
});

describe('an encrypted export', () => {
  it.each([
    ['luks', { format: 'luks', passphrase: 'x', iterTime: 0 }],
    ['aes', { format: 'aes', passphrase: 'x' }],
  ] as const)('with %s holds the disk', async (_, settings) => {
    const image = madeImage({ size: 2_000_000, clusterSize: 4096 }, new SeededRandom(5));
    const encryption = await newEncryption(settings);
    const bytes = poured((file) => exported(image, file, { of: 'disk', snapshots: false }, { encryption }));
    encryption.dispose();
    expect(runToEnd(checkImage(new MemoryStorage(bytes.slice()))).findings).toEqual([]);
    const copy = await openChain(new MemoryStorage(bytes.slice()), { passphrase: 'x' });
    expectSameBytes(readWhole(copy).subarray(0, image.size), readWhole(image), 'the disk');
  });
});
