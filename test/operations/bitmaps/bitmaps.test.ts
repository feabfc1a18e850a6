/** Bitmaps of an open image: their limits, what is written when, and what becomes of those that are damaged or not known. */
import { describe, expect, it } from 'vitest';
import {
  addBitmap,
  checkImage,
  clearBitmap,
  createImage,
  dirtyBytes,
  dirtyRanges,
  forgetLostBitmaps,
  hasLostBitmaps,
  disableBitmap,
  listBitmaps,
  makeEmpty,
  MemoryStorage,
  mergeBitmap,
  newBitmapProblem,
  openImage,
  Qcow2Error,
  removeBitmap,
  runToEnd,
  storeBitmaps,
  type NewBitmap,
  type Qcow2Image,
} from '../../../src/index.js';
import { RecordingStorage } from '../../crash/recording-storage.js';
import { FailingStorage } from '../../storage/failing.js';
import { extensionAt, rawBitmaps } from '../../support/raw-bitmaps.js';
import { Qcow2Bytes } from '../../support/qcow2-bytes.js';
import { changed, CLUSTER, code, imageBytes, SIZE } from './bitmap-files.js';

describe('a new bitmap', () => {
  it('is as it was asked for, and by default enabled, with the granularity that QEMU would take', () => {
    const image = openImage(new MemoryStorage(imageBytes()));
    expect(addBitmap(image, { name: 'a' })).toEqual({
      name: 'a',
      granularity: 4096,
      enabled: true,
      state: 'consistent',
    });
    addBitmap(image, { name: 'b', granularity: 2 ** 31, enabled: false });
    expect(listBitmaps(image).map(({ name, enabled }) => [name, enabled])).toEqual([['a', true], ['b', false]]); // prettier-ignore
    const defaults = [512, 65536, 2 ** 21].map((clusterSize) => {
      const other = openImage(new MemoryStorage(imageBytes([], { clusterSize })));
      return addBitmap(other, { name: 'a' }).granularity;
    });
    expect(defaults).toEqual([4096, 65536, 65536]);
  });

  const refused: [NewBitmap, string, string][] = [
    [{ name: '' }, 'no name', 'BAD_ARGUMENT'],
    [{ name: 'a\ud800' }, 'name', 'BAD_ARGUMENT'],
    [{ name: '\udc00\ud800' }, 'name', 'BAD_ARGUMENT'],
    [{ name: 'a\0b' }, 'name', 'BAD_ARGUMENT'],
    [{ name: 'b', granularity: 1000 }, 'granularity', 'BAD_ARGUMENT'],
    [{ name: 'b', granularity: 2 ** 32 }, 'granularity too large', 'BAD_ARGUMENT'],
    [{ name: 'b', granularity: 256 }, 'granularity too small', 'BAD_ARGUMENT'],
    [{ name: 'there' }, 'exists', 'BAD_ARGUMENT'],
    [{ name: 'ä'.repeat(512) }, 'name too long', 'LIMIT'],
  ];
  it.each(refused)('%j is refused: %s', (bitmap, problem, expected) => {
    const bytes = imageBytes([{ name: 'there' }]);
    const storage = new MemoryStorage(bytes.slice());
    const image = openImage(storage);
    expect(newBitmapProblem(image, bitmap)).toBe(problem);
    expect(code(() => addBitmap(image, bitmap))).toBe(expected);
    image.close();
    expect(Buffer.compare(storage.toBytes(), bytes)).toBe(0);
  });

  it('is refused for an image that is read-only, has version 2, an empty disk, or one too large for the granularity', () => {
    const readOnly = openImage(new MemoryStorage(imageBytes()), { readOnly: true });
    expect(code(() => addBitmap(readOnly, { name: 'b' }))).toBe('READ_ONLY');
    const old = openImage(new MemoryStorage(imageBytes([], { version: 2 })));
    expect(code(() => addBitmap(old, { name: 'b' }))).toBe('UNSUPPORTED');
    const empty = openImage(new MemoryStorage(imageBytes([], { size: 0 })));
    expect(code(() => addBitmap(empty, { name: 'b' }))).toBe('UNSUPPORTED');
    const large = openImage(new MemoryStorage(imageBytes([], { size: 2 ** 42, clusterSize: 65536 })));
    expect(code(() => addBitmap(large, { name: 'b', granularity: 512 }))).toBe('LIMIT');
    expect(() => addBitmap(large, { name: 'b', granularity: 1024 })).not.toThrow();
    expect(code(() => large.resize(2 ** 43))).toBe('LIMIT');
  });
});

