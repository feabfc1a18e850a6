/**
 * Autoclear bits: what software does not know it must clear before it changes the image, and not before. (QEMU 7.2 clears
 * unknown ones as soon as it opens an image for writing; the format asks for no more than what is done here.)
 */
import { describe, expect, it } from 'vitest';
import {
  amendImage,
  changeBackingFile,
  createImage,
  MemoryStorage,
  openImage,
  runToEnd,
  type AmendOptions,
  type CreateOptions,
  type Qcow2Image,
} from '../../src/index.js';
import { expectSameBytes } from '../support/model-disk.js';
import { FIELD } from './damaged.js';
import { RecordingStorage } from '../crash/recording-storage.js';

const UNKNOWN = (1n << 63n) | (1n << 7n);
const SIZE = 1 << 20;

function imageWithBits(bits: bigint, options: Partial<CreateOptions> = {}): Uint8Array<ArrayBuffer> {
  const storage = new MemoryStorage();
  createImage(storage, { size: SIZE, clusterSize: 4096, ...options });
  const bytes = storage.toBytes();
  new DataView(bytes.buffer).setBigUint64(FIELD.autoclear, bits);
  return bytes;
}

function bitsOf(bytes: Uint8Array): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(FIELD.autoclear);
}

describe('unknown autoclear bits', () => {
  it('outlive an open, reads, a flush and a close, for writing or not', () => {
    const bytes = imageWithBits(UNKNOWN);
    for (const readOnly of [true, false]) {
      const storage = new MemoryStorage(bytes.slice());
      const image = openImage(storage, { readOnly });
      image.read(0, new Uint8Array(SIZE));
      if (!readOnly) image.write(0, new Uint8Array(0));
      image.flush();
      image.cleanCaches();
      image.close();
      expectSameBytes(storage.toBytes(), bytes, 'the file');
    }
  });

  const changes: [string, (image: Qcow2Image) => void][] = [
    ['write', (image) => image.write(5, Uint8Array.of(1))],
    ['compressed write', (image) => image.writeCompressed(0, new Uint8Array(4096))],
    ['write of zeroes', (image) => image.writeZeroes(0, 4096)],
    ['discard', (image) => image.discard(0, 4096)],
    ['resize', (image) => image.resize(2 * SIZE)],
  ];
  it.each(changes)('are cleared, stably, before a %s changes anything else', (_, change) => {
    const storage = new RecordingStorage(imageWithBits(UNKNOWN));
    const image = openImage(storage);
    change(image);
    const [first, second] = storage.events;
    expect(first).toEqual({ kind: 'write', offset: FIELD.autoclear, bytes: new Uint8Array(8) });
    expect(second).toEqual({ kind: 'flush' });
    image.close();
  });

  it('are cleared once', () => {
    const storage = new RecordingStorage(imageWithBits(UNKNOWN));
    const image = openImage(storage);
    for (let index = 0; index < 5; index++) image.write(index, Uint8Array.of(1));
    const clears = storage.events.filter((event) => event.kind === 'write' && event.offset === FIELD.autoclear);
    expect(clears).toHaveLength(1);
  });

  it('are cleared before the repair of an image left dirty', () => {
    const bytes = imageWithBits(UNKNOWN);
    new DataView(bytes.buffer).setBigUint64(FIELD.incompatible, 1n);
    const storage = new RecordingStorage(bytes);
    openImage(storage).close();
    expect(storage.events[0]).toEqual({ kind: 'write', offset: FIELD.autoclear, bytes: new Uint8Array(8) });
    const after = new Uint8Array(bytes.length);
    storage.read(0, after);
    expect([bitsOf(after), new DataView(after.buffer).getBigUint64(FIELD.incompatible)]).toEqual([0n, 0n]);
  });
});

const BITMAPS = 1n;
const RAW_DATA_FILE = 2n;

