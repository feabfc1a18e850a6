/**
 * Exports that are written piece by piece to where nothing can be read back. The judge is the same export into memory: the two files are equal,
 * byte for byte, for all layouts and all that may be exported so, over a base whose chunks come only when they are asked for. (Keys are random:
 * what is encrypted is compared by what it holds.)
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
  settle,
  type CreateOptions,
  type Qcow2Image,
} from '../../src/index.js';
import { newEncryption } from '../../src/image/unlock-image.js';
import { takeMoment } from '../../src/operations/snapshots/export-moment.js';
import { PouredStorage, type Piece } from '../../src/storage/poured.js';
import type { Storage } from '../../src/storage/storage.js';
import type { SavedContent } from '../../src/worker/export-content.js';
import { exportJob, isOfNow, type ExportInput } from '../../src/worker/export-job.js';
import { RemoteStorage } from '../storage/remote.js';
import { act, randomRange } from '../support/disk-actions.js';
import { expectSameBytes, ModelDisk } from '../support/model-disk.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';

type Layout = Omit<CreateOptions, 'dataFile' | 'encryption'> & {
  /** Bytes that the disk is smaller than its sectors. */
  readonly odd?: number;
};

const LAYOUTS: readonly (readonly [string, Layout])[] = [
  ['the smallest clusters', { size: 700_416, clusterSize: 512, refcountBits: 64 }],
  [
    'version 2, and a size that is no whole number of sectors',
    { size: 1_500_160, clusterSize: 4096, version: 2, odd: 100 },
  ],
  ['two bits a refcount', { size: 1_500_160, clusterSize: 65_536, refcountBits: 2 }],
  ['subclusters', { size: 1_800_192, clusterSize: 32_768, extendedL2: true, odd: 1 }],
  ['large clusters', { size: 2_800_128, clusterSize: 1 << 20, odd: 7 }],
  ['zstd', { size: 2_000_384, clusterSize: 16_384, compressionType: 'zstd', odd: 511 }],
];

const CONTENTS: readonly (readonly [string, SavedContent])[] = [
  ['the disk', { of: 'disk', snapshots: false }],
  ['the disk, compressed', { of: 'disk', snapshots: false, compress: true }],
  ['a snapshot', { of: 'snapshot', key: 'one' }],
  ['the overlay', { of: 'overlay' }],
  ['the overlay of a snapshot, compressed', { of: 'overlay', key: 'one', compress: true }],
];

interface Made {
  readonly image: Qcow2Image;
  /** What the disk of now holds. */
  readonly content: Uint8Array;
}

/** An image over a base far away, with a history, a snapshot, and more of it since. */
async function madeImage({ odd = 0, ...layout }: Layout, random: SeededRandom): Promise<Made> {
  const storage = new MemoryStorage();
  createImage(storage, { ...layout, backing: { name: 'base', format: 'raw' } });
  const size = layout.size - odd;
  const sizeField = new Uint8Array(8);
  new DataView(sizeField.buffer).setBigUint64(0, BigInt(size));
  storage.write(24, sizeField);
  const base = new MemoryStorage();
  createImage(base, { size: layout.size });
  const backing = openImage(base);
  const first = random.bytes(Math.min(size, 500_000));
  backing.write(0, first);
  const made = openImage(storage, { backing });
  const { clusterSize } = made;
  const model = new ModelDisk({ size, clusterSize, version: made.header.version as 2 | 3, backing: first });
  const guest = (count: number): void => {
    for (let index = 0; index < count; index++) {
      const range = randomRange(random, size, clusterSize, Math.max(20_000, 2.5 * clusterSize));
      act(random.pick(['write', 'write', 'writeZeroes', 'discard']), range, { disk: made, model, random });
    }
  };
  guest(20);
  createSnapshot(made, { name: 'one' });
  guest(10);
  // To the last byte, which need not be the last of a sector.
  act('write', { offset: size - 70_000, length: 70_000 }, { disk: made, model, random });
  made.close();
  backing.close();
  const remote = new RemoteStorage(base.toBytes(), { chunkBytes: 65_536 });
  const far = await settle(() => openImage(remote, { readOnly: true }));
  return { image: openImage(storage, { backing: far }), content: model.bytes };
}

/** As the worker does it. */
async function exported(
  image: Qcow2Image,
  file: Storage,
  content: SavedContent,
  { encryption, between = () => {} }: Pick<ExportInput, 'encryption'> & { readonly between?: () => void } = {},
): Promise<void> {
  const moment = isOfNow(content) ? await settle(() => takeMoment(image)) : null;
  try {
    const job = await settle(() => exportJob(image, file, content, { moment, encryption }));
    while ((await settle(() => job.next())).done !== true) between();
  } finally {
    if (moment !== null) runToEnd(moment.release());
  }
}

/** The file that becomes of pieces which are taken now and then. */
async function poured(
  random: SeededRandom,
  write: (file: PouredStorage, between: () => void) => Promise<void>,
): Promise<Uint8Array<ArrayBuffer>> {
  const [file, written] = [new PouredStorage(), new MemoryStorage()];
  const writeDown = (pieces: readonly Piece[]): void => {
    for (const { offset, bytes } of pieces) written.write(offset, bytes);
  };
  await write(file, () => {
    if (random.oneIn(2)) writeDown(file.takePieces());
  });
  writeDown([...file.takePieces(), ...file.takeRest()]);
  expect(written.size).toBeLessThanOrEqual(file.size);
  written.truncate(file.size);
  return written.toBytes();
}

function expectSound(bytes: Uint8Array): void {
  expect(runToEnd(checkImage(new MemoryStorage(bytes.slice()))).findings).toEqual([]);
}

describe.each(LAYOUTS)('an export of an image with %s', (_, layout) => {
  it.each(CONTENTS)('of %s is poured as it is written', (name, content) =>
    withSeed(name, seedOfThisRun(812), async (random) => {
      const { image } = await madeImage(layout, random);
      const elsewhere = await poured(random, (file, between) => exported(image, file, content, { between }));
      expectSound(elsewhere);
      const inMemory = new MemoryStorage();
      await exported(image, inMemory, content);
      expectSameBytes(elsewhere, inMemory.toBytes(), name);
    }),
  );

  it.each([
    ['LUKS', { format: 'luks', passphrase: 'x', iterTime: 0 }],
    ['legacy AES', { format: 'aes', passphrase: 'x' }],
  ] as const)('of the disk, encrypted with %s, holds the disk', (name, settings) =>
    withSeed(name, seedOfThisRun(813), async (random) => {
      const { image, content } = await madeImage(layout, random);
      const encryption = await newEncryption(settings);
      const of = { of: 'disk', snapshots: false } as const;
      const bytes = await poured(random, (file, between) => exported(image, file, of, { between, encryption }));
      encryption.dispose();
      expectSound(bytes);
      const copy = await openChain(new MemoryStorage(bytes), { passphrase: 'x' });
      const read = new Uint8Array(image.size);
      copy.read(0, read);
      expectSameBytes(read, content, 'the disk');
    }),
  );
});
