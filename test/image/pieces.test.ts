import { describe, expect, it } from 'vitest';
import {
  createImage,
  MemoryStorage,
  openImage,
  type CreateOptions,
  type Qcow2Image,
  type Storage,
} from '../../src/index.js';
import type { AccessPurpose } from '../../src/storage/access-purpose.js';

const CLUSTER = 4096;

/** Counts what the storage is told. */
class ToldStorage extends MemoryStorage implements Storage {
  readonly told: AccessPurpose[] = [];

  announce(purpose: AccessPurpose): void {
    this.told.push(purpose);
  }

  count(purpose: AccessPurpose): number {
    return this.told.filter((each) => each === purpose).length;
  }
}

function newImage(options: Partial<CreateOptions> = {}): { image: Qcow2Image; storage: ToldStorage } {
  const storage = new ToldStorage();
  createImage(storage, { size: 1024 * CLUSTER, clusterSize: CLUSTER, ...options });
  return { image: openImage(storage), storage };
}

describe('a write over clusters that lie in one piece', () => {
  it.each([{}, { extendedL2: true, clusterSize: 16384 }])(
    'is one write, though one of them reads as zeroes (%o)',
    (options) => {
      const { image, storage } = newImage(options);
      const { clusterSize } = image;
      image.write(0, new Uint8Array(3 * clusterSize).fill(1));
      const before = [...image.extents(0, 3 * clusterSize)];
      image.writeZeroes(clusterSize, clusterSize);
      expect([...image.extents(0, 3 * clusterSize)]).toHaveLength(3);
      storage.told.length = 0;
      image.write(100, new Uint8Array(3 * clusterSize - 200).fill(2));
      expect(storage.count('write_aio')).toBe(1);
      expect([...image.extents(0, 3 * clusterSize)]).toEqual(before);
      const bytes = new Uint8Array(3 * clusterSize);
      image.read(0, bytes);
      expect([bytes[99], bytes[100], bytes.at(-101), bytes.at(-100)]).toEqual([1, 2, 2, 1]);
      expect(bytes.subarray(100, -100).every((byte) => byte === 2)).toBe(true);
    },
  );

  it('carries over what lies around it in a cluster of zeroes at either end', () => {
    const { image, storage } = newImage();
    image.write(0, new Uint8Array(3 * CLUSTER).fill(1));
    image.writeZeroes(0, CLUSTER);
    image.writeZeroes(2 * CLUSTER, CLUSTER);
    storage.told.length = 0;
    image.write(100, new Uint8Array(3 * CLUSTER - 200).fill(2));
    const bytes = new Uint8Array(3 * CLUSTER);
    image.read(0, bytes);
    expect([bytes.indexOf(2), bytes.lastIndexOf(2)]).toEqual([100, 3 * CLUSTER - 101]);
    expect(bytes.filter((byte) => byte === 0)).toHaveLength(200);
    expect(storage.count('cluster_alloc')).toBe(0);
  });
});

describe('new clusters', () => {
  it('lie in one piece, with their refcount blocks behind them', () => {
    // A block counts 64 clusters of 512 bytes.
    const { image } = newImage({ clusterSize: 512, refcountBits: 64, size: 1 << 20 });
    image.write(0, new Uint8Array(300 * 512).fill(1));
    const extents = [...image.extents(0, 300 * 512)];
    const places = extents.map((extent) => ('host' in extent ? extent.host! - extent.offset : null));
    expect(new Set(places).size).toBe(1);
    image.close();
  });

  it('are in a new L2 table that is not read back', () => {
    const { image, storage } = newImage();
    storage.told.length = 0;
    image.write(0, Uint8Array.of(1));
    image.write(CLUSTER * 600, Uint8Array.of(1));
    expect([storage.count('l2_alloc_write'), storage.count('l2_load')]).toEqual([2, 0]);
    expect([...image.extents(0, CLUSTER)]).toMatchObject([{ kind: 'data' }]);
  });
});
