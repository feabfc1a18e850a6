/** Exports in increments: a base and its increments, one over the other, read as the disk; whatever happens to one of them. */
import { describe, expect, it } from 'vitest';
import {
  addBitmap,
  clearBitmap,
  confirmIncrement,
  copyDisk,
  createImage,
  createSnapshot,
  dirtyBytes,
  disableBitmap,
  exportIncremental,
  gotoSnapshot,
  listSnapshots,
  MemoryStorage,
  newEncryption,
  NotResident,
  openChain,
  openImage,
  Qcow2Error,
  resizeImage,
  runToEnd,
  storeBitmaps,
  type CreateOptions,
  type IncrementToken,
  type Qcow2Image,
} from '../../../src/index.js';
import { randomRange, readWhole } from '../../support/disk-actions.js';
import { expectSameBytes } from '../../support/model-disk.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../../support/seeded-random.js';
import { FailingStorage } from '../../storage/failing.js';

const SIZE = 1_200_128;

function newImage(
  options: Partial<CreateOptions> = {},
  backing: Qcow2Image | null = null,
): { storage: MemoryStorage; image: Qcow2Image } {
  const storage = new MemoryStorage();
  createImage(storage, { size: SIZE, clusterSize: 4096, ...options });
  return { storage, image: openImage(storage, { backing }) };
}

/** What a site keeps: a base, and increments by their names, each over the one before. */
class Backup {
  readonly #files = new Map<string, Uint8Array<ArrayBuffer>>();
  #last: string;

  constructor(base: Qcow2Image) {
    const storage = new MemoryStorage();
    createImage(storage, { size: base.size, clusterSize: 65536 });
    const copy = openImage(storage);
    runToEnd(copyDisk(base, copy));
    copy.close();
    this.#last = 'base';
    this.#files.set(this.#last, storage.toBytes());
  }