function amended(bits: bigint, options: AmendOptions) {
  const storage = new RecordingStorage(imageWithBits(bits));
  const image = openImage(storage);
  runToEnd(amendImage(image, options));
  image.close();
  const bytes = new Uint8Array(storage.size);
  storage.read(0, bytes);
  return { events: storage.events, bits: bitsOf(bytes), inMemory: image.header.autoclear };
}

describe('a change of the header alone', () => {
  it.each<AmendOptions>([{ lazyRefcounts: true }, { refcountBits: 32 }])(
    'clears the unknown bits and keeps those of bitmaps: %j',
    (options) => {
      const { bits, inMemory } = amended(UNKNOWN | BITMAPS, options);
      expect([bits, inMemory]).toEqual([BITMAPS, BITMAPS]);
    },
  );

  it('keeps the bit of bitmaps when it names another backing file, as QEMU does', () => {
    const { bits, inMemory } = amended(UNKNOWN | BITMAPS, { backing: { name: 'base', format: 'raw' } });
    expect([bits, inMemory]).toEqual([BITMAPS, BITMAPS]);
  });

  it('leaves all bits when it is refused', () => {
    const storage = new MemoryStorage(imageWithBits(UNKNOWN | BITMAPS));
    const image = openImage(storage);
    const tooLong = { name: 'x'.repeat(1023).repeat(4), format: 'raw' } as const;
    expect(() => changeBackingFile(image, tooLong)).toThrow(expect.objectContaining({ code: 'LIMIT' }));
    expect(bitsOf(storage.toBytes())).toBe(UNKNOWN | BITMAPS);
  });

  it('keeps the bit of a raw data file', () => {
    const storage = new MemoryStorage();
    const data = new MemoryStorage();
    createImage(storage, { size: SIZE, dataFile: { name: 'data', storage: data, raw: true } });
    const bytes = storage.toBytes();
    new DataView(bytes.buffer).setBigUint64(FIELD.autoclear, UNKNOWN | RAW_DATA_FILE);
    const changed = new MemoryStorage(bytes);
    const image = openImage(changed, { dataFile: data });
    runToEnd(amendImage(image, { lazyRefcounts: true }));
    changeBackingFile(image, null);
    image.write(0, Uint8Array.of(1));
    image.close();
    expect(bitsOf(changed.toBytes())).toBe(RAW_DATA_FILE);
  });
});

describe('a job on the metadata', () => {
  /** Version 3, with a cluster of zeroes that keeps its place: version 2 needs it written out. */
  function withZeroCluster(): RecordingStorage {
    const storage = new MemoryStorage(imageWithBits(0n));
    const image = openImage(storage);
    image.write(0, new Uint8Array(4096).fill(1));
    image.writeZeroes(0, 4096);
    image.close();
    const bytes = storage.toBytes();
    new DataView(bytes.buffer).setBigUint64(FIELD.autoclear, UNKNOWN);
    return new RecordingStorage(bytes);
  }

  it.each<[string, AmendOptions, () => RecordingStorage]>([
    ['the refcount width', { refcountBits: 8 }, () => new RecordingStorage(imageWithBits(UNKNOWN))],
    ['the version', { version: 2 }, withZeroCluster],
  ])('that changes %s clears unknown bits, stably, before anything else', (_, options, make) => {
    const storage = make();
    runToEnd(amendImage(openImage(storage), options));
    const [first, second] = storage.events;
    expect(first).toEqual({ kind: 'write', offset: FIELD.autoclear, bytes: new Uint8Array(8) });
    expect(second).toEqual({ kind: 'flush' });
  });
});

describe('the mark of a corrupt image', () => {
  it('is set after unknown bits were cleared', () => {
    const storage = new RecordingStorage(imageWithBits(UNKNOWN | BITMAPS));
    openImage(storage).tables.header.setCorrupt();
    const writes = storage.events.flatMap((event) => (event.kind === 'write' ? [event.offset] : []));
    expect(writes).toEqual([FIELD.autoclear, FIELD.incompatible]);
  });
});
