/**
 * Bitmaps that somebody has made wrong on purpose: any byte of the extension, the directory, the tables and the header's size changed.
 * Whatever is asked of the image ends, with an answer or a `Qcow2Error`. Where a check finds no cluster that two things name, the guest
 * reads what it wrote, and writes on.
 */
import { describe, expect, it } from 'vitest';
import {
  addBitmap,
  checkImage,
  clearBitmap,
  confirmIncrement,
  createImage,
  dirtyRanges,
  disableBitmap,
  exportIncremental,
  listBitmaps,
  MemoryStorage,
  mergeBitmap,
  newBitmapProblem,
  openImage,
  Qcow2Error,
  removeBitmap,
  runToEnd,
  storeBitmaps,
  type Qcow2Image,
} from '../../../src/index.js';
import { readWhole } from '../../support/disk-actions.js';
import { expectSameBytes } from '../../support/model-disk.js';
import { Qcow2Bytes } from '../../support/qcow2-bytes.js';
import { extensionAt } from '../../support/raw-bitmaps.js';
import { roundsOfThisRun } from '../../support/campaign.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../../support/seeded-random.js';

const SIZE = 300_032;
const RUNS = roundsOfThisRun(150);

function goodImage(clusterSize: number): Qcow2Bytes {
  const storage = new MemoryStorage();
  createImage(storage, { size: SIZE, clusterSize });
  const image = openImage(storage);
  for (const [index, name] of ['one', 'two', 'three'].entries()) {
    addBitmap(image, { name, granularity: 512 << index });
    image.write(40_000 * index, new Uint8Array(90_000).fill(index + 1));
  }
  image.close();
  return new Qcow2Bytes(storage.toBytes());
}

/** Where the bytes lie that say something of bitmaps: first byte and length. */
function places(image: Qcow2Bytes): readonly (readonly [number, number])[] {
  const extension = extensionAt(image)!;
  const directory = image.u64(extension + 16);
  return [
    [extension - 8, 32],
    [directory, image.u64(extension + 8)],
    [image.u64(directory), 8 * image.u32(directory + 8)],
    [image.u64(directory + 32), 8 * image.u32(directory + 40)],
  ];
}

function damage(image: Qcow2Bytes, random: SeededRandom): void {
  const all = places(image);
  for (let count = random.between(1, 3); count > 0; count--) {
    const [first, length] = random.pick(all);
    const at = first + random.below(length);
    image.bytes[at] = random.pick([0, 1, 0x80, 0xff, random.below(256), image.bytes[at]! ^ (1 << random.below(8))]);
  }
}

/** What fails must say so by a `Qcow2Error`. */
function attempt(call: () => void): void {
  try {
    call();
  } catch (error) {
    if (!(error instanceof Qcow2Error)) throw error;
  }
}

const ASKED: readonly ((image: Qcow2Image, name: string) => void)[] = [
  (image, name) => void [...dirtyRanges(image, name)],
  (image, name) => clearBitmap(image, name),
  (image, name) => disableBitmap(image, name),
  (image, name) => mergeBitmap(image, name, { name: 'two' }),
  (image, name) => void addBitmap(image, { name: `${name} more` }),
  (image) => storeBitmaps(image),
  (image) => image.resize(2 * SIZE),
  (image) => image.reopen({ readOnly: false }),
  (image, name) => void exportIncremental(image, name, new MemoryStorage()).next(),
  (image, name) => confirmIncrement(image, name, runToEnd(exportIncremental(image, name, new MemoryStorage()))),
];

/** One that is freed by one of them would be lost to the other, as with any entry that lies. */
function hasClusterNamedTwice(file: Uint8Array<ArrayBuffer>): boolean {
  let findings = 0;
  attempt(() => {
    const { remaining } = runToEnd(checkImage(new MemoryStorage(file.slice())));
    findings = remaining.filter(({ kind }) => kind !== 'leak' && kind !== 'bitmaps').length;
  });
  return findings > 0;
}

