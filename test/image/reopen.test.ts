/** Options that change while an image is open, and images that are let go of and taken up again. */
import { describe, expect, it } from 'vitest';
import {
  createImage,
  MemoryStorage,
  openImage,
  RawDisk,
  ReadOnlyStorage,
  type CreateOptions,
  type OpenOptions,
  type ReopenOptions,
} from '../../src/index.js';
import { joinOptions, type RuntimeOptions } from '../../src/image/runtime-options.js';
import { act, randomRange, readWhole, type DiskAction } from '../support/disk-actions.js';
import { expectSameBytes, ModelDisk } from '../support/model-disk.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import { FIELD, smallImage } from './damaged.js';

const CLUSTER = 4096;
const SIZE = 0x80_0000;
const DIRTY = 1n;

function fresh(create: Partial<CreateOptions> = {}, open: OpenOptions = {}) {
  const storage = new MemoryStorage();
  createImage(storage, { size: SIZE, clusterSize: CLUSTER, ...create });
  const image = openImage(storage, open);
  const field = (at: number) => new DataView(storage.toBytes().buffer).getBigUint64(at);
  return { storage, image, isDirty: () => (field(FIELD.incompatible) & DIRTY) !== 0n };
}

function withCode(code: string, message = ''): unknown {
  return expect.objectContaining({ code, message: expect.stringContaining(message) as string });
}

function byteAt(image: { read(offset: number, target: Uint8Array): void }, offset: number): number {
  const target = new Uint8Array(1);
  image.read(offset, target);
  return target[0]!;
}

