/** Which freed clusters are given back to the host, and that none of them is anybody's then. */
import { describe, expect, it } from 'vitest';
import {
  createImage,
  MemoryStorage,
  openImage,
  type CreateOptions,
  type OpenOptions,
  type Storage,
} from '../../src/index.js';
import { act, randomRange, readWhole, type DiskAction } from '../support/disk-actions.js';
import { expectSameBytes, ModelDisk } from '../support/model-disk.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';

const CLUSTER = 4096;
const SIZE = 1 << 20;

type HoleEvent =
  { readonly kind: 'hole'; readonly offset: number; readonly length: number } | { readonly kind: 'write' | 'flush' };

/** A storage in memory that destroys what a hole is punched in, and keeps a log. */
class HoleStorage implements Storage {
  readonly readOnly = false;
  readonly inner = new MemoryStorage();
  readonly log: HoleEvent[] = [];

  get size(): number {
    return this.inner.size;
  }
  read(offset: number, target: Uint8Array): void {
    this.inner.read(offset, target);
  }
  write(offset: number, source: Uint8Array): void {
    this.log.push({ kind: 'write' });
    this.inner.write(offset, source);
  }
  truncate(size: number): void {
    this.inner.truncate(size);
  }
  flush(): void {
    this.log.push({ kind: 'flush' });
  }
  punchHole(offset: number, length: number): void {
    this.log.push({ kind: 'hole', offset, length });
    const end = Math.min(this.size, offset + length);
    if (end > offset) this.inner.write(offset, new Uint8Array(end - offset).fill(0xdd));
  }
  close(): void {}

  get holes(): readonly { offset: number; length: number }[] {
    return this.log.flatMap((event) => (event.kind === 'hole' ? [{ offset: event.offset, length: event.length }] : []));
  }
}

function fresh(open: OpenOptions = {}, create: Partial<CreateOptions> = {}) {
  const storage = new HoleStorage();
  createImage(storage, { size: SIZE, clusterSize: CLUSTER, ...create });
  const image = openImage(storage, open);
  image.write(0, new Uint8Array(10 * CLUSTER).fill(7));
  image.flush();
  storage.log.length = 0;
  const [first] = image.extents(0, CLUSTER);
  if (first?.kind !== 'data') throw new Error('nothing was written');
  return { storage, image, host: first.host };
}

describe('a discard', () => {
  it('becomes a hole once nothing stable names the clusters: behind a barrier of the flush', () => {
    const { storage, image, host } = fresh();
    image.discard(CLUSTER, 4 * CLUSTER);
    expect(storage.holes).toEqual([]);
    image.flush();
    expect(storage.holes).toEqual([{ offset: host + CLUSTER, length: 4 * CLUSTER }]);
    const kinds = storage.log.map((event) => event.kind);
    // The L2 table without them is written and made stable; only then do they go, and their counts behind them.
    expect(kinds).toEqual(['write', 'flush', 'hole', 'write']);
    image.flush();
    expect(storage.holes).toHaveLength(1);
  });

  it('and zeroes that may unmap are passed down, zeroes that may not are none of it', () => {
    const { storage, image } = fresh();
    image.writeZeroes(0, CLUSTER);
    image.flush();
    expect(storage.holes).toEqual([]);
    image.writeZeroes(CLUSTER, CLUSTER, { unmap: true });
    image.flush();
    expect(storage.holes).toHaveLength(1);
  });

  it('is kept to the image when `request` is off', () => {
    const { storage, image } = fresh({ discard: { request: false } });
    image.discard(0, 10 * CLUSTER);
    image.close();
    expect(storage.holes).toEqual([]);
  });

  it('punches nothing where another reference is left', () => {
    const { storage, image, host } = fresh();
    image.tables.writable!.refcounts.add(host / CLUSTER + 1, 1, 1);
    image.discard(0, 3 * CLUSTER);
    image.flush();
    expect(storage.holes).toEqual([
      { offset: host, length: CLUSTER },
      { offset: host + 2 * CLUSTER, length: CLUSTER },
    ]);
  });

  it('can be passed down from the next flush on, when the image is reopened so', () => {
    const { storage, image } = fresh({ discard: { request: false } });
    image.discard(0, CLUSTER);
    image.reopen({ discard: { request: true } });
    expect(storage.holes).toEqual([]);
    image.discard(CLUSTER, CLUSTER);
    image.flush();
    expect(storage.holes).toHaveLength(1);
  });
});