function use(file: Uint8Array<ArrayBuffer>, disk: Uint8Array, random: SeededRandom): void {
  const namedTwice = hasClusterNamedTwice(file);
  const storage = new MemoryStorage(file);
  let image: Qcow2Image;
  try {
    image = openImage(storage);
  } catch (error) {
    if (error instanceof Qcow2Error) return;
    throw error;
  }
  let names: string[] = ['one'];
  attempt(() => {
    names = listBitmaps(image).map(({ name }) => name);
  });
  for (let count = 4; count > 0 && names.length > 0; count--) {
    attempt(() => random.pick(ASKED)(image, random.pick(names)));
    attempt(() => image.write(200_000, disk.subarray(200_000, 210_000)));
  }
  for (const name of names) attempt(() => removeBitmap(image, name));
  attempt(() => image.close());
  const after = readWhole(openImage(storage, { readOnly: true })).subarray(0, SIZE);
  if (!namedTwice) expectSameBytes(after, disk, 'the disk');
}

describe('bitmaps that would take more memory together than is held', () => {
  const TERABYTE = 2 ** 40;
  const names = (image: Qcow2Image, state: string) =>
    listBitmaps(image).flatMap((bitmap) => (bitmap.state === state ? [bitmap.name] : []));

  /** Four that take all of it. */
  function fullImage(): MemoryStorage {
    const storage = new MemoryStorage();
    createImage(storage, { size: TERABYTE });
    const image = openImage(storage);
    for (const name of ['a', 'b', 'c', 'd']) addBitmap(image, { name, granularity: 512 });
    image.close();
    return storage;
  }

  it('are not made, by one more or by a larger disk', () => {
    const image = openImage(fullImage());
    expect(newBitmapProblem(image, { name: 'e', granularity: 65536 })).toBe('too large together');
    expect(() => addBitmap(image, { name: 'e', granularity: 512 })).toThrow(/LIMIT|the limit is 1073741824/);
    expect(() => image.resize(TERABYTE + 65536)).toThrow(/all bitmaps would have .* the limit is 1073741824/);
    image.close();
  });

  it('become inconsistent beyond that, and the guest writes on', () => {
    const file = new Qcow2Bytes(fullImage().toBytes());
    const extension = extensionAt(file)!;
    const [length, directory] = [file.u64(extension + 8), file.u64(extension + 16)];
    const entry = Uint8Array.from(file.bytes.subarray(directory + (length / 4) * 3, directory + length));
    ['e', 'f'].forEach((name, index) => {
      entry[24] = name.charCodeAt(0);
      file.bytes.set(entry, directory + length + index * entry.length);
    });
    const view = new DataView(file.bytes.buffer, file.bytes.byteOffset);
    view.setUint32(extension, 6);
    view.setBigUint64(extension + 8, BigInt(length + 2 * entry.length));
    const storage = new MemoryStorage(new Uint8Array(file.bytes));
    const image = openImage(storage);
    image.write(TERABYTE - 512, new Uint8Array(512).fill(1));
    expect(names(image, 'consistent')).toEqual(['a', 'b', 'c', 'd']);
    expect(names(image, 'inconsistent')).toEqual(['e', 'f']);
    expect([...dirtyRanges(image, 'd')]).toEqual([{ offset: TERABYTE - 512, length: 512 }]);
    for (const name of ['e', 'f']) removeBitmap(image, name);
    image.close();
    expect(names(openImage(storage), 'consistent')).toEqual(['a', 'b', 'c', 'd']);
  });
});

describe('bitmaps with damage of any kind', () => {
  it.each([512, 4096])('in an image with clusters of %d bytes', (clusterSize) =>
    withSeed(`clusters of ${clusterSize}`, seedOfThisRun(840 + clusterSize), (random) => {
      const good = goodImage(clusterSize);
      const disk = readWhole(openImage(new MemoryStorage(new Uint8Array(good.bytes)), { readOnly: true }));
      for (let run = 0; run < RUNS; run++) {
        const image = new Qcow2Bytes(good.bytes);
        damage(image, random);
        use(new Uint8Array(image.bytes), disk, random);
      }
    }),
  );
});
