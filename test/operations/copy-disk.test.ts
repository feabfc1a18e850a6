import { describe, expect, it } from 'vitest';
import { copyDisk, createImage, MemoryStorage, openImage, RawDisk } from '../../src/index.js';

function freshImage(size: number) {
  const storage = new MemoryStorage();
  createImage(storage, { size });
  return { storage, disk: openImage(storage) };
}

describe('copying a disk', () => {
  it('carries over all data and leaves zeroes unallocated', () => {
    const size = 8 * 1024 * 1024 + 512;
    const raw = new Uint8Array(size);
    raw.fill(7, 65536 * 3 + 5, 65536 * 4);
    raw[size - 1] = 9;
    const { storage, disk } = freshImage(size);
    const steps = [...copyDisk(new RawDisk(new MemoryStorage(raw)), disk)];
    disk.close();
    const copy = new Uint8Array(size);
    openImage(storage, { readOnly: true }).read(0, copy);
    expect(Buffer.compare(copy, raw)).toBe(0);
    expect(storage.size).toBeLessThan(10 * 65536);
    expect(steps.at(-1)).toEqual({ done: size, total: size, what: 'copying the disk' });
  });

  it('refuses a target that is too small, with both sizes', () => {
    const { disk } = freshImage(512);
    expect(() => copyDisk(new RawDisk(new MemoryStorage(new Uint8Array(1024))), disk)).toThrow(
      'the target has 512 bytes; it must have at least 1024',
    );
  });
});
