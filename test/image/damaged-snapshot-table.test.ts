/**
 * A snapshot table that can't be followed: the disk can be read all the same, nothing is done with the snapshots, and the image
 * is not written where it is not known what they lead to.
 */
import { describe, expect, it } from 'vitest';
import {
  createSnapshot,
  listSnapshots,
  MemoryStorage,
  openImage,
  openSnapshot,
  Qcow2Error,
  type Qcow2Image,
} from '../../src/index.js';
import { expectSameBytes } from '../support/model-disk.js';
import { Qcow2Bytes } from '../support/qcow2-bytes.js';
import { FIELD, smallImage, WRITTEN_BYTES, WRITTEN_VALUE } from './damaged.js';

function withSnapshot(damage: (file: Qcow2Bytes) => void): MemoryStorage {
  const storage = new MemoryStorage(smallImage().bytes);
  const image = openImage(storage);
  createSnapshot(image, { name: 'one', id: '1' });
  image.close();
  const file = new Qcow2Bytes(storage.toBytes());
  damage(file);
  return new MemoryStorage(file.bytes);
}

/** The one entry, without its padding, as the last that the file holds. */
function moveToEnd(file: Qcow2Bytes): void {
  const entry = file.bytes.subarray(file.snapshotsOffset, file.snapshotsOffset + 40 + 24 + 1 + 3);
  const table = file.append(Buffer.from(entry));
  file.setRefcount(table, 1);
  file.setBits(FIELD.snapshotsOffset, BigInt(table));
}

function errorOf(attempt: () => unknown): Qcow2Error {
  try {
    attempt();
  } catch (error) {
    if (error instanceof Qcow2Error) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

function expectReadable(image: Qcow2Image): void {
  const read = new Uint8Array(WRITTEN_BYTES);
  image.read(0, read);
  expect(read.every((byte) => byte === WRITTEN_VALUE)).toBe(true);
}

interface Damage {
  readonly title: string;
  readonly make: (file: Qcow2Bytes) => void;
  readonly says: RegExp;
}

const DAMAGES: readonly Damage[] = [
  {
    title: 'with too many entries',
    make: (file) => file.setU32(FIELD.snapshotCount, 65_537),
    says: /nb_snapshots is 65537; it must be at most 65536/,
  },
  {
    title: 'in the place of the header',
    make: (file) => file.setBits(FIELD.snapshotsOffset, 0n),
    says: /snapshots_offset is 0 with nb_snapshots 1/,
  },
  {
    title: 'off a cluster',
    make: (file) => file.setBits(FIELD.snapshotsOffset, 0x1200n),
    says: /snapshots_offset is 0x1200; it must be a multiple of the cluster size, 0x1000/,
  },
  {
    title: 'with too much extra data in an entry',
    make: (file) => file.setU32(file.snapshotsOffset + 36, 1025),
    says: /extra data has 1025 bytes; the limit is 1024/,
  },
];

describe('a snapshot table', () => {
  for (const { title, make, says } of DAMAGES) {
    it(`${title} leaves the disk readable, refuses its snapshots, and keeps the image from being written`, () => {
      const storage = withSnapshot(make);
      const before = storage.toBytes();
      const image = openImage(storage, { readOnly: true });
      expectReadable(image);
      for (const use of [() => listSnapshots(image), () => openSnapshot(image, '1')]) {
        const error = errorOf(use);
        expect(error.code).toBe('BAD_IMAGE');
        expect(error.message).toMatch(says);
      }
      const error = errorOf(() => openImage(storage));
      expect(error.code).toBe('BAD_IMAGE');
      expect(error.message).toMatch(says);
      expectSameBytes(storage.toBytes(), before, 'the file after it was refused');
    });
  }

  it('that the file does not hold whole is used for nothing, and what is there of it is not written over', () => {
    const storage = withSnapshot((file) => {
      moveToEnd(file);
      file.setU32(FIELD.snapshotCount, 60_000);
    });
    const before = new Qcow2Bytes(storage.toBytes());
    const image = openImage(storage);
    expectReadable(image);
    const uses = [
      () => listSnapshots(image),
      () => createSnapshot(image, { name: 'two' }),
      () => openSnapshot(image, '1'),
    ];
    for (const use of uses) {
      const error = errorOf(use);
      expect(error.code).toBe('BAD_IMAGE');
      expect(error.message).toMatch(/nb_snapshots 60000\) is cut short at entry \d+; the file ends at/);
    }
    image.write(0, new Uint8Array(3 * 4096).fill(3));
    image.flush();
    const after = new Qcow2Bytes(storage.toBytes());
    const table = after.snapshotsOffset;
    expect(table).toBe(before.snapshotsOffset);
    expectSameBytes(after.bytes.subarray(table, table + 64), before.bytes.subarray(table, table + 64), 'the table');
    image.close();
  });

  it('may end in the last cluster of the file, which is cut short', () => {
    const image = openImage(withSnapshot(moveToEnd));
    expect(listSnapshots(image).map(({ name }) => name)).toEqual(['one']);
    image.close();
  });
});