describe('reopening', () => {
  it('keeps what was written and not flushed', () => {
    const { image, storage } = fresh();
    image.write(CLUSTER, Uint8Array.of(7));
    image.reopen({ cacheSize: 0 });
    expect(byteAt(image, CLUSTER)).toBe(7);
    image.write(2 * CLUSTER, Uint8Array.of(8));
    image.close();
    expect(byteAt(openImage(storage), 2 * CLUSTER)).toBe(8);
  });

  it('changes the caches: with a small one tables are loaded again and again, with a large one once', () => {
    const { image } = fresh({ size: 64 * SIZE }, { l2CacheSize: 0 });
    const tableSpan = CLUSTER * (CLUSTER / 8);
    for (let table = 0; table < 8; table++) image.write(table * tableSpan, Uint8Array.of(table));
    const missesOfARound = () => {
      const before = image.statistics().cacheMisses;
      for (let table = 0; table < 8; table++) expect(byteAt(image, table * tableSpan)).toBe(table);
      return image.statistics().cacheMisses - before;
    };
    missesOfARound();
    expect(missesOfARound()).toBe(8);
    image.reopen({ l2CacheSize: 1 << 20 });
    expect(missesOfARound()).toBe(8);
    expect(missesOfARound()).toBe(0);
  });

  it('to read-only flushes and marks clean, refuses writes, and can be taken back', () => {
    const { image, storage, isDirty } = fresh({ lazyRefcounts: true });
    image.write(0, Uint8Array.of(5));
    expect(isDirty()).toBe(true);
    image.reopen({ readOnly: true });
    expect(isDirty()).toBe(false);
    expect(image.readOnly).toBe(true);
    expect(() => image.write(0, Uint8Array.of(6))).toThrow(withCode('READ_ONLY'));
    expect(byteAt(openImage(new MemoryStorage(storage.toBytes())), 0)).toBe(5);
    image.reopen({ readOnly: false });
    image.write(0, Uint8Array.of(6));
    image.close();
    expect(byteAt(openImage(storage), 0)).toBe(6);
  });

  it('turns lazy refcounts off and on, whatever the header says', () => {
    const { image, isDirty } = fresh({ lazyRefcounts: true });
    image.write(0, Uint8Array.of(5));
    image.reopen({ lazyRefcounts: false });
    expect([isDirty(), image.lazyRefcounts]).toEqual([false, false]);
    image.write(CLUSTER, Uint8Array.of(5));
    expect(isDirty()).toBe(false);
    image.reopen({ lazyRefcounts: true });
    image.write(2 * CLUSTER, Uint8Array.of(5));
    expect(isDirty()).toBe(true);
    image.close();
    expect(isDirty()).toBe(false);
  });

  const refusals: [string, Partial<CreateOptions>, ReopenOptions, string][] = [
    ['lazy refcounts of version 2', { version: 2 }, { lazyRefcounts: true }, 'version 3'],
    ['sizes that contradict each other', {}, { cacheSize: 1, l2CacheSize: 2 }, 'may not exceed'],
    ['an unknown template', {}, { overlapCheck: 'some' as 'all' }, 'overlapCheck'],
    ['an endless interval', {}, { cacheCleanInterval: 2 ** 32 }, 'cacheCleanInterval is 4294967296'],
    ['half a second', {}, { cacheCleanInterval: 0.5 }, 'cacheCleanInterval is 0.5'],
  ];
  it.each(refusals)('refuses %s and goes on as before', (_, create, changes, message) => {
    const { image } = fresh(create);
    image.write(0, Uint8Array.of(3));
    expect(() => image.reopen(changes)).toThrow(withCode('BAD_ARGUMENT', message));
    expect(byteAt(image, 0)).toBe(3);
    image.write(0, Uint8Array.of(4));
    image.reopen({});
    expect(byteAt(image, 0)).toBe(4);
  });

  it('for writing needs a storage that can be written and an image that is not corrupt', () => {
    const { storage, image } = fresh();
    image.close();
    const onReadOnly = openImage(new ReadOnlyStorage(storage), { readOnly: true });
    expect(() => onReadOnly.reopen({ readOnly: false })).toThrow(withCode('READ_ONLY'));
    expect(() => onReadOnly.reopen({ cacheSize: 0 })).not.toThrow();
    const { bytes, view } = smallImage();
    view.setBigUint64(FIELD.incompatible, 2n);
    const marked = openImage(new MemoryStorage(bytes), { readOnly: true });
    expect(() => marked.reopen({ readOnly: false })).toThrow(withCode('CORRUPT', 'marked corrupt'));
    expect(byteAt(marked, 0)).toBe(0x5c);
  });

  it('for writing repairs an image that was left dirty', () => {
    const { image, storage, isDirty } = fresh({ lazyRefcounts: true });
    image.write(0, Uint8Array.of(5));
    image.flush();
    const crashed = new MemoryStorage(storage.toBytes());
    const again = openImage(crashed, { readOnly: true });
    again.reopen({ readOnly: false });
    again.close();
    expect(isDirty()).toBe(true);
    expect(new DataView(crashed.toBytes().buffer).getBigUint64(FIELD.incompatible)).toBe(0n);
  });

  it('leaves no use for the tables from before: what still writes through them fails', () => {
    const { image } = fresh();
    const stale = image.tables;
    image.reopen({});
    stale.l2.linkZero(0, 1, { keep: false });
    expect(() => stale.writable!.order.flush()).toThrow(/tables that have been replaced/);
    image.write(0, Uint8Array.of(1));
    image.flush();
    expect(byteAt(image, 0)).toBe(1);
  });

  it('after close is CLOSED', () => {
    const { image } = fresh();
    image.close();
    for (const call of [() => image.reopen({}), () => image.inactivate(), () => image.invalidate()]) {
      expect(call).toThrow(withCode('CLOSED'));
    }
  });

  it('for writing is refused when the external data file is read-only, before anything changes', () => {
    const storage = new MemoryStorage();
    const data = new MemoryStorage();
    createImage(storage, { size: SIZE, dataFile: { name: 'data', storage: data } });
    const image = openImage(storage, { readOnly: true, dataFile: new ReadOnlyStorage(data) });
    expect(() => image.reopen({ readOnly: false })).toThrow(withCode('READ_ONLY', 'external data file'));
    expect(image.readOnly).toBe(true);
    expect(() => image.write(0, Uint8Array.of(1))).toThrow(withCode('READ_ONLY'));
    expect(byteAt(image, 0)).toBe(0);
  });
});

