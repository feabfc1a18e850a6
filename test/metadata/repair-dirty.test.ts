import { describe, expect, it } from 'vitest';
import { createImage, MemoryStorage, openImage } from '../../src/index.js';
import { MAX_L1_BYTES } from '../../src/format/limits.js';
import { repairDirty } from '../../src/metadata/repair-dirty.js';
import { Qcow2Bytes } from '../support/qcow2-bytes.js';

const CLUSTER = 4096;
const LENGTH = 128 * 1024;

/** An image with data, left dirty, and damaged by `damage`. */
function dirtyImage(damage: (image: Qcow2Bytes) => void): MemoryStorage {
  const storage = new MemoryStorage();
  createImage(storage, { size: 2 ** 20, clusterSize: CLUSTER });
  const image = openImage(storage);
  image.write(0, new Uint8Array(LENGTH).fill(9));
  image.flush();
  const bytes = new Qcow2Bytes(storage.toBytes());
  image.close();
  damage(bytes);
  bytes.setBits(72, 1n);
  return new MemoryStorage(new Uint8Array(bytes.bytes));
}

const incompatible = (storage: MemoryStorage) => new Qcow2Bytes(storage.toBytes()).bits(72);

describe('the repair of an image left dirty', () => {
  it('sets refcounts that were never written in the block that is there, and clears the bit', () => {
    const storage = dirtyImage((image) => {
      for (let at = 0; at < LENGTH; at += CLUSTER) image.setRefcount(image.hostOf(at), 0);
    });
    const size = storage.size;
    const table = new Qcow2Bytes(storage.toBytes()).refcountTableOffset;
    repairDirty(storage);
    expect(incompatible(storage)).toBe(0n);
    // No new structure was needed.
    expect(storage.size).toBe(size);
    expect(new Qcow2Bytes(storage.toBytes()).refcountTableOffset).toBe(table);
    const image = openImage(storage);
    const bytes = new Uint8Array(LENGTH);
    image.write(LENGTH, new Uint8Array(CLUSTER).fill(1));
    image.read(0, bytes);
    expect(Buffer.compare(bytes, Buffer.alloc(LENGTH, 9))).toBe(0);
    image.close();
  });

  it('builds blocks that were never written', () => {
    const storage = dirtyImage((image) => image.setBits(image.refcountTableOffset, 0n));
    repairDirty(storage);
    expect(incompatible(storage)).toBe(0n);
    openImage(storage).close();
  });

  it('says what is wrong where it can not be put right, and leaves the bit', () => {
    const storage = dirtyImage((image) => image.setBits(image.l2EntryAt(CLUSTER), 1n << 40n));
    expect(() => repairDirty(storage)).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
    expect(() => repairDirty(storage)).toThrow(/the file ends at/);
    expect(incompatible(storage)).toBe(1n);
  });

  it('is refused where a small file names its tables so often that an open would take minutes', () => {
    const snapshots = 40;
    const storage = dirtyImage((image) => {
      const table = image.append(new Uint8Array(snapshots * 56));
      const l1 = image.append(new Uint8Array(MAX_L1_BYTES));
      for (let index = 0; index < snapshots; index++) {
        const entry = table + index * 56;
        image.setBits(entry, BigInt(l1));
        image.setBits(entry + 8, BigInt(MAX_L1_BYTES / 8) << 32n);
        image.setBits(entry + 32, 16n);
      }
      image.setBits(64, BigInt(table));
      image.setBits(56, (image.bits(56) & ~0xffff_ffffn) | BigInt(snapshots));
    });
    const message = expect.stringContaining('repair it with a check first');
    expect(() => openImage(storage)).toThrow(expect.objectContaining({ code: 'LIMIT', message }));
    expect(incompatible(storage)).toBe(1n);
  });
});
