/** An entry whose L1 table can't be: its snapshot is listed and left alone, and so is nothing else. */
import { describe, expect, it } from 'vitest';
import {
  amendImage,
  createImage,
  createSnapshot,
  deleteSnapshot,
  gotoSnapshot,
  listSnapshots,
  MemoryStorage,
  openImage,
  openSnapshot,
  runToEnd,
  snapshotUsage,
  type Qcow2Image,
} from '../../../src/index.js';
import { BadSnapshotL1 } from '../../../src/format/snapshot-table.js';
import { expectSameBytes } from '../../support/model-disk.js';
import { Qcow2Bytes } from '../../support/qcow2-bytes.js';

const CLUSTER = 4096;
const SIZE = 0x10_0000;

interface Damage {
  readonly title: string;
  readonly flaw: 'size' | 'offset';
  readonly says: RegExp;
  /** To the entry of the snapshot, which is the first. */
  readonly make: (file: Qcow2Bytes, entry: number) => void;
}

const DAMAGES: readonly Damage[] = [
  {
    title: 'of 2 GiB',
    flaw: 'size',
    says: /the L1 table of snapshot 1 has 268435456 entries; the limit is 4194304/,
    make: (file, entry) => file.setU32(entry + 8, 0x1000_0000),
  },
  {
    title: 'off a cluster',
    flaw: 'offset',
    says: /the L1 table of snapshot 1 is at 0x400200, not at a cluster's start/,
    make: (file, entry) => file.setBits(entry, 0x40_0200n),
  },
  {
    title: 'farther than any file',
    flaw: 'offset',
    says: /the L1 table of snapshot 1 is at 0x[0-9a-f]+; the limit is 0x1fffffffffffff/,
    make: (file, entry) => file.setBits(entry, 0xffff_ffff_ffff_f000n),
  },
];

/** Two snapshots of disks that differ, the first damaged. */
function damagedImage({ make }: Damage): MemoryStorage {
  const storage = new MemoryStorage();
  createImage(storage, { size: SIZE, clusterSize: CLUSTER });
  const image = openImage(storage);
  for (const [index, name] of ['one', 'two'].entries()) {
    image.write(0, new Uint8Array(50_000).fill(index + 1));
    createSnapshot(image, { name });
  }
  image.write(0, new Uint8Array(CLUSTER).fill(9));
  image.close();
  const file = new Qcow2Bytes(storage.toBytes());
  make(file, file.snapshotsOffset);
  return new MemoryStorage(file.bytes);
}

function errorOf(use: () => unknown): BadSnapshotL1 {
  try {
    use();
  } catch (error) {
    if (error instanceof BadSnapshotL1) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

const USES: Readonly<Record<string, (image: Qcow2Image) => unknown>> = {
  'reading it': (image) => openSnapshot(image, '1'),
  'going to it': (image) => gotoSnapshot(image, '1'),
  'deleting it': (image) => runToEnd(deleteSnapshot(image, '1')),
  'a downgrade, which goes through all tables': (image) => runToEnd(amendImage(image, { version: 2 })),
};

describe('a snapshot with an L1 table', () => {
  for (const damage of DAMAGES) {
    for (const [what, use] of Object.entries(USES)) {
      it(`${damage.title}: ${what} is refused, and changes nothing`, () => {
        const storage = damagedImage(damage);
        const before = storage.toBytes();
        const image = openImage(storage);
        const error = errorOf(() => use(image));
        expect(error).toMatchObject({ code: 'BAD_IMAGE', flaw: damage.flaw });
        expect(error.message).toMatch(damage.says);
        image.close();
        expectSameBytes(storage.toBytes(), before, 'the file');
      });
    }

    it(`${damage.title} is listed, and the other snapshot and the disk are used as ever`, () => {
      const image = openImage(damagedImage(damage));
      expect(listSnapshots(image).map(({ name }) => name)).toEqual(['one', 'two']);
      const [bad, good] = snapshotUsage(image);
      expect(bad!.ownBytes).toBe(0);
      // Its L1 table, the first data cluster, and the L2 table that the write had to copy.
      expect(good!.ownBytes).toBe(3 * CLUSTER);
      gotoSnapshot(image, '2');
      const read = new Uint8Array(50_000);
      image.read(0, read);
      expect(read.every((byte) => byte === 2)).toBe(true);
      runToEnd(deleteSnapshot(image, '2'));
      expect(listSnapshots(image).map(({ name }) => name)).toEqual(['one']);
      image.close();
    });

    it(`${damage.title} can't be guarded: who asks for that can't write, and whoever does not can`, () => {
      const storage = damagedImage(damage);
      const before = storage.toBytes();
      const guarded = openImage(storage, { overlapCheck: 'all' });
      const place = 0x80_000;
      for (let time = 0; time < 2; time++) {
        expect(errorOf(() => guarded.write(place, new Uint8Array(CLUSTER))).flaw).toBe(damage.flaw);
      }
      guarded.close();
      expectSameBytes(storage.toBytes(), before, 'the file');
      const image = openImage(storage);
      image.write(place, new Uint8Array(CLUSTER).fill(5));
      image.close();
    });
  }
});
