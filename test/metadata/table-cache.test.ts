import { describe, expect, it } from 'vitest';
import { referenceKernels, SCRATCH_BYTES } from '../../src/kernels/index.js';
import { TableCache } from '../../src/metadata/table-cache.js';
import { MemoryStorage } from '../../src/storage/memory.js';

const SLOT = 512;

function cacheOf(slots: number, native = false, beforeWrite?: (offset: number, length: number) => void) {
  const log: string[] = [];
  const bytes = new Uint8Array(64 * SLOT);
  for (let index = 0; index < bytes.length; index++) bytes[index] = Math.floor(index / SLOT);
  const inner = new MemoryStorage(bytes);
  const storage = Object.assign(Object.create(inner) as MemoryStorage, {
    read: (offset: number, target: Uint8Array) => {
      log.push(`read ${offset / SLOT}`);
      inner.read(offset, target);
    },
    write: (offset: number, source: Uint8Array) => {
      log.push(`write ${offset / SLOT} +${source.length / SLOT}`);
      inner.write(offset, source);
    },
  });
  const kernels = referenceKernels({ slotBytes: SLOT, slots });
  const cache = new TableCache({
    kernels,
    storage,
    firstAddress: SCRATCH_BYTES,
    slotBytes: SLOT,
    slots,
    native,
    makeDependenciesStable: () => log.push('stable'),
    beforeWrite,
  });
  const change = (slice: number, value: number) => {
    kernels.bytes[cache.load(slice * SLOT)] = value;
    cache.markDirty(slice * SLOT);
  };
  return { cache, kernels, log, change, inner };
}

describe('the table cache', () => {
  it('reads a slice once while it has room', () => {
    const { cache, kernels, log } = cacheOf(4);
    for (const slice of [1, 2, 1, 2, 1]) expect(kernels.bytes[cache.load(slice * SLOT)]).toBe(slice);
    expect(log).toEqual(['read 1', 'read 2']);
    expect([cache.hits, cache.misses]).toEqual([3, 2]);
  });

  it('makes what a dirty slice depends on stable before it evicts it, and writes all that is dirty at once', () => {
    const { log, change } = cacheOf(2);
    change(4, 1);
    change(5, 1);
    change(9, 1);
    expect(log).toEqual(['read 4', 'read 5', 'stable', 'write 4 +2', 'read 9']);
  });

  it('needs no barrier to evict what is clean', () => {
    const { cache, log } = cacheOf(2);
    for (const slice of [1, 2, 3, 4]) cache.load(slice * SLOT);
    expect(log).toEqual(['read 1', 'read 2', 'read 3', 'read 4']);
  });

  it('writes neighbours together, in the order of the file, and each once', () => {
    const { cache, log, change, inner } = cacheOf(8);
    for (const slice of [7, 3, 2, 8, 30]) change(slice, 0xaa);
    log.length = 0;
    cache.writeBack();
    cache.writeBack();
    expect(log).toEqual(['write 2 +2', 'write 7 +2', 'write 30 +1']);
    expect(inner.toBytes()[30 * SLOT]).toBe(0xaa);
    expect(cache.dirty).toBe(false);
  });

  it('forgets a range, so that a later lookup reads the file again', () => {
    const { cache, log, change } = cacheOf(4);
    change(6, 0x55);
    cache.forget(6 * SLOT, SLOT);
    expect(cache.dirty).toBe(false);
    cache.load(6 * SLOT);
    expect(log).toEqual(['read 6', 'read 6']);
  });

  it('keeps native tables with their byte order reversed, and writes them back as they were', () => {
    const { cache, kernels, inner } = cacheOf(2, true);
    inner.write(10 * SLOT, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    const before = inner.toBytes();
    const address = cache.load(10 * SLOT);
    expect(kernels.words[address / 4]).toBe(0x05060708);
    expect(kernels.words[address / 4 + 1]).toBe(0x01020304);
    cache.markDirty(10 * SLOT);
    cache.writeBack();
    expect(inner.toBytes()).toEqual(before);
  });

  it('asks before each write, with its place and length, and keeps what it was not let write', () => {
    const asked: [number, number][] = [];
    const { cache, change, inner } = cacheOf(4, false, (offset, length) => {
      asked.push([offset / SLOT, length / SLOT]);
      if (offset === 9 * SLOT) throw new Error('not there');
    });
    for (const slice of [3, 9, 2]) change(slice, 0xaa);
    expect(() => cache.writeBack()).toThrow('not there');
    expect(asked).toEqual([
      [2, 2],
      [9, 1],
    ]);
    expect([inner.toBytes()[2 * SLOT], inner.toBytes()[9 * SLOT]]).toEqual([0xaa, 9]);
    expect(cache.dirty).toBe(true);
  });

  it('drops what was not looked up between two calls, but nothing that is dirty', () => {
    const { cache, log, change } = cacheOf(8);
    for (const slice of [1, 2, 3]) cache.load(slice * SLOT);
    change(4, 0xaa);
    cache.dropUnused();
    expect(cache.usage).toEqual({ held: 4 * SLOT, touched: 4 * SLOT });
    cache.load(2 * SLOT);
    cache.dropUnused();
    expect(cache.usage).toEqual({ held: 2 * SLOT, touched: 4 * SLOT });
    log.length = 0;
    for (const slice of [2, 4, 1]) cache.load(slice * SLOT);
    expect(log).toEqual(['read 1']);
    cache.writeBack();
    cache.dropUnused();
    cache.dropUnused();
    expect(cache.usage.held).toBe(0);
  });

  it('evicts as well between two calls that drop: a slice looked up since the hand passed stays', () => {
    const { cache, log } = cacheOf(3);
    for (const slice of [1, 2, 3, 4]) cache.load(slice * SLOT);
    cache.dropUnused();
    cache.load(2 * SLOT);
    log.length = 0;
    cache.load(5 * SLOT);
    cache.load(2 * SLOT);
    expect(log).toEqual(['read 5']);
  });
});