  export(image: Qcow2Image, name = 'backup'): { token: IncrementToken; size: number } {
    const storage = new MemoryStorage();
    const backing = { name: this.#last, format: 'qcow2' } as const;
    const token = runToEnd(exportIncremental(image, name, storage, { backing }));
    this.#last = `increment ${this.#files.size}`;
    this.#files.set(this.#last, storage.toBytes());
    return { token, size: storage.size };
  }

  async content(): Promise<Uint8Array> {
    const storage = (name: string) => new MemoryStorage(this.#files.get(name)!.slice());
    const chain = await openChain(storage(this.#last), { readOnly: true, opener: ({ name }) => storage(name) });
    return readWhole(chain);
  }
}

/** Whatever changes a disk. */
function change(image: Qcow2Image, random: SeededRandom): Qcow2Image {
  const { offset, length } = randomRange(random, image.size, image.clusterSize, 150_000);
  const name = `snapshot ${random.below(3)}`;
  const snapshots = listSnapshots(image);
  switch (random.below(12)) {
    case 0:
      image.writeZeroes(offset, length, { unmap: random.oneIn(2) });
      break;
    case 1:
      image.discard(offset, length);
      break;
    case 2: {
      const start = Math.floor(offset / image.clusterSize) * image.clusterSize;
      image.writeCompressed(start, new Uint8Array(Math.min(image.clusterSize, image.size - start)).fill(9));
      break;
    }
    case 3:
      runToEnd(resizeImage(image, { size: 512 * random.between(1, 3000), shrink: true }));
      break;
    case 4:
      if (snapshots.length < 3) createSnapshot(image, { name });
      break;
    case 5:
      if (snapshots.length > 0) gotoSnapshot(image, random.pick(snapshots).name);
      break;
    case 6:
      image.reopen({ readOnly: true });
      image.reopen({ readOnly: false });
      break;
    case 7:
      storeBitmaps(image);
      break;
    default:
      image.write(offset, random.bytes(length));
  }
  return image;
}

describe('a base and its increments read as the disk', () => {
  const cases: [string, Partial<CreateOptions>, number][] = [
    ['bits smaller than clusters', { clusterSize: 16384 }, 512],
    ['bits larger than clusters', { clusterSize: 512 }, 65536],
    ['bits as large as clusters', { clusterSize: 4096 }, 4096],
    ['subclusters', { clusterSize: 65536, extendedL2: true }, 2048],
  ];
  it.each(cases)('over random histories: %s', (what, options, granularity) =>
    withSeed(what, seedOfThisRun(granularity), async (random) => {
      const { image } = newImage(options);
      for (let index = 0; index < 5; index++) change(image, random);
      addBitmap(image, { name: 'backup', granularity });
      const backup = new Backup(image);
      for (let increment = 0; increment < 12; increment++) {
        for (let count = random.below(6); count > 0; count--) change(image, random);
        const { token } = backup.export(image);
        expectSameBytes(await backup.content(), readWhole(image), `after increment ${increment}`);
        if (!random.oneIn(3)) confirmIncrement(image, 'backup', token);
      }
      image.close();
    }),
  );
});

describe('an increment', () => {
  it('holds what has changed, and nothing else', () => {
    const { image } = newImage();
    image.write(0, new Uint8Array(SIZE).fill(3));
    addBitmap(image, { name: 'backup' });
    const backup = new Backup(image);
    const empty = backup.export(image);
    confirmIncrement(image, 'backup', empty.token);
    image.write(100_000, Uint8Array.of(1));
    image.writeZeroes(500_000, 100_000);
    const second = backup.export(image);
    expect(second.size).toBeLessThanOrEqual(empty.size + 6 * 4096);
    expect(dirtyBytes(image, 'backup')).toBeGreaterThan(0);
    confirmIncrement(image, 'backup', second.token);
    expect(dirtyBytes(image, 'backup')).toBe(0);
  });

  it('that has not arrived is part of the next, also after the image was closed', async () => {
    const { image, storage } = newImage();
    addBitmap(image, { name: 'backup' });
    const backup = new Backup(image);
    image.write(100_000, Uint8Array.of(1));
    const token = runToEnd(exportIncremental(image, 'backup', new MemoryStorage()));
    image.write(300_000, Uint8Array.of(2));
    expect(dirtyBytes(image, 'backup')).toBe(8192);
    image.close();
    const again = openImage(storage);
    expect(() => confirmIncrement(again, 'backup', token)).toThrow(/no increment of "backup" has been exported/);
    backup.export(again);
    expectSameBytes(await backup.content(), readWhole(again), 'the disk');
  });

  it('that was given up, or failed, leaves everything marked', () => {
    const { image } = newImage();
    addBitmap(image, { name: 'backup' });
    image.write(0, new Uint8Array(SIZE).fill(1));
    const givenUp = exportIncremental(image, 'backup', new MemoryStorage());
    givenUp.next();
    image.write(0, Uint8Array.of(2));
    givenUp.return?.();
    expect(dirtyBytes(image, 'backup')).toBe(SIZE);
    expect(() => confirmIncrement(image, 'backup', runToEnd(givenUp))).toThrow(/no increment/);
    const full = new FailingStorage();
    full.failOn('write', new Qcow2Error('NO_SPACE', 'full'), 5);
    const failing = exportIncremental(image, 'backup', full);
    expect(() => runToEnd(failing)).toThrow('full');
    full.heal();
    expect(() => runToEnd(failing)).toThrow('full');
    const { value: token } = failing.return!();
    expect(() => confirmIncrement(image, 'backup', token as IncrementToken)).toThrow(/no increment/);
    expect(dirtyBytes(image, 'backup')).toBe(SIZE);
    confirmIncrement(image, 'backup', runToEnd(exportIncremental(image, 'backup', new MemoryStorage())));
    expect(dirtyBytes(image, 'backup')).toBe(0);
  });

  it('of a disk that is changed meanwhile leaves what was changed to the next', async () => {
    const { image } = newImage({ clusterSize: 512 });
    image.write(0, new Uint8Array(SIZE).fill(1));
    addBitmap(image, { name: 'backup' });
    const backup = new Backup(image);
    image.write(0, new Uint8Array(SIZE).fill(2));
    const steps = exportIncremental(image, 'backup', new MemoryStorage());
    steps.next();
    image.write(SIZE - 600, Uint8Array.of(7));
    storeBitmaps(image);
    image.write(600, Uint8Array.of(7));
    confirmIncrement(image, 'backup', runToEnd(steps));
    expect(dirtyBytes(image, 'backup')).toBe(2 * 4096);
    expect(backup.export(image).size).toBeLessThan(40_000);
    const resized = exportIncremental(image, 'backup', new MemoryStorage());
    image.resize(2 * SIZE);
    expect(() => runToEnd(resized)).toThrow(/resized/);
  });

  it('goes on after a step that had to wait for bytes of a base', () => {
    const base = new FailingStorage(newImage().storage.toBytes());
    const whole = openImage(base);
    whole.write(0, new Uint8Array(SIZE).fill(5));
    whole.flush();
    const { image } = newImage({ backing: { name: 'base', format: 'qcow2' } }, openImage(base, { readOnly: true }));
    // What is marked reaches past the cluster that is written, so that the base is read.
    addBitmap(image, { name: 'backup', granularity: 65536 });
    image.write(100, Uint8Array.of(1));
    const target = new MemoryStorage();
    const steps = exportIncremental(image, 'backup', target);
    base.failOn('read', new NotResident('not here', async () => {}));
    expect(() => steps.next()).toThrow(NotResident);
    base.heal();
    confirmIncrement(image, 'backup', runToEnd(steps));
    expect(dirtyBytes(image, 'backup')).toBe(0);
    const copied = readWhole(openImage(target, { readOnly: true })).subarray(0, 65536);
    expectSameBytes(copied, readWhole(image).subarray(0, 65536), 'the increment');
  });

  it('that a clear has overtaken is not waited for any more', () => {
    const { image } = newImage();
    addBitmap(image, { name: 'backup' });
    image.write(0, new Uint8Array(100));
    const token = runToEnd(exportIncremental(image, 'backup', new MemoryStorage()));
    clearBitmap(image, 'backup');
    image.write(50_000, new Uint8Array(100));
    expect(() => confirmIncrement(image, 'backup', token)).toThrow(/or cleared/);
    expect(dirtyBytes(image, 'backup')).toBe(4096);
  });

  it('of a disabled bitmap is what was marked while it was enabled', () => {
    const { image } = newImage();
    addBitmap(image, { name: 'backup' });
    image.write(0, new Uint8Array(100).fill(1));
    disableBitmap(image, 'backup');
    image.write(500_000, new Uint8Array(100).fill(1));
    const target = new MemoryStorage();
    runToEnd(exportIncremental(image, 'backup', target));
    const increment = openImage(target, { readOnly: true });
    const data = [...increment.extents(0, SIZE)].filter(({ kind }) => kind === 'data');
    expect(data.map(({ offset, length }) => [offset, length])).toEqual([[0, 4096]]);
  });

  it('of an encrypted disk is encrypted, by the same key, or by one of its own', async () => {
    const passphrase = 'correct horse';
    const encryption = await newEncryption({ format: 'luks', passphrase, iterTime: 0 });
    const { image } = await encryptedImage(encryption);
    image.write(0, new Uint8Array(100).fill(1));
    const target = new MemoryStorage();
    runToEnd(exportIncremental(image, 'backup', target));
    const own = new MemoryStorage();
    const other = await newEncryption({ format: 'luks', passphrase: 'other', iterTime: 0 });
    runToEnd(exportIncremental(image, 'backup', own, { encryption: other }));
    for (const [file, word] of [
      [target, passphrase],
      [own, 'other'],
    ] as const) {
      // prettier-ignore
      const increment = await openChain(file, { passphrase: word, readOnly: true });
      expectSameBytes(readWhole(increment), readWhole(image), 'the increment');
    }
  });

  async function encryptedImage(encryption: Awaited<ReturnType<typeof newEncryption>>) {
    const storage = new MemoryStorage();
    createImage(storage, { size: SIZE, clusterSize: 4096, encryption });
    const image = await openChain(storage, { encryption: encryption.opened });
    addBitmap(image, { name: 'backup' });
    return { image };
  }
});
