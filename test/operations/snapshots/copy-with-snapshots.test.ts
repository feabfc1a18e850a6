/**
 * Copying an image with its snapshots. Proven here:
 * - whatever the history, every disk, every VM state and every record in the copy is that of the source, and a check finds
 *   nothing at all;
 * - the copy stands alone, and shares what the source shares, also along a history that is a tree;
 * - what is remote is waited for.
 */
import { describe, expect, it } from 'vitest';
import {
  checkImage,
  createImage,
  createSnapshot,
  gotoSnapshot,
  listSnapshots,
  MemoryStorage,
  openImage,
  openSnapshot,
  readVmState,
  RawDisk,
  resizeImage,
  runJob,
  runToEnd,
  snapshotUsage,
  writeVmState,
  type CreateOptions,
  type Qcow2Image,
} from '../../../src/index.js';
import { copyWithSnapshots, layoutForCopy } from '../../../src/operations/snapshots/copy-with-snapshots.js';
import { RemoteStorage } from '../../storage/remote.js';
import { readWhole } from '../../support/disk-actions.js';
import { expectSameBytes } from '../../support/model-disk.js';
import { SeededRandom, seedOfThisRun, withSeed } from '../../support/seeded-random.js';
import { SnapshotHistory } from '../../support/snapshot-history.js';

const KIB = 1024;
const MIB = 1024 * KIB;

function newImage(options: CreateOptions, backing?: Uint8Array): Qcow2Image {
  const storage = new MemoryStorage();
  const base = backing && new RawDisk(new MemoryStorage(backing));
  createImage(storage, base ? { ...options, backing: { name: 'base', format: 'raw' } } : options);
  return openImage(storage, base ? { backing: base } : {});
}

interface Copy {
  readonly file: MemoryStorage;
  readonly image: Qcow2Image;
}

/** The copy, opened again from its file. */
function copied(source: Qcow2Image): Copy {
  const file = new MemoryStorage();
  createImage(file, layoutForCopy(source));
  const target = openImage(file);
  const seen: number[] = [];
  for (const { done, total } of copyWithSnapshots(source, target)) {
    expect(done).toBeGreaterThanOrEqual(seen.at(-1) ?? 0);
    expect(done).toBeLessThanOrEqual(total);
    seen.push(done);
  }
  target.close();
  expectClean(file);
  const again = new MemoryStorage(file.toBytes());
  return { file: again, image: openImage(again) };
}

function expectClean(file: MemoryStorage): void {
  expect(runToEnd(checkImage(new MemoryStorage(file.toBytes())))).toMatchObject({ corruptions: 0, leaks: 0 });
}

function expectSameRecords(copy: Qcow2Image, source: Qcow2Image): void {
  expect(listSnapshots(copy)).toEqual(listSnapshots(source));
}

/** Bytes without a pattern, and without runs. */
function noise(length: number, seed: number): Uint8Array<ArrayBuffer> {
  const random = new SeededRandom(seed);
  return new Uint8Array(length).map(() => random.next());
}