describe('options that are joined', () => {
  it.each<[RuntimeOptions, RuntimeOptions, RuntimeOptions]>([
    [{ l2CacheSize: 1 }, { cacheCleanInterval: 5 }, { l2CacheSize: 1, cacheCleanInterval: 5 }],
    [{ l2CacheSize: 1, refcountCacheSize: 2 }, { cacheSize: 9 }, { cacheSize: 9 }],
    [{ cacheSize: 9 }, { l2CacheSize: 20 }, { l2CacheSize: 20 }],
    [{ cacheSize: 9 }, { lazyRefcounts: true }, { cacheSize: 9, lazyRefcounts: true }],
    [
      { cacheSize: 9 },
      { cacheSize: 8, l2CacheSize: 7, refcountCacheSize: 6 },
      { cacheSize: 8, l2CacheSize: 7, refcountCacheSize: 6 },
    ],
    [{ overlapCheck: { mainHeader: false } }, { overlapCheck: 'all' }, { overlapCheck: 'all' }],
    [
      { overlapCheck: { template: 'all', activeL1: false } },
      { overlapCheck: { activeL2: false } },
      { overlapCheck: { template: 'all', activeL1: false, activeL2: false } },
    ],
    [
      { overlapCheck: 'none' },
      { overlapCheck: { activeL2: true } },
      { overlapCheck: { template: 'none', activeL2: true } },
    ],
    [{ discard: { other: true } }, { discard: { request: false } }, { discard: { other: true, request: false } }],
    [{ lazyRefcounts: true }, { lazyRefcounts: undefined }, { lazyRefcounts: true }],
  ])('%o and then %o come to %o', (old, changes, expected) => {
    const joined = joinOptions(old, changes);
    expect(joined).toEqual({ discard: {}, ...expected });
  });
});