describe('the file', () => {
  it('says in use, stably, before the guest changes anything else, once, and of enabled bitmaps alone', () => {
    const storage = new RecordingStorage(imageBytes([{ name: 'on' }, { name: 'off', enabled: false }]));
    const flags = () => rawBitmaps(bytesOf(storage)).map((bitmap) => bitmap.flags);
    const image = openImage(storage);
    image.read(0, new Uint8Array(SIZE));
    image.flush();
    expect(storage.events.filter(({ kind }) => kind === 'write')).toEqual([]);
    storage.events.length = 0;
    image.write(0, Uint8Array.of(1));
    const [first, second] = storage.events;
    expect([first?.kind, second?.kind]).toEqual(['write', 'flush']);
    expect(first?.kind === 'write' && first.bytes.length).toBe(64);
    expect(flags()).toEqual([3, 0]);
    const after = storage.events.length;
    image.write(100, Uint8Array.of(1));
    expect(storage.events.slice(after).map(({ kind }) => kind)).toEqual(['write']);
    storeBitmaps(image);
    expect(flags()).toEqual([2, 0]);
    image.discard(0, CLUSTER);
    expect(flags()).toEqual([3, 0]);
    image.close();
    expect(flags()).toEqual([2, 0]);
  });

  it('keeps the table of a bitmap in which nothing new was marked', () => {
    const storage = new MemoryStorage(imageBytes([{ name: 'b' }]));
    const image = openImage(storage);
    image.write(0, Uint8Array.of(1));
    storeBitmaps(image);
    const before = rawBitmaps(storage.toBytes())[0]!.table;
    image.write(5, Uint8Array.of(2));
    image.close();
    expect(rawBitmaps(storage.toBytes())[0]!.table).toEqual(before);
  });

  it('does not change when an image is opened for writing, and closed', () => {
    const bytes = imageBytes([{ name: 'b' }]);
    const storage = new MemoryStorage(bytes.slice());
    openImage(storage).close();
    expect(Buffer.compare(storage.toBytes(), bytes)).toBe(0);
  });

  it('keeps the bitmap in use when there is no room to store it, and all that the guest wrote', () => {
    const storage = new FailingStorage(imageBytes([{ name: 'b', granularity: 512 }]));
    const image = openImage(storage);
    image.write(0, new Uint8Array(CLUSTER).fill(5));
    image.flush();
    storage.failOn('truncate', new Qcow2Error('NO_SPACE', 'full'));
    expect(code(() => storeBitmaps(image))).toBe('NO_SPACE');
    image.write(0, new Uint8Array(10).fill(6));
    expect(code(() => image.close())).toBe('NO_SPACE');
    storage.heal();
    const again = openImage(new MemoryStorage(storage.inner.toBytes()));
    const bytes = new Uint8Array(11);
    again.read(0, bytes);
    expect([...bytes]).toEqual([6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 5]);
    expect(listBitmaps(again)).toMatchObject([{ state: 'inconsistent' }]);
  });

  it('is as before when the header has no room for what leads to the bitmaps', () => {
    const storage = new MemoryStorage();
    const backing = { name: 'x'.repeat(370), format: 'raw' } as const;
    createImage(storage, { size: SIZE, clusterSize: 512, backing });
    const image = openImage(storage, { backing: null });
    expect(code(() => addBitmap(image, { name: 'b' }))).toBe('LIMIT');
    expect(listBitmaps(image)).toEqual([]);
    image.write(0, Uint8Array.of(1));
    image.close();
    expect(runToEnd(checkImage(storage))).toMatchObject({ corruptions: 0, leaks: 0 });
    expect(rawBitmaps(storage.toBytes())).toEqual([]);
  });

  function bytesOf(storage: RecordingStorage): Uint8Array {
    const bytes = new Uint8Array(storage.size);
    storage.read(0, bytes);
    return bytes;
  }
});

