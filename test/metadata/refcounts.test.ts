import { describe, expect, it } from 'vitest';
import { createImage } from '../../src/image/create.js';
import { readHeader } from '../../src/metadata/header-state.js';
import { ImageTables } from '../../src/metadata/image-tables.js';
import { wasmKernels } from '../../src/kernels/index.js';
import { GuardedStorage } from '../../src/storage/guarded.js';
import { plainData } from '../../src/storage/guest-data.js';
import { MemoryStorage } from '../../src/storage/memory.js';

/** The tables of an empty image with clusters of 512 bytes. */
function tablesOf(refcountBits: 1 | 2 | 4 | 8 | 16 | 32 | 64) {
  const storage = new GuardedStorage(new MemoryStorage());
  createImage(storage, { size: 1 << 20, clusterSize: 512, refcountBits });
  const header = readHeader(storage);
  const tables = new ImageTables({
    ...{ storage, data: storage, guestData: plainData(storage) },
    ...{ header, kernels: wasmKernels, writable: true, options: {} },
  });
  return { ...tables, ...tables.writable!, storage, header: tables.header };
}

describe('refcounts', () => {
  it('of a new image are one for each cluster of the file and zero behind it', () => {
    const { refcounts, storage } = tablesOf(16);
    const clusters = Math.ceil(storage.size / 512);
    for (let cluster = 0; cluster < clusters; cluster++) expect(refcounts.get(cluster)).toBe(1);
    expect(refcounts.get(clusters)).toBe(0);
    expect(refcounts.get(2 ** 40)).toBe(0);
  });

  it.each([1, 2, 4, 8] as const)('of %i bits refuse to pass their largest value, naming it', (bits) => {
    const { refcounts, allocator } = tablesOf(bits);
    const cluster = allocator.allocateContiguous(1) / 512;
    for (let count = 1; count < 2 ** bits - 1; count++) refcounts.add(cluster, 1, 1);
    expect(() => refcounts.add(cluster, 1, 1)).toThrow(
      expect.objectContaining({
        code: 'LIMIT',
        message: expect.stringContaining(`with ${bits} bits it cannot`) as string,
      }),
    );
    expect(refcounts.get(cluster)).toBe(2 ** bits - 1);
  });

  it('refuse to fall below zero', () => {
    const { refcounts } = tablesOf(16);
    expect(() => refcounts.add(5000, 1, -1)).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
  });

  it('stay right while blocks are added and the table moves, at every width', () => {
    for (const bits of [1, 16, 64] as const) {
      const { refcounts, allocator, order, header } = tablesOf(bits);
      const before = header.value.refcountTableOffset;
      const seen = new Set<number>();
      // 64 bits: 64 clusters a block, 64 blocks a table cluster.
      for (let taken = 0; taken < 64 * 64 + 500;) {
        const run = allocator.allocate(7);
        for (let index = 0; index < run.count; index++) {
          const cluster = run.host / 512 + index;
          expect(seen.has(cluster)).toBe(false);
          seen.add(cluster);
          expect(refcounts.get(cluster)).toBe(1);
        }
        taken += run.count;
      }
      order.flush();
      if (bits === 64) expect(header.value.refcountTableOffset).not.toBe(before);
      for (const cluster of seen) expect(refcounts.get(cluster)).toBe(1);
    }
  });

  it('give one contiguous piece that is larger than what a block counts', () => {
    const { allocator, refcounts } = tablesOf(64);
    const host = allocator.allocateContiguous(1000);
    for (let index = 0; index < 1000; index++) expect(refcounts.get(host / 512 + index)).toBe(1);
    expect(allocator.allocateContiguous(1) / 512).not.toBe(host / 512);
  });
});

describe('the allocator', () => {
  it('does not hand out a freed cluster before the next flush', () => {
    const { allocator, order } = tablesOf(16);
    const first = allocator.allocate(1).host;
    order.flush();
    allocator.free(first, 512);
    expect(allocator.allocate(1).host).not.toBe(first);
    order.flush();
    expect(allocator.allocate(1).host).toBe(first);
  });

  it('refuses to hand out the header or a table that counts as free in a damaged image', () => {
    const { allocator, refcounts, order } = tablesOf(16);
    refcounts.set(0, 0);
    expect(() => allocator.allocate(1)).toThrow(
      expect.objectContaining({
        code: 'CORRUPT',
        message: expect.stringContaining('would overwrite the header') as string,
      }),
    );
    order.flush();
  });

  it('frees every cluster that a range of bytes touches', () => {
    const { allocator, order, refcounts } = tablesOf(16);
    const host = allocator.allocateContiguous(3);
    allocator.free(host + 100, 600);
    order.flush();
    expect([0, 1, 2].map((index) => refcounts.get(host / 512 + index))).toEqual([0, 0, 1]);
  });
});

describe('a flush in an image with a wrong refcount', () => {
  it('frees what it can, once, and does not fail', () => {
    const { allocator, order, refcounts } = tablesOf(16);
    const good = allocator.allocateContiguous(1);
    const bad = allocator.allocateContiguous(1);
    order.flush();
    refcounts.set(bad / 512, 0);
    allocator.free(good, 512);
    allocator.free(bad, 512);
    order.flush();
    const first = allocator.allocate(1).host;
    order.flush();
    const second = allocator.allocate(1).host;
    expect(first).toBe(good);
    expect(second).not.toBe(first);
    expect(refcounts.get(first / 512)).toBe(1);
  });
});
