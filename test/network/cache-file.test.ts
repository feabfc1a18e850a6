/**
 * The file that keeps a base. They prove: what it says is here is here, after any crash and whatever several threads do; what a crash loses is
 * fetched again; and a damaged or foreign file is never read as chunks.
 */
import { describe, expect, it } from 'vitest';
import { Qcow2Error } from '../../src/errors.js';
import { CacheFile } from '../../src/network/cache-file.js';
import { ChunkGeometry } from '../../src/network/chunk-geometry.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { patternBytes } from '../storage/conformance.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';

const CHUNK = 64 * 1024;
const GEOMETRY = new ChunkGeometry(9 * CHUNK + 100, CHUNK);
const LABEL = { url: 'https://example.test/base.img', identity: 'etag:"v1"', served: 'etag:"v1"' };
const SECTOR = 512;

function content(index: number): Uint8Array<ArrayBuffer> {
  return patternBytes(GEOMETRY.length(index), index);
}

function wholeChunk(cache: CacheFile, index: number): Uint8Array | null {
  const target = new Uint8Array(GEOMETRY.length(index));
  return cache.read(index, 0, target) ? target : null;
}

/** Each chunk is not here, or here as it came. */
function expectTrue(cache: CacheFile): number {
  let count = 0;
  for (let index = 0; index < GEOMETRY.count; index++) {
    const bytes = wholeChunk(cache, index);
    if (bytes === null) continue;
    expectSameBytes(bytes, content(index), `chunk ${index}`);
    count++;
  }
  return count;
}

/** Remembers the writes since the last flush; any part of them may be lost. */
class CrashingStorage extends MemoryStorage {
  stable = new Uint8Array(0);
  unstable: { offset: number; bytes: Uint8Array }[] = [];

  override write(offset: number, source: Uint8Array): void {
    super.write(offset, source);
    this.unstable.push({ offset, bytes: source.slice() });
  }

  override truncate(size: number): void {
    super.truncate(size);
    this.unstable = [];
    this.stable = this.toBytes();
  }

  override flush(): void {
    this.stable = this.toBytes();
    this.unstable = [];
  }

  /** What a crash may leave: of each write since the last flush, some sectors. */
  crash(random: SeededRandom): MemoryStorage {
    const left = new MemoryStorage(this.stable.slice());
    for (const { offset, bytes } of this.unstable) {
      for (let at = 0; at < bytes.length; at += SECTOR - ((offset + at) % SECTOR)) {
        const end = Math.min(bytes.length, at + SECTOR - ((offset + at) % SECTOR));
        if (random.oneIn(2)) left.write(offset + at, bytes.subarray(at, end));
      }
    }
    return left;
  }
}