describe('bitmaps that can not be used', () => {
  const guestGoesOn = (image: Qcow2Image): void => {
    image.write(5000, new Uint8Array(3000).fill(1));
    image.flush();
  };

  it('because their directory is damaged are not listed, keep no guest from writing, and are given up with the first change', () => {
    const bytes = changed(imageBytes([{ name: 'b' }]), (file, directory) => file.setU32(directory + 12, 0x80));
    const storage = new MemoryStorage(bytes);
    const image = openImage(storage);
    expect(code(() => listBitmaps(image))).toBe('BAD_IMAGE');
    expect(code(() => addBitmap(image, { name: 'c' }))).toBe('BAD_IMAGE');
    image.resize(2 * SIZE);
    guestGoesOn(image);
    expect(listBitmaps(image)).toEqual([]);
    addBitmap(image, { name: 'c' });
    image.close();
    expect(rawBitmaps(storage.toBytes())).toMatchObject([{ name: 'c' }]);
  });

  it.each<[string, bigint]>([
    ['is misplaced', 513n],
    ['lies behind the end of the file', 1n << 40n],
  ])('because a cluster of one %s: it becomes inconsistent, the others stay', (_, entry) => {
    const bytes = changed(imageBytes([{ name: 'bad' }, { name: 'good' }]), (file, directory) =>
      file.setBits(file.u64(directory), entry),
    );
    const storage = new MemoryStorage(bytes);
    const image = openImage(storage);
    expect(code(() => dirtyRanges(image, 'bad'))).toBe('BAD_IMAGE');
    guestGoesOn(image);
    expect(listBitmaps(image).map(({ state }) => state)).toEqual(['inconsistent', 'consistent']);
    expect([...dirtyRanges(image, 'good')]).toEqual([{ offset: 4096, length: 4096 }]);
    removeBitmap(image, 'bad');
    image.close();
    expect(rawBitmaps(storage.toBytes())).toMatchObject([{ name: 'good', flags: 2 }]);
  });

  it('because their table is for another disk are refused', () => {
    const bytes = changed(imageBytes([{ name: 'b' }]), (file, directory) => file.setU32(directory + 8, 2));
    expect(code(() => dirtyBytes(openImage(new MemoryStorage(bytes)), 'b'))).toBe('BAD_IMAGE');
  });

  /** The name is moved back, and 8 bytes of extra data take its place. The directory was and is 40 bytes long. */
  const withExtraData = (flags: number) =>
    changed(imageBytes([{ name: 'a name of 16 ...' }]), (file, directory) => {
      file.setU32(directory + 12, flags);
      file.setU32(directory + 16, 0x010c_0008);
      file.setU32(directory + 20, 8);
      file.setBits(directory + 24, 0x1122_3344_5566_7788n);
    });

  it('because of extra data that forbid it are kept as they are, until the guest changes what they are about', () => {
    const storage = new MemoryStorage(withExtraData(2));
    const image = openImage(storage);
    expect(listBitmaps(image)).toMatchObject([{ name: '16 ...', state: 'foreign' }].map(({ state }) => ({ state })));
    expect(code(() => clearBitmap(image, listBitmaps(image)[0]!.name))).toBe('UNSUPPORTED');
    expect(code(() => image.resize(2 * SIZE))).toBe('UNSUPPORTED');
    addBitmap(image, { name: 'b' });
    expect(rawBitmaps(storage.toBytes()).map(({ flags }) => flags)).toEqual([2, 2]);
    guestGoesOn(image);
    image.close();
    expect(rawBitmaps(storage.toBytes()).map(({ flags }) => flags)).toEqual([3, 2]);
    expect(extraDataOf(storage)).toBe(0x1122_3344_5566_7788n);
  });

  it('but for extra data that allow it, which come back with it', () => {
    const storage = new MemoryStorage(withExtraData(2 + 4));
    const image = openImage(storage);
    guestGoesOn(image);
    image.close();
    expect(rawBitmaps(storage.toBytes())).toMatchObject([{ flags: 6, marked: new Set([1]) }]);
    expect(extraDataOf(storage)).toBe(0x1122_3344_5566_7788n);
  });

  function extraDataOf(storage: MemoryStorage): bigint {
    const file = new Qcow2Bytes(storage.toBytes());
    return file.bits(file.u64(extensionAt(file)! + 16) + 24);
  }
});