describe('what is freed for other reasons', () => {
  it('is kept by default, and passed down when asked for: an old L1 table', () => {
    for (const other of [false, true]) {
      const { storage, image } = fresh({ discard: { other } });
      const { l1Offset } = image.header;
      image.resize(4096 * SIZE);
      image.flush();
      const l1Hole = storage.holes.some(({ offset }) => offset === l1Offset);
      expect(l1Hole).toBe(other);
    }
  });

  it('is passed down for a snapshot unless that is off, and always where the caller insists', () => {
    const punched = (discard: OpenOptions['discard'], reason: 'snapshot' | 'always' | 'never') => {
      const { storage, image, host } = fresh(discard === undefined ? {} : { discard });
      const { allocator, refcounts } = image.tables.writable!;
      expect(refcounts.get(host / CLUSTER)).toBe(1);
      image.tables.l2.unlink(0, 1);
      image.flush();
      storage.log.length = 0;
      const other = allocator.allocateContiguous(1);
      allocator.free(other, CLUSTER, reason);
      image.flush();
      return storage.holes.length;
    };
    expect(punched(undefined, 'snapshot')).toBe(1);
    expect(punched({ snapshot: false }, 'snapshot')).toBe(0);
    expect(punched({ request: false, snapshot: false, other: false }, 'always')).toBe(1);
    expect(punched({ request: true, snapshot: true, other: true }, 'never')).toBe(0);
  });
});

describe('an external data file', () => {
  it('gets the holes at once: nothing is counted there', () => {
    const storage = new MemoryStorage();
    const dataFile = new HoleStorage();
    createImage(storage, { size: SIZE, clusterSize: CLUSTER });
    const bytes = storage.toBytes();
    new DataView(bytes.buffer).setBigUint64(72, 1n << 2n);
    const image = openImage(new MemoryStorage(bytes), { dataFile });
    image.write(0, new Uint8Array(4 * CLUSTER).fill(3));
    image.discard(CLUSTER, CLUSTER);
    expect(dataFile.holes).toEqual([{ offset: CLUSTER, length: CLUSTER }]);
    const target = new Uint8Array(4 * CLUSTER);
    image.read(0, target);
    const expected = new Uint8Array(4 * CLUSTER).fill(3).fill(0, CLUSTER, 2 * CLUSTER);
    expectSameBytes(target, expected, 'what we read');
  });
});

describe('a random run over a host that destroys what is in its holes', () => {
  const ACTIONS: readonly DiskAction[] = ['read', 'write', 'write', 'write', 'unmap', 'discard', 'discard'];

  it.each([0, 1])('loses nothing (%i)', (salt) =>
    withSeed('holes', seedOfThisRun(700 + salt), (random) => {
      const storage = new HoleStorage();
      createImage(storage, { size: SIZE, clusterSize: CLUSTER, lazyRefcounts: salt === 1 });
      const small = { l2CacheSize: 0, refcountCacheSize: 0, discard: { other: true } };
      let image = openImage(storage, small);
      const model = new ModelDisk({ size: SIZE, clusterSize: CLUSTER, version: 3 });
      for (let index = 0; index < 2000; index++) {
        const range = randomRange(random, model.size, CLUSTER, 4 * CLUSTER);
        act(random.pick(ACTIONS), range, { disk: image, model, random });
        if (random.oneIn(10)) image.flush();
        if (random.oneIn(200)) {
          image.close();
          image = openImage(storage, small);
        }
      }
      expectSameBytes(readWhole(image), model.bytes, 'what we read');
      expect(storage.holes.length).toBeGreaterThan(50);
    }),
  );
});