describe('a cache file', () => {
  it('has what was appended, in any order, after it was opened again', () => {
    const storage = new MemoryStorage();
    const cache = CacheFile.create(storage, GEOMETRY, LABEL);
    cache.append([
      { index: 9, bytes: content(9) },
      { index: 2, bytes: content(2) },
    ]);
    cache.append([{ index: 0, bytes: content(0) }]);
    const again = CacheFile.open(storage)!;
    expect(again.label).toEqual(LABEL);
    expect(again.geometry).toEqual(GEOMETRY);
    expect([...again.known()]).toEqual([0, 2, 9]);
    expect(expectTrue(again)).toBe(3);
  });

  it('is as long as what it keeps', () => {
    const storage = new MemoryStorage();
    const cache = CacheFile.create(storage, GEOMETRY, LABEL);
    const empty = storage.size;
    cache.append([{ index: 8, bytes: content(8) }]);
    expect(storage.size - empty).toBe(CHUNK);
  });

  it('reads parts of chunks', () => {
    const cache = CacheFile.create(new MemoryStorage(), GEOMETRY, LABEL);
    cache.append([{ index: 3, bytes: content(3) }]);
    const target = new Uint8Array(50);
    expect(cache.read(3, 1000, target)).toBe(true);
    expectSameBytes(target, content(3).subarray(1000, 1050), 'a part');
  });

  it('holds nothing false whatever a crash leaves of it', async () => {
    for (let round = 0; round < 60; round++) {
      await withSeed('a crash', seedOfThisRun(200 + round), (random) => {
        const storage = new CrashingStorage();
        const cache = CacheFile.create(storage, GEOMETRY, LABEL);
        const order = Array.from({ length: GEOMETRY.count }, (_, index) => index).sort(() => random.next() - 2 ** 31);
        let left: MemoryStorage | null = null;
        const flush = storage.flush.bind(storage);
        const crashAt = random.below(4);
        let flushes = 0;
        // In the middle of an append: data written, not flushed; or flushed, and entries written.
        storage.flush = () => {
          if (flushes++ === crashAt && random.oneIn(2)) left ??= storage.crash(random);
          flush();
        };
        for (let at = 0; at < order.length && left === null; at += 3) {
          cache.append(order.slice(at, at + 3).map((index) => ({ index, bytes: content(index) })));
          if (flushes > crashAt) left ??= storage.crash(random);
        }
        const after = CacheFile.open(left ?? storage.crash(random))!;
        expectTrue(after);
        // And it goes on from there.
        const missing = order.filter((index) => !after.has(index));
        after.append(missing.map((index) => ({ index, bytes: content(index) })));
        expect(expectTrue(after)).toBe(GEOMETRY.count);
      });
    }
  });

  it('finds what another thread has appended, and appends behind it', () => {
    const storage = new MemoryStorage();
    const one = CacheFile.create(storage, GEOMETRY, LABEL);
    const other = CacheFile.open(storage)!;
    one.append([{ index: 5, bytes: content(5) }]);
    expect(other.has(5)).toBe(true);
    other.append([{ index: 6, bytes: content(6) }]);
    expect(expectTrue(one)).toBe(2);
    expect(expectTrue(other)).toBe(2);
  });

  it('does not take a damaged chunk from another thread that has mended it', () => {
    const storage = new MemoryStorage();
    const one = CacheFile.create(storage, GEOMETRY, LABEL);
    one.append([{ index: 5, bytes: content(5) }]);
    const other = CacheFile.open(storage)!;
    storage.write(storage.size - 10, Uint8Array.of(1, 2, 3));
    expect(one.verify(5)).toBe(false);
    one.append([{ index: 5, bytes: content(5) }]);
    expect(expectTrue(other)).toBe(1);
    expect(expectTrue(CacheFile.open(storage)!)).toBe(1);
  });

  it('is none where the header is torn, foreign, or of another version', () => {
    expect(CacheFile.open(new MemoryStorage())).toBeNull();
    expect(CacheFile.open(new MemoryStorage(patternBytes(10_000)))).toBeNull();
    const storage = new MemoryStorage();
    CacheFile.create(storage, GEOMETRY, LABEL);
    for (const at of [0, 5, 17, 29, 60, 4000]) {
      const torn = new MemoryStorage(storage.toBytes());
      torn.write(at, Uint8Array.of(0x5a));
      expect(CacheFile.open(torn)).toBeNull();
    }
  });

  it('of the layout before is none, and is made anew in its place', () => {
    const storage = new MemoryStorage();
    CacheFile.create(storage, GEOMETRY, LABEL).append([{ index: 1, bytes: content(1) }]);
    storage.write(4, Uint8Array.of(0, 0, 0, 1));
    expect(CacheFile.open(storage)).toBeNull();
    expect([...CacheFile.create(storage, GEOMETRY, LABEL).known()]).toEqual([]);
    expect(CacheFile.open(storage)!.label).toEqual(LABEL);
  });

  it('has notes, which other threads read, and which leave the header good', () => {
    const storage = new MemoryStorage();
    const { notes } = CacheFile.create(storage, GEOMETRY, LABEL);
    const other = CacheFile.open(storage)!.notes;
    expect([other.lastUsed, other.digest, other.hasProfile('p')]).toEqual([null, 'not compared', false]);
    notes.lastUsed = 1_763_000_000_000;
    notes.digest = 'wrong';
    notes.noteProfile('p');
    const again = CacheFile.open(storage)!.notes;
    for (const { lastUsed, digest } of [other, again]) expect([lastUsed, digest]).toEqual([1_763_000_000_000, 'wrong']);
    expect([again.hasProfile('p'), again.hasProfile('q')]).toEqual([true, false]);
  });

  it('takes entries that are rubbish for chunks that are not here', async () => {
    await withSeed('rubbish', seedOfThisRun(300), (random) => {
      const storage = new MemoryStorage();
      CacheFile.create(storage, GEOMETRY, LABEL).append([{ index: 1, bytes: content(1) }]);
      for (let index = 0; index < GEOMETRY.count * 8; index++) {
        if (index < 8 || index >= 16) storage.write(4096 + index, Uint8Array.of(random.below(256)));
      }
      expect(expectTrue(CacheFile.open(storage)!)).toBe(1);
    });
  });
});

/** Has room for so many bytes. */
class FullStorage extends MemoryStorage {
  room = Infinity;

  override write(offset: number, source: Uint8Array): void {
    if (offset + source.length > this.room) throw new Qcow2Error('NO_SPACE', 'no room is left');
    super.write(offset, source);
  }
}

describe('a cache file without room', () => {
  it('is no longer for what it could not keep, however often that is tried', () => {
    const storage = new FullStorage();
    const cache = CacheFile.create(storage, GEOMETRY, LABEL);
    cache.append([{ index: 3, bytes: content(3) }]);
    const before = storage.size;
    storage.room = before + CHUNK + 1000;
    const batch = [5, 6].map((index) => ({ index, bytes: content(index) }));
    for (let time = 0; time < 3; time++) {
      expect(() => cache.append(batch)).toThrow('no room is left');
      expect(storage.size).toBe(before);
      expect([3, 5, 6].map((index) => cache.has(index))).toEqual([true, false, false]);
    }
    storage.room = Infinity;
    cache.append(batch);
    expect(storage.size).toBe(before + 2 * CHUNK);
    expect(expectTrue(CacheFile.open(storage)!)).toBe(3);
  });
});
