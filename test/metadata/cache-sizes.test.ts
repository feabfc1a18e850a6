/** What the cache options come to. The rules and the conflicts are those of QEMU 7.2. */
import { describe, expect, it } from 'vitest';
import { geometryOf } from '../../src/format/geometry.js';
import { chooseCacheSizes, type CacheOptions } from '../../src/metadata/cache-sizes.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const CLUSTER = 64 * KIB;

/** Bytes of both caches, for clusters of 64 KiB. */
function bytesFor(diskSize: number, options: CacheOptions = {}) {
  const shape = { geometry: geometryOf(16, 4), diskSize, writable: true };
  const { slotBytes, l2Slots, refcountSlots } = chooseCacheSizes(shape, options);
  return { l2: l2Slots * slotBytes, refcounts: refcountSlots * slotBytes };
}

function refusal(options: CacheOptions): unknown {
  try {
    return bytesFor(GIB, options);
  } catch (error) {
    return error;
  }
}

describe('the caches', () => {
  it('hold by default all L2 tables of a disk, up to 32 MiB', () => {
    expect(bytesFor(8 * GIB).l2).toBe(MIB);
    expect(bytesFor(256 * GIB).l2).toBe(32 * MIB);
    expect(bytesFor(2 ** 50).l2).toBe(32 * MIB);
    expect(bytesFor(2 ** 50).refcounts).toBe(MIB);
  });

  it('have at least two slices each, whatever is asked', () => {
    expect(bytesFor(0)).toEqual({ l2: 2 * CLUSTER, refcounts: MIB });
    expect(bytesFor(GIB, { cacheSize: 0 })).toEqual({ l2: 2 * CLUSTER, refcounts: 2 * CLUSTER });
    expect(bytesFor(GIB, { l2CacheSize: 0, refcountCacheSize: 0 })).toEqual({
      l2: 2 * CLUSTER,
      refcounts: 2 * CLUSTER,
    });
  });

  it('never hold more L2 tables than the disk has', () => {
    expect(bytesFor(16 * GIB, { l2CacheSize: 2 ** 40 }).l2).toBe(2 * MIB);
  });

  it('share a combined size: refcounts get the smallest that works, or what L2 tables leave', () => {
    expect(bytesFor(128 * GIB, { cacheSize: 4 * MIB })).toEqual({ l2: 4 * MIB - 4 * CLUSTER, refcounts: 4 * CLUSTER });
    expect(bytesFor(8 * GIB, { cacheSize: 4 * MIB })).toEqual({ l2: MIB, refcounts: 3 * MIB });
    expect(bytesFor(128 * GIB, { cacheSize: 3 * CLUSTER })).toEqual({ l2: 2 * CLUSTER, refcounts: 3 * CLUSTER });
  });

  it('share a combined size after one of them has been given its own', () => {
    expect(bytesFor(128 * GIB, { cacheSize: 4 * MIB, l2CacheSize: MIB })).toEqual({ l2: MIB, refcounts: 3 * MIB });
    expect(bytesFor(128 * GIB, { cacheSize: 4 * MIB, refcountCacheSize: MIB })).toEqual({
      l2: 3 * MIB,
      refcounts: MIB,
    });
    // What the disk does not need of its L2 cache goes to the refcounts.
    expect(bytesFor(8 * GIB, { cacheSize: 4 * MIB, l2CacheSize: 2 * MIB })).toEqual({ l2: MIB, refcounts: 3 * MIB });
  });

  it('need no refcounts for an image that is only read', () => {
    const shape = { geometry: geometryOf(16, 4), diskSize: GIB, writable: false };
    expect(chooseCacheSizes(shape, { cacheSize: MIB }).refcountSlots).toBe(0);
  });

  it('count the entries of extended L2 tables twice', () => {
    const shape = { geometry: geometryOf(16, 4, true), diskSize: 8 * GIB, writable: true };
    const { slotBytes, l2Slots } = chooseCacheSizes(shape, {});
    expect(l2Slots * slotBytes).toBe(2 * MIB);
  });

  it('read and write in slices of a cluster, at most 64 KiB, or as they are told', () => {
    const slice = (clusterBits: number, l2CacheEntrySize?: number) =>
      chooseCacheSizes({ geometry: geometryOf(clusterBits, 4), diskSize: GIB, writable: true }, { l2CacheEntrySize })
        .slotBytes;
    expect([slice(9), slice(16), slice(21)]).toEqual([512, 64 * KIB, 64 * KIB]);
    expect([slice(16, 4096), slice(21, 2 * MIB)]).toEqual([4096, 64 * KIB]);
  });

  it.each<[string, CacheOptions, RegExp]>([
    [
      'all three sizes',
      { cacheSize: MIB, l2CacheSize: KIB, refcountCacheSize: KIB },
      /may not be set at the same time/,
    ],
    [
      'an L2 cache larger than both',
      { cacheSize: MIB, l2CacheSize: 2 * MIB },
      /l2CacheSize is 2097152.*cacheSize, 1048576/,
    ],
    [
      'a refcount cache larger than both',
      { cacheSize: 5, refcountCacheSize: 6 },
      /refcountCacheSize is 6.*cacheSize, 5/,
    ],
    ['a negative size', { l2CacheSize: -1 }, /l2CacheSize is -1/],
    ['a size that is no number', { cacheSize: Number.NaN }, /cacheSize is NaN/],
    ['more than memory can have', { refcountCacheSize: GIB }, /refcount cache would have 1073741824 bytes; the limit/],
    ['a slice that is no power of two', { l2CacheEntrySize: 1000 }, /l2CacheEntrySize is 1000; .* 512 to 65536/],
    ['a slice below 512 bytes', { l2CacheEntrySize: 256 }, /l2CacheEntrySize is 256/],
    ['a slice larger than a cluster', { l2CacheEntrySize: 128 * KIB }, /l2CacheEntrySize is 131072/],
  ])('refuse %s', (_, options, message) => {
    expect(refusal(options)).toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringMatching(message) as string });
  });
});
