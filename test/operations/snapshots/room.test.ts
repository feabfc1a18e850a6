/**
 * What snapshots cost: each cluster is counted once for each use, so what a snapshot is said to have for itself is what
 * deleting it frees, and without snapshots an image is as one that never had any.
 */
import { describe, expect, it } from 'vitest';
import {
  checkImage,
  createImage,
  createSnapshot,
  deleteSnapshot,
  discardVmState,
  gotoSnapshot,
  listSnapshots,
  MemoryStorage,
  openImage,
  openSnapshot,
  readVmState,
  runToEnd,
  snapshotUsage,
  writeVmState,
  type CreateOptions,
  type Qcow2Image,
} from '../../../src/index.js';
import { readWhole } from '../../support/disk-actions.js';
import { expectSameBytes } from '../../support/model-disk.js';
import { Qcow2Bytes } from '../../support/qcow2-bytes.js';
import { seedOfThisRun, withSeed } from '../../support/seeded-random.js';
import { SnapshotHistory } from '../../support/snapshot-history.js';

const SIZE = 0x10_0000;

function fresh(options: Partial<CreateOptions> = {}): { storage: MemoryStorage; image: Qcow2Image } {
  const storage = new MemoryStorage();
  createImage(storage, { size: SIZE, clusterSize: 4096, ...options });
  return { storage, image: openImage(storage) };
}

/** Clusters that are counted at all, and those among them that count others: blocks, and the table of blocks. */
function countClusters(storage: MemoryStorage): { readonly all: number; readonly counting: number } {
  const file = new Qcow2Bytes(storage.toBytes());
  const perBlock = (file.clusterSize * 8) / file.refcountBits;
  const tableClusters = file.u32(56);
  let all = 0;
  let counting = tableClusters;
  for (let index = 0; index < (tableClusters * file.clusterSize) / 8; index++) {
    const block = file.refcountBlock(index);
    if (block === 0) continue;
    counting++;
    const bytes = (perBlock * file.refcountBits) / 8;
    const counts = file.bytes.subarray(block, block + bytes);
    const width = file.refcountBits / 8;
    for (let at = 0; at < counts.length; at += width)
      if (counts.subarray(at, at + width).some((byte) => byte > 0)) all++;
  }
  return { all, counting };
}

function removeAll(image: Qcow2Image): void {
  for (const { id } of listSnapshots(image)) runToEnd(deleteSnapshot(image, { id }));
}

const LAYOUTS: Readonly<Record<string, Partial<CreateOptions>>> = {
  'clusters of 512 bytes': { clusterSize: 512 },
  'clusters of 4 KiB, 64 bits': { refcountBits: 64 },
  'extended L2 entries': { clusterSize: 16_384, extendedL2: true },
  'version 2': { version: 2 },
};

describe('when all snapshots are deleted', () => {
  for (const [layout, options] of Object.entries(LAYOUTS)) {
    it(`the image has what it would have without them, and is written in place again (${layout})`, () => {
      const { storage, image } = fresh(options);
      const plain = fresh(options);
      for (let round = 0; round < 5; round++) {
        for (const disk of [image, plain.image]) {
          disk.write(round * 50_000, new Uint8Array(120_000).fill(round + 1));
        }
        writeVmState(image, 0, new Uint8Array(30_000).fill(round + 1), { like: round > 0 ? String(round) : null });
        createSnapshot(image, { name: `round ${round}`, vmStateBytes: 30_000 });
      }
      image.write(0, new Uint8Array(300_000).fill(9));
      plain.image.write(0, new Uint8Array(300_000).fill(9));
      removeAll(image);
      for (const disk of [image, plain.image]) disk.flush();
      const have = countClusters(storage);
      const need = countClusters(plain.storage);
      // The file has been longer, so it may take more to count its clusters; and one for the L1 table that grew.
      const extra = image.tables.l1.entries > plain.image.tables.l1.entries ? 1 : 0;
      expect(have.all - have.counting).toBeLessThanOrEqual(need.all - need.counting + extra);
      expect(image.header.snapshotsOffset).toBe(0);

      const before = storage.size;
      for (let round = 0; round < 3; round++) {
        image.write(0, new Uint8Array(320_000).fill(20 + round));
        image.flush();
      }
      expect(countClusters(storage)).toEqual(have);
      expect(storage.size, 'bytes of the file').toBe(before);
      image.close();
      expect(runToEnd(checkImage(storage)).findings).toEqual([]);
    });
  }
});