describe('an image that was inactivated', () => {
  it('is clean in the file, and answers nothing with anything but INACTIVE until it is invalidated', () => {
    const { image, storage, isDirty } = fresh({ lazyRefcounts: true });
    image.write(0, Uint8Array.of(5));
    image.inactivate();
    expect(isDirty()).toBe(false);
    const calls: (() => void)[] = [
      () => image.read(0, new Uint8Array(1)),
      () => image.write(0, Uint8Array.of(1)),
      () => image.writeZeroes(0, 512),
      () => image.discard(0, 512),
      () => image.extents(0, 512),
      () => image.resize(2 * SIZE),
      () => image.flush(),
      () => image.reopen({}),
      () => image.inactivate(),
      () => image.cleanCaches(),
    ];
    for (const call of calls) expect(call).toThrow(withCode('INACTIVE'));
    image.invalidate();
    expect(byteAt(image, 0)).toBe(5);
    image.inactivate();
    const left = storage.toBytes();
    image.close();
    expectSameBytes(storage.toBytes(), left, 'the file after the close');
  });

  it('sees, invalidated, what somebody else wrote meanwhile, the size and the layout included', () => {
    const { image, storage } = fresh();
    image.write(0, Uint8Array.of(5));
    image.inactivate();
    const other = new MemoryStorage();
    createImage(other, { size: 3 * SIZE, clusterSize: 65536, lazyRefcounts: true });
    const theirs = openImage(other);
    theirs.write(2 * SIZE, Uint8Array.of(9));
    theirs.close();
    storage.truncate(0);
    storage.write(0, other.toBytes());
    image.invalidate();
    expect([image.size, image.clusterSize, image.lazyRefcounts]).toEqual([3 * SIZE, 65536, true]);
    expect([byteAt(image, 0), byteAt(image, 2 * SIZE)]).toEqual([0, 9]);
    image.write(100, Uint8Array.of(1));
    image.close();
    expect(byteAt(openImage(storage), 100)).toBe(1);
  });

  it('stays inactive when what it finds can not be opened, and can try again', () => {
    const { image, storage } = fresh();
    image.inactivate();
    const good = storage.toBytes();
    storage.write(0, new Uint8Array(4));
    expect(() => image.invalidate()).toThrow(withCode('NOT_QCOW2'));
    expect(() => image.read(0, new Uint8Array(1))).toThrow(withCode('INACTIVE'));
    storage.write(0, good);
    image.invalidate();
    expect(byteAt(image, 0)).toBe(0);
  });

  it('refuses to go on over a backing file that nobody allowed', () => {
    const named = (name: string): CreateOptions => ({ size: SIZE, backing: { name, format: 'raw' } });
    const storage = new MemoryStorage();
    createImage(storage, named('base'));
    const image = openImage(storage, { backing: new RawDisk(new MemoryStorage(Uint8Array.of(1))) });
    image.inactivate();
    createImage(storage, named('/etc/passwd'));
    expect(() => image.invalidate()).toThrow(withCode('BACKING', '"/etc/passwd" instead of "base"'));
  });

  it.each<[string, string | null, string | null, string]>([
    ['has a data file now', null, 'data', '"data" instead of none'],
    ['has another data file now', 'data', '/etc/passwd', '"/etc/passwd" instead of "data"'],
    ['keeps its data itself now', 'data', null, 'none instead of "data"'],
  ])('is not invalidated, and not damaged, when it %s', (_, before, after, message) => {
    const make = (name: string | null) => {
      const storage = new MemoryStorage();
      const data = new MemoryStorage();
      createImage(storage, { size: SIZE, ...(name === null ? {} : { dataFile: { name, storage: data } }) });
      return { storage, files: name === null ? {} : { dataFile: data } };
    };
    const { storage, files } = make(before);
    const image = openImage(storage, files);
    image.inactivate();
    const theirs = make(after).storage.toBytes();
    storage.truncate(0);
    storage.write(0, theirs);
    expect(() => image.invalidate()).toThrow(withCode('BACKING', message));
    expect(() => image.write(0, Uint8Array.of(1))).toThrow(withCode('INACTIVE'));
    image.close();
    expectSameBytes(storage.toBytes(), theirs, 'the file');
  });

  it('writes nothing when it is invalidated without having been inactive, but what it had to', () => {
    const { image, storage } = fresh();
    image.write(0, Uint8Array.of(5));
    image.invalidate();
    expect(byteAt(image, 0)).toBe(5);
    expect(byteAt(openImage(new MemoryStorage(storage.toBytes())), 0)).toBe(5);
  });
});

