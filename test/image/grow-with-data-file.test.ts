import { describe, expect, it } from 'vitest';
import { createImage, MemoryStorage, openImage, RawDisk } from '../../src/index.js';

describe('a disk with an external data file that grows over a longer backing file', () => {
  it('reads as zeroes past its old end, which was inside a cluster, and not as the backing file', () => {
    const storage = new MemoryStorage();
    const dataFile = new MemoryStorage();
    const data = { name: 'data', storage: dataFile };
    createImage(storage, { size: 4608, clusterSize: 4096, dataFile: data, backing: { name: 'base', format: 'raw' } });
    const backing = new RawDisk(new MemoryStorage(new Uint8Array(65536).fill(7)));
    const image = openImage(storage, { dataFile, backing });
    image.resize(65536);
    const content = new Uint8Array(65536);
    image.read(0, content);
    expect(content.subarray(0, 4608).every((byte) => byte === 7)).toBe(true);
    expect(content.subarray(4608).every((byte) => byte === 0)).toBe(true);
    image.close();
  });
});