function filled(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

const SHAPES: readonly (CreateOptions & { readonly clusterSize: number; readonly version: 2 | 3 })[] = [
  { clusterSize: 512, version: 3, refcountBits: 64, size: 0x4_0000 },
  { clusterSize: 4096, version: 2, refcountBits: 16, size: 0x10_0000 },
  { clusterSize: 4096, version: 3, refcountBits: 8, size: 0x10_0000 },
  { clusterSize: 16384, version: 3, extendedL2: true, compressionType: 'zstd', size: 0x20_0000 + 512 },
  { clusterSize: 65536, version: 3, compressionType: 'zlib', size: 0x40_0000 + 512 },
];

describe('a copy of an image with snapshots', () => {
  it.each(SHAPES)('has all of them, whatever their history was ($version, $clusterSize)', (options) => {
    const { size, clusterSize, version } = options;
    const title = `copies ${clusterSize} ${version}`;
    return withSeed(title, seedOfThisRun(clusterSize + version), (random) => {
      const source = newImage(options);
      const resizes = version === 3;
      const history = new SnapshotHistory({ size, clusterSize, version }, random, { resizes, compresses: true });
      for (let turn = 0; turn < 25; turn++) {
        history.guest(source, 6);
        history.step(source);
      }
      source.flush();
      const { image } = copied(source);
      history.expect(image);
      expectSameRecords(image, source);
      history.expect(source);
    });
  });

  it('has the bytes of the backing file in every one of them, and needs it no more', () => {
    const base = noise(MIB, 7);
    const source = newImage({ size: 2 * MIB, clusterSize: 4096 }, base);
    createSnapshot(source, { name: 'before' });
    source.write(100 * KIB, filled(300 * KIB, 5));
    createSnapshot(source, { name: 'after' });
    source.writeZeroes(0, 64 * KIB, { unmap: true });
    const { image, file } = copied(source);
    expect(image.header.backingFile).toBeNull();
    for (const id of ['1', '2']) {
      const wanted = readWhole(openSnapshot(source, { id }));
      expectSameBytes(readWhole(openSnapshot(image, { id })), wanted, `snapshot ${id}`);
    }
    expectSameBytes(readWhole(image), readWhole(source), 'the active disk');
    // The base once, what was written once, and tables.
    expect(file.size).toBeLessThan(MIB + 300 * KIB + 150 * KIB);
  });

  it('has the record of a snapshot whole', () => {
    const source = newImage({ size: MIB });
    writeVmState(source, 0, filled(100, 1));
    createSnapshot(source, {
      id: 'an id',
      name: 'a näme',
      date: 1_700_000_000_123.456,
      vmClock: 2n ** 63n + 1n,
      instructionCount: 77n,
      vmStateBytes: 100,
    });
    createSnapshot(source, { name: 'a näme' });
    expectSameRecords(copied(source).image, source);
  });
});

describe('the room a copy takes', () => {
  it('is that of what differs, along a history that is a tree', () => {
    const source = newImage({ size: 16 * MIB, clusterSize: 4096 });
    source.write(0, noise(8 * MIB, 1));
    createSnapshot(source, { name: 'A' });
    source.write(0, noise(4 * MIB, 2));
    createSnapshot(source, { name: 'B' });
    gotoSnapshot(source, { name: 'A' });
    source.write(6 * MIB, noise(MIB, 3));
    createSnapshot(source, { name: 'C' });
    gotoSnapshot(source, { name: 'B' });
    source.write(15 * MIB, filled(MIB, 1));
    source.flush();
    const { image, file } = copied(source);
    expect(file.size).toBeLessThan((8 + 4 + 1 + 1 + 0.5) * MIB);
    for (const [index, { ownBytes }] of snapshotUsage(image).entries()) {
      expect(ownBytes).toBeLessThanOrEqual(snapshotUsage(source)[index]!.ownBytes + 64 * KIB);
    }
    for (const name of ['A', 'B', 'C']) {
      const wanted = readWhole(openSnapshot(source, { name }));
      expectSameBytes(readWhole(openSnapshot(image, { name })), wanted, name);
    }
  });

  it('is small for a VM state that has changed little, and no larger for one that is compressed', () => {
    const source = newImage({ size: MIB });
    const state = noise(4 * MIB, 4);
    writeVmState(source, 0, state);
    createSnapshot(source, { name: 'first', vmStateBytes: state.length });
    state.fill(9, MIB, MIB + 1000);
    writeVmState(source, 0, state, { like: 'first' });
    createSnapshot(source, { name: 'second', vmStateBytes: state.length });
    const text = new TextEncoder().encode('all work and no play '.repeat(200_000)).subarray(0, 4 * MIB - 1);
    writeVmState(source, 0, text, { compress: true });
    createSnapshot(source, { name: 'compressed', vmStateBytes: text.length });
    source.flush();
    const { image, file } = copied(source);
    expect(file.size).toBeLessThan(source.storage.size + 256 * KIB);
    for (const [name, wanted] of [['second', state] as const, ['compressed', text] as const]) {
      const read = new Uint8Array(wanted.length);
      openSnapshot(image, { name }).readVmState(0, read);
      expectSameBytes(read, wanted, name);
    }
  });

  it('is that of what differs for VM states, too, whose history is another tree than that of the disk', () => {
    const source = newImage({ size: MIB });
    const save = (name: string, state: Uint8Array, like: string | null): void => {
      writeVmState(source, 0, state, { like });
      createSnapshot(source, { name, vmStateBytes: state.length });
    };
    const first = noise(4 * MIB, 1);
    save('A', first, null);
    save('B', noise(4 * MIB, 2), 'A');
    first.set(noise(65_536, 3));
    save('C', first, 'A');
    source.flush();
    const { file, image } = copied(source);
    expect(file.size).toBeLessThan((4 + 4) * MIB + 20 * 65_536);
    const state = new Uint8Array(first.length);
    openSnapshot(image, 'C').readVmState(0, state);
    expectSameBytes(state, first, 'the VM state of C');
  });

  it('counts a cluster that is compressed once, and takes one that was written anew for another', () => {
    const source = newImage({ size: MIB });
    const text = (word: string): Uint8Array =>
      new TextEncoder().encode(word.repeat(MIB / word.length)).subarray(0, 65_536);
    source.writeCompressed(0, text('one '));
    for (let at = 65_536; at < MIB; at += 65_536) source.writeCompressed(at, text('kept '));
    createSnapshot(source, { name: 'one' });
    source.writeCompressed(0, text('two '));
    const { image, file } = copied(source);
    expectSameBytes(readWhole(image), readWhole(source), 'the disk');
    expectSameBytes(readWhole(openSnapshot(image, 'one')), readWhole(openSnapshot(source, 'one')), 'the snapshot');
    expect(file.size).toBeLessThan(MIB + 65_536 + 12 * 65_536);
  });

  it('is none for a VM state that belongs to a snapshot alone', () => {
    const source = newImage({ size: MIB });
    writeVmState(source, 0, noise(4 * MIB, 6));
    createSnapshot(source, { name: 'one', vmStateBytes: 4 * MIB });
    source.write(0, filled(MIB, 1));
    createSnapshot(source, { name: 'two' });
    gotoSnapshot(source, 'one');
    const { image } = copied(source);
    expect(image.size).toBe(MIB);
    const state = new Uint8Array(4 * MIB);
    readVmState(image, 0, state);
    expectSameBytes(state, filled(4 * MIB, 0), 'the VM state of the active disk');
    expect(snapshotUsage(image)[0]!.ownBytes).toBeGreaterThanOrEqual(4 * MIB);
  });

  it('is none for zeroes that took the place of data', () => {
    const source = newImage({ size: 4 * MIB });
    source.write(0, filled(4 * MIB, 1));
    createSnapshot(source, { name: 'full' });
    source.write(0, filled(4 * MIB, 0));
    const { image, file } = copied(source);
    expect(file.size).toBeLessThan(4.8 * MIB);
    expectSameBytes(readWhole(image), filled(4 * MIB, 0), 'the disk');
  });
});

describe('disks of several sizes', () => {
  it('are copied at their own sizes, also over each other', () => {
    const source = newImage({ size: 2 * MIB, clusterSize: 4096 });
    source.write(0, filled(2 * MIB, 1));
    createSnapshot(source, { name: 'two' });
    runToEnd(resizeImage(source, { size: MIB + 512, shrink: true }));
    source.write(0, filled(4096, 2));
    createSnapshot(source, { name: 'one' });
    source.resize(3 * MIB);
    source.write(3 * MIB - 100, filled(100, 3));
    createSnapshot(source, { name: 'three' });
    gotoSnapshot(source, { name: 'two' });
    const { image } = copied(source);
    expect(image.size).toBe(2 * MIB);
    expectSameRecords(image, source);
    for (const name of ['two', 'one', 'three']) {
      const wanted = readWhole(openSnapshot(source, { name }));
      expectSameBytes(readWhole(openSnapshot(image, { name })), wanted, name);
    }
  });
});

describe('a copy of version 2', () => {
  it('is version 3 where a snapshot has another size than the disk: only that can be resized', () => {
    const storage = new MemoryStorage();
    createImage(storage, { size: 2 * MIB, clusterSize: 4096, version: 2 });
    const first = openImage(storage);
    first.write(0, filled(2 * MIB, 1));
    createSnapshot(first, { name: 'one' });
    const same = copied(first);
    expect(same.image.header.version).toBe(2);
    const at = first.header.snapshotsOffset;
    first.close();
    // The disk size in the extra data of the entry, which version 2 may have as well.
    const size = new Uint8Array(8);
    new DataView(size.buffer).setUint32(4, MIB);
    storage.write(at + 48, size);
    const source = openImage(storage);
    const { image } = copied(source);
    expect(image.header.version).toBe(3);
    expect(openSnapshot(image, 'one').size).toBe(MIB);
    expectSameBytes(readWhole(image), filled(2 * MIB, 1), 'the disk');
  });
});

describe('the refcounts of a copy', () => {
  it('are wide enough for clusters that only the backing file had', () => {
    const source = newImage({ size: MIB, clusterSize: 4096, refcountBits: 2 }, filled(MIB, 3));
    for (let count = 1; count <= 20; count++) createSnapshot(source, { name: `number ${count}` });
    const { image } = copied(source);
    expect(image.refcountBits).toBe(8);
    expectSameBytes(readWhole(openSnapshot(image, { name: 'number 20' })), filled(MIB, 3), 'the last one');
  });
});

describe('the job', () => {
  it('waits for what is remote', async () => {
    const base = noise(MIB, 5);
    const remote = new RemoteStorage(base, { chunkBytes: 64 * KIB });
    const storage = new MemoryStorage();
    createImage(storage, { size: MIB, clusterSize: 4096, backing: { name: 'base', format: 'raw' } });
    const source = openImage(storage, { backing: new RawDisk(remote) });
    source.writeZeroes(0, 8192);
    createSnapshot(source, { name: 'one' });
    source.writeZeroes(MIB / 2, 8192);
    const file = new MemoryStorage();
    createImage(file, layoutForCopy(source));
    const target = openImage(file);
    await runJob(copyWithSnapshots(source, target));
    expect(remote.faults).toBeGreaterThan(0);
    base.fill(0, 0, 8192);
    expectSameBytes(readWhole(openSnapshot(target, { name: 'one' })), base, 'the snapshot');
    base.fill(0, MIB / 2, MIB / 2 + 8192);
    expectSameBytes(readWhole(target), base, 'the disk');
  });

  it('can be given up, and leaves the source as it was', () => {
    const source = newImage({ size: 8 * MIB });
    source.write(0, filled(8 * MIB, 1));
    createSnapshot(source, { name: 'one' });
    source.flush();
    const before = source.storage.size;
    const target = newImage(layoutForCopy(source));
    for (const { done } of copyWithSnapshots(source, target)) if (done > 4 * MIB) break;
    expect(source.storage.size).toBe(before);
    expectSameBytes(readWhole(source), filled(8 * MIB, 1), 'the source');
    target.close();
  });

  it('refuses a target that is not new', () => {
    const source = newImage({ size: MIB });
    const target = newImage({ size: MIB });
    createSnapshot(target, { name: 'its own' });
    expect(() => copyWithSnapshots(source, target)).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
    const overlay = newImage({ size: MIB }, filled(MIB, 1));
    expect(() => copyWithSnapshots(source, overlay)).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
  });
});