describe('cleaning the caches', () => {
  /** 4 KiB of L2 table for 2 MiB of disk: 1 GiB has 512 tables, 2 MiB in memory. */
  const TABLES = 512;
  const SPAN = 2 << 20;

  function filled() {
    const opened = fresh({ size: TABLES * SPAN });
    for (let table = 0; table < TABLES; table++) opened.image.write(table * SPAN, Uint8Array.of(table & 0xff));
    opened.image.flush();
    return opened;
  }

  const misses = (image: ReturnType<typeof fresh>['image'], tables: number) => {
    const before = image.statistics().cacheMisses;
    for (let table = 0; table < tables; table++) expect(byteAt(image, table * SPAN)).toBe(table & 0xff);
    return image.statistics().cacheMisses - before;
  };

  it('keeps what was used since the last time', () => {
    const { image } = filled();
    image.cleanCaches();
    expect(misses(image, TABLES)).toBe(0);
    image.cleanCaches();
    expect(misses(image, TABLES / 2)).toBe(0);
    image.cleanCaches();
    expect(misses(image, TABLES / 2)).toBe(0);
    expect(misses(image, TABLES)).toBe(TABLES / 2);
  });

  it('gives the memory of an idle image back, and its changes and statistics stay', () => {
    const { image, storage } = filled();
    const before = image.statistics();
    image.cleanCaches();
    const memory = image.tables;
    image.cleanCaches();
    expect(image.tables).not.toBe(memory);
    expect(image.statistics().cacheMisses).toBe(before.cacheMisses);
    expect(misses(image, 4)).toBe(4);
    image.write(7, Uint8Array.of(9));
    image.close();
    expect(byteAt(openImage(storage), 7)).toBe(9);
  });

  it('keeps the memory while changes wait for a flush', () => {
    const { image } = filled();
    image.cleanCaches();
    image.write(TABLES * SPAN - CLUSTER, Uint8Array.of(1));
    const memory = image.tables;
    image.cleanCaches();
    image.cleanCaches();
    expect(image.tables).toBe(memory);
    image.flush();
    image.cleanCaches();
    image.cleanCaches();
    expect(image.tables).not.toBe(memory);
    expect(byteAt(image, TABLES * SPAN - CLUSTER)).toBe(1);
  });

  it('is due every ten minutes, unless told otherwise', () => {
    const { image } = fresh();
    expect(image.cacheCleanInterval).toBe(600);
    image.reopen({ cacheCleanInterval: 0 });
    expect(image.cacheCleanInterval).toBe(0);
  });
});

describe('the caches of a disk that grows', () => {
  it('grow with it', () => {
    const { image } = fresh({ size: 1 << 20 });
    const before = image.tables.cacheSizes.l2Slots;
    image.write(0, Uint8Array.of(1));
    image.resize(1 << 30);
    expect(image.tables.cacheSizes.l2Slots).toBeGreaterThan(before);
    expect(byteAt(image, 0)).toBe(1);
  });
});

describe('a random run', () => {
  const ACTIONS: readonly DiskAction[] = ['read', 'write', 'write', 'write', 'writeZeroes', 'unmap', 'discard'];
  const CHANGES: readonly ((random: SeededRandom) => ReopenOptions)[] = [
    (random) => ({ cacheSize: random.below(20) * CLUSTER }),
    (random) => ({ l2CacheSize: random.below(20) * CLUSTER, l2CacheEntrySize: random.pick([512, 1024, CLUSTER]) }),
    (random) => ({ refcountCacheSize: random.below(20) * CLUSTER }),
    (random) => ({ lazyRefcounts: random.oneIn(2) }),
    (random) => ({ overlapCheck: random.pick(['none', 'constant', 'cached', 'all'] as const) }),
    (random) => ({ discard: { request: random.oneIn(2), other: random.oneIn(2) } }),
    () => ({}),
  ];

  it.each([0, 1, 2])('of changes of the disk and of its options keeps every byte (%i)', (salt) =>
    withSeed('reopening at random', seedOfThisRun(500 + salt), (random) => {
      const { image, storage } = fresh({ size: 1 << 20, lazyRefcounts: salt === 1, refcountBits: salt === 2 ? 1 : 16 });
      const model = new ModelDisk({ size: 1 << 20, clusterSize: CLUSTER, version: 3 });
      for (let index = 0; index < 1500; index++) {
        const turn = random.below(100);
        if (turn < 8) image.reopen(random.pick(CHANGES)(random));
        else if (turn < 12) image.invalidate();
        else if (turn < 16) image.cleanCaches();
        else {
          const range = randomRange(random, model.size, CLUSTER, 3 * CLUSTER);
          act(random.pick(ACTIONS), range, { disk: image, model, random });
        }
      }
      expectSameBytes(readWhole(image), model.bytes, 'what we read');
      image.close();
      expectSameBytes(readWhole(openImage(storage)), model.bytes, 'what we read later');
    }),
  );
});
