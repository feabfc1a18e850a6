/** Where the tables of a new snapshot come to lie, and which tables stay where they are. */
import { describe, expect, it } from 'vitest';
import {
  checkImage,
  createImage,
  createSnapshot,
  deleteSnapshot,
  gotoSnapshot,
  MemoryStorage,
  openImage,
  runToEnd,
  type CreateOptions,
  type Qcow2Image,
} from '../../../src/index.js';
import { expectSameBytes } from '../../support/model-disk.js';
import { Qcow2Bytes } from '../../support/qcow2-bytes.js';

const CLUSTER = 4096;

function fresh(options: Partial<CreateOptions> = {}): { storage: MemoryStorage; image: Qcow2Image } {
  const storage = new MemoryStorage();
  createImage(storage, { size: 0x10_0000, clusterSize: CLUSTER, ...options });
  return { storage, image: openImage(storage) };
}

/** What the header names, and the first refcount block, in clusters. */
function placesIn(storage: MemoryStorage) {
  const file = new Qcow2Bytes(storage.toBytes());
  const inClusters = (host: number): number => host / CLUSTER;
  return {
    l1: inClusters(file.l1Offset),
    refcountTable: inClusters(file.refcountTableOffset),
    refcountBlock: inClusters(file.refcountBlock(0)),
    snapshots: inClusters(file.snapshotsOffset),
    snapshotL1: inClusters(file.snapshotL1),
  };
}

function expectSound(storage: MemoryStorage): void {
  expect(runToEnd(checkImage(new MemoryStorage(storage.toBytes()))).findings).toEqual([]);
}

describe('a snapshot of a disk that holds nothing', () => {
  for (const lazyRefcounts of [false, true]) {
    it(`has two tables that are new, and moves no other (lazy refcounts: ${lazyRefcounts})`, () => {
      const { storage, image } = fresh({ lazyRefcounts });
      const { l1, refcountTable, refcountBlock } = placesIn(storage);
      const stays = { l1, refcountTable, refcountBlock };
      createSnapshot(image, { name: 'first' });
      expect(placesIn(storage)).toEqual({ ...stays, snapshotL1: l1 + 1, snapshots: l1 + 2 });
      createSnapshot(image, { name: 'second' });
      expect(placesIn(storage)).toEqual({ ...stays, snapshotL1: l1 + 1, snapshots: l1 + 4 });
      gotoSnapshot(image, 'first');
      expect(placesIn(storage)).toEqual({ ...stays, snapshotL1: l1 + 1, snapshots: l1 + 2 });
      image.close();
      expectSound(storage);
    });
  }

  it('takes the room that the old snapshot table had, once it is free', () => {
    const { storage, image } = fresh();
    const before = storage.size;
    for (let number = 0; number < 50; number++) {
      createSnapshot(image, { name: 'a', id: 'a' });
      runToEnd(deleteSnapshot(image, 'a'));
    }
    image.close();
    expect(storage.size).toBeLessThanOrEqual(before + 8 * CLUSTER);
    expectSound(storage);
  });
});

describe('a damaged snapshot table of a disk that holds nothing', () => {
  const places: Readonly<Record<string, (file: Qcow2Bytes) => number>> = {
    'the active L1 table': (file) => file.l1Offset,
    'the refcount table': (file) => file.refcountTableOffset,
    'the refcount block': (file) => file.refcountBlock(0),
    'the L1 table of the snapshot': (file) => file.snapshotL1,
  };
  for (const [place, at] of Object.entries(places)) {
    it(`that lies in ${place} is not freed with what lies there`, () => {
      const { storage, image } = fresh();
      createSnapshot(image, { name: 'first' });
      image.close();
      const file = new Qcow2Bytes(storage.toBytes());
      // An entry that names nothing, but for the L1 table of the snapshot that is there.
      const entry = file.bytes.subarray(file.snapshotsOffset, file.snapshotsOffset + 80);
      const host = at(file);
      if (host === file.snapshotL1) entry.copy(file.bytes, host);
      file.setBits(64, BigInt(host));
      const damaged = new MemoryStorage(file.bytes);
      const before = damaged.toBytes();
      const again = openImage(damaged, { overlapCheck: 'none' });
      expect(() => createSnapshot(again, { name: 'second' })).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/CORRUPT|BAD_IMAGE/) as string }),
      );
      again.close();
      expectSameBytes(damaged.toBytes(), before, 'the file');
    });
  }
});

describe('a snapshot of a disk with data', () => {
  it('puts its L1 table first and the snapshot table behind it, and everything that is counted otherwise after them', () => {
    const { storage, image } = fresh();
    image.write(0, new Uint8Array(CLUSTER).fill(1));
    image.flush();
    const end = storage.size / CLUSTER;
    createSnapshot(image, { name: 'one' });
    const places = placesIn(storage);
    expect(places).toMatchObject({ snapshotL1: end, snapshots: end + 1 });
    expect(Math.min(places.l1, places.refcountTable, places.refcountBlock)).toBeGreaterThan(end + 1);
    image.close();
    expectSound(storage);
  });
});