describe('bitmaps that software without them has made out of date', () => {
  it('are told of, by nothing else than that, until the image is to forget them', () => {
    const bytes = imageBytes([{ name: 'b' }]);
    bytes[95] = 0;
    const storage = new MemoryStorage(bytes);
    const readOnly = openImage(storage, { readOnly: true });
    expect([hasLostBitmaps(readOnly), listBitmaps(readOnly)]).toEqual([true, []]);
    expect(code(() => forgetLostBitmaps(readOnly))).toBe('READ_ONLY');
    const image = openImage(storage);
    image.write(0, Uint8Array.of(1));
    expect([hasLostBitmaps(image), listBitmaps(image)]).toEqual([true, []]);
    forgetLostBitmaps(image);
    expect(hasLostBitmaps(image)).toBe(false);
    image.close();
    expect(extensionAt(new Qcow2Bytes(storage.toBytes()))).toBeNull();
    expect(hasLostBitmaps(openImage(new MemoryStorage(imageBytes([{ name: 'b' }]))))).toBe(false);
  });
});

describe('marks', () => {
  it('are those of all bytes that a request names, and of no others', () => {
    const image = openImage(new MemoryStorage(imageBytes([{ name: 'b', granularity: 512 }])));
    const requests: [() => void, { offset: number; length: number }][] = [
      [() => image.write(511, Uint8Array.of(1, 2)), { offset: 0, length: 1024 }],
      [() => image.writeZeroes(1024, 1), { offset: 1024, length: 512 }],
      [() => image.discard(10_000, 1), { offset: 9728, length: 512 }],
      [() => image.writeCompressed(8192, new Uint8Array(4096)), { offset: 8192, length: 4096 }],
      [() => image.write(SIZE - 1, Uint8Array.of(1)), { offset: SIZE - 512, length: 512 }],
    ];
    for (const [request, marked] of requests) {
      request();
      expect([...dirtyRanges(image, 'b')]).toEqual([marked]);
      clearBitmap(image, 'b');
    }
    image.write(0, new Uint8Array(0));
    image.read(0, new Uint8Array(10));
    expect(dirtyBytes(image, 'b')).toBe(0);
  });

  it('are merged from a bitmap of another image whose disk has the same size', () => {
    const one = openImage(new MemoryStorage(imageBytes([{ name: 'b', granularity: 65536 }])));
    const other = openImage(new MemoryStorage(imageBytes([{ name: 'c', granularity: 512 }], { clusterSize: 512 })));
    other.write(100_000, Uint8Array.of(1));
    mergeBitmap(one, 'b', { name: 'c', image: other });
    expect([...dirtyRanges(one, 'b')]).toEqual([{ offset: 65536, length: 65536 }]);
    other.resize(2 * SIZE);
    expect(code(() => mergeBitmap(one, 'b', { name: 'c', image: other }))).toBe('BAD_ARGUMENT');
    expect(code(() => mergeBitmap(one, 'b', { name: 'none' }))).toBe('NOT_FOUND');
  });

  it('are set for all of the disk when it is emptied, unless what it held is in the backing file', () => {
    for (const [committed, expected] of [
      [false, SIZE],
      [true, 0],
    ] as const) {
      // prettier-ignore
      const image = openImage(new MemoryStorage(imageBytes([{ name: 'b' }])));
      image.write(0, new Uint8Array(CLUSTER).fill(1));
      clearBitmap(image, 'b');
      runToEnd(makeEmpty(image, { committed }));
      expect(dirtyBytes(image, 'b')).toBe(expected);
      image.close();
    }
  });

  it('of a disabled bitmap stay, and a read-only image shows them', () => {
    const storage = new MemoryStorage(imageBytes([{ name: 'b' }]));
    const image = openImage(storage);
    image.write(0, Uint8Array.of(1));
    disableBitmap(image, 'b');
    image.write(500_000, Uint8Array.of(1));
    image.close();
    const again = openImage(storage, { readOnly: true });
    expect([...dirtyRanges(again, 'b')]).toEqual([{ offset: 0, length: CLUSTER }]);
    expect(code(() => clearBitmap(again, 'b'))).toBe('READ_ONLY');
  });
});
