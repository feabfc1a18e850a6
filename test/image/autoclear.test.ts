/**
 * Autoclear bits: what software does not know it must clear before it changes the image, and not before. (QEMU 7.2 clears
 * unknown ones as soon as it opens an image for writing; the format asks for no more than what is done here.)
 */
import { describe, expect, it } from 'vitest';
import { createImage, MemoryStorage, openImage, type CreateOptions, type Qcow2Image } from '../../src/index.js';
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