describe('the room of a snapshot', () => {
  for (const [layout, options] of Object.entries(LAYOUTS)) {
    it(`is what deleting it frees, over random histories (${layout})`, async () => {
      await withSeed(layout, seedOfThisRun(layout.length + 800), (random) => {
        const { storage, image } = fresh(options);
        const { version = 3, clusterSize = 4096 } = options;
        const history = new SnapshotHistory({ size: SIZE, clusterSize, version }, random, { compresses: true });
        for (let round = 0; round < 6; round++) {
          history.guest(image, 4);
          history.create(image);
          if (random.oneIn(3)) history.goto(image, random.pick(history.snapshots));
        }
        while (history.snapshots.length > 0) {
          const snapshot = random.pick(history.snapshots);
          image.flush();
          const usage = snapshotUsage(image).find(({ id }) => id === snapshot.id)!;
          const readOnly = snapshotUsage(openImage(new MemoryStorage(storage.toBytes()), { readOnly: true }));
          expect(readOnly).toEqual(snapshotUsage(image));
          const before = countClusters(storage);
          const listBytes = listClusters(image);
          runToEnd(deleteSnapshot(image, { id: snapshot.id }));
          image.flush();
          history.deleted(snapshot);
          const after = countClusters(storage);
          const freed = before.all - before.counting - (after.all - after.counting) - (listBytes - listClusters(image));
          expect(freed * image.clusterSize, `bytes that snapshot ${snapshot.id} had`).toBe(usage.ownBytes);
        }
      });
    });
  }

  function listClusters(image: Qcow2Image): number {
    const { snapshotTable } = image.changeableTables().writable.inactive;
    return Math.ceil((snapshotTable?.length ?? 0) / image.clusterSize);
  }
});

