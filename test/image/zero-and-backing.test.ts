import { describe, expect, it } from 'vitest';
import { createImage, MemoryStorage, openImage, RawDisk, changeBackingFile } from '../../src/index.js';

const CLUSTER = 4096;
const SIZE = 64 * CLUSTER;
const sevens = () => new RawDisk(new MemoryStorage(new Uint8Array(SIZE).fill(7)));

function bytesAt(storage: MemoryStorage, offset: number, length: number): Uint8Array {
  const target = new Uint8Array(length);
  openImage(storage, { readOnly: true, backing: sevens() }).read(offset, target);
  return target;
}

describe('zeroes written while no backing disk is open', () => {
  it('are still zeroes when the backing file that the image names is there again', () => {
    const storage = new MemoryStorage();
    createImage(storage, { size: SIZE, clusterSize: CLUSTER, backing: { name: 'base', format: 'raw' } });
    const image = openImage(storage, { backing: null });
    image.writeZeroes(0, 2 * CLUSTER);
    image.discard(4 * CLUSTER, CLUSTER);
    image.close();
    expect(bytesAt(storage, 0, 2 * CLUSTER).every((byte) => byte === 0)).toBe(true);
    expect(bytesAt(storage, 4 * CLUSTER, CLUSTER).every((byte) => byte === 0)).toBe(true);
    expect(bytesAt(storage, 2 * CLUSTER, CLUSTER).every((byte) => byte === 7)).toBe(true);
  });

  it.each([2, 3] as const)('are still zeroes when the image is given a backing file later (version %i)', (version) => {
    const storage = new MemoryStorage();
    createImage(storage, { size: SIZE, clusterSize: CLUSTER, version });
    const image = openImage(storage);
    image.writeZeroes(100, 3 * CLUSTER);
    changeBackingFile(image, { name: 'base', format: 'raw' });
    image.close();
    const read = bytesAt(storage, 100, 3 * CLUSTER);
    expect(read.every((byte) => byte === 0)).toBe(true);
  });

  it('keep a disk from growing, because the backing file might show past its end', () => {
    const storage = new MemoryStorage();
    createImage(storage, { size: SIZE, clusterSize: CLUSTER, backing: { name: 'base', format: 'raw' } });
    const image = openImage(storage, { backing: null });
    expect(() => image.resize(2 * SIZE)).toThrow(expect.objectContaining({ code: 'BACKING' }));
    image.close();
  });
});