describe('VM state', () => {
  const state = Uint8Array.from({ length: 400_000 }, (_, index) => 1 + ((index * index) >> 12));

  for (const compress of [false, true]) {
    it(`that has not changed takes no room but for tables (compressed: ${compress})`, () => {
      const { storage, image } = fresh();
      image.write(0, new Uint8Array(100_000).fill(1));
      const first = writeVmState(image, 0, state, { compress });
      expect(first).toEqual({ stored: state.length, shared: 0, zero: 0 });
      createSnapshot(image, { name: 'first', vmStateBytes: state.length });
      const before = countClusters(storage);
      // In pieces, as it comes from an emulator.
      const sums = { stored: 0, shared: 0, zero: 0 };
      for (let at = 0; at < state.length; at += 65_536) {
        const piece = state.subarray(at, at + 65_536);
        const written = writeVmState(image, at, piece, { like: 'first', compress });
        sums.stored += written.stored;
        sums.shared += written.shared;
      }
      expect(sums).toEqual({ stored: 0, shared: state.length, zero: 0 });
      createSnapshot(image, { name: 'second', vmStateBytes: state.length });
      const after = countClusters(storage);
      // An L1 table and an L2 table for the new snapshot.
      expect(after.all - before.all).toBe(2);
      const [one, two] = snapshotUsage(image);
      expect([one!.ownBytes, two!.ownBytes]).toEqual([2 * 4096, 2 * 4096]);
      for (const name of ['first', 'second']) {
        const read = new Uint8Array(state.length);
        openSnapshot(image, { name }).readVmState(0, read);
        expectSameBytes(read, state, name);
      }
      image.close();
      expect(runToEnd(checkImage(storage)).findings).toEqual([]);
    });
  }

  it('of zeroes takes no room, and reads as zeroes over what was there', () => {
    const { storage, image } = fresh();
    writeVmState(image, 0, state);
    const written = writeVmState(image, 0, new Uint8Array(state.length));
    expect(written).toEqual({ stored: 0, shared: 0, zero: state.length });
    const read = new Uint8Array(state.length).fill(1);
    readVmState(image, 0, read);
    expectSameBytes(read, new Uint8Array(state.length), 'the VM state');
    image.flush();
    const withTable = countClusters(storage).all;
    discardVmState(image);
    // The L2 table that maps nothing.
    expect(countClusters(storage).all).toBe(withTable - 1);
  });

  it('that is dropped is freed whole, and that of snapshots stays', () => {
    const { storage, image } = fresh();
    image.write(0, new Uint8Array(50_000).fill(1));
    writeVmState(image, 0, state);
    createSnapshot(image, { name: 'a', vmStateBytes: state.length });
    const before = countClusters(storage);
    writeVmState(image, 0, state, { like: 'a', compress: true });
    writeVmState(
      image,
      100_000,
      state.map((byte) => byte ^ 0xff),
    );
    image.flush();
    expect(countClusters(storage).all).toBeGreaterThan(before.all);
    discardVmState(image);
    expect(countClusters(storage)).toEqual(before);
    const read = new Uint8Array(state.length);
    openSnapshot(image, 'a').readVmState(0, read);
    expectSameBytes(read, state, 'the VM state of the snapshot');
    readVmState(image, 0, read);
    expectSameBytes(read, new Uint8Array(state.length), 'the VM state of the active disk');
    image.close();
    expect(runToEnd(checkImage(storage)).findings).toEqual([]);
  });

  it('that the active disk keeps after a goto is freed with the snapshot once it is dropped', () => {
    const { storage, image } = fresh();
    image.write(0, new Uint8Array(50_000).fill(1));
    createSnapshot(image, { name: 'without' });
    writeVmState(image, 0, state);
    createSnapshot(image, { name: 'with', vmStateBytes: state.length });
    gotoSnapshot(image, 'with');
    const kept = countClusters(storage);
    runToEnd(deleteSnapshot(image, 'with'));
    expect(countClusters(storage).all).toBeGreaterThan(kept.all - 10);
    discardVmState(image);
    expect(countClusters(storage).all).toBeLessThan(kept.all - state.length / 4096);
    image.close();
    expect(runToEnd(checkImage(storage)).findings).toEqual([]);
  });
});

describe('a file with snapshots that come and go', () => {
  const COMING: readonly (Partial<CreateOptions> & { readonly size: number })[] = [
    { size: 0x10_0000, clusterSize: 512 },
    { size: 0x10_0000, clusterSize: 4096, refcountBits: 8 },
    // The L1 table takes more clusters than one refcount block counts.
    { size: 0x1000_0000, clusterSize: 512, refcountBits: 64 },
    { size: 0x4000_0000, clusterSize: 512 },
  ];
  for (const options of COMING) {
    it(`does not grow without end (${JSON.stringify(options)})`, () => {
      const { storage, image } = fresh(options);
      image.write(0, new Uint8Array(100_000).fill(1));
      createSnapshot(image, { name: 'a' });
      image.write(50_000, new Uint8Array(100_000).fill(2));
      createSnapshot(image, { name: 'b' });
      const round = (name: string) => {
        gotoSnapshot(image, name);
        runToEnd(deleteSnapshot(image, { id: createSnapshot(image, { name: 'for a while' }).id }));
      };
      for (let index = 0; index < 6; index++) round(index % 2 ? 'a' : 'b');
      const settled = storage.size;
      for (let index = 0; index < 20; index++) round(index % 2 ? 'a' : 'b');
      expect(storage.size).toBeLessThanOrEqual(settled);
      expectSameBytes(
        readWhole(openSnapshot(image, 'b')).subarray(50_000, 150_000),
        new Uint8Array(100_000).fill(2),
        'b',
      );
      image.close();
      expect(runToEnd(checkImage(storage)).findings).toEqual([]);
    });
  }
});
