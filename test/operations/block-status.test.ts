import { describe, expect, it } from 'vitest';
import { createImage, MemoryStorage, openImage, RawDisk, settle, type Disk } from '../../src/index.js';
import { blockStatus, type BlockStatus } from '../../src/operations/block-status.js';
import { RemoteStorage } from '../storage/remote.js';

const CLUSTER = 4096;

/** An image of 64 clusters over a raw disk of 40 and a half, with something in some of its clusters. */
function imageOverRaw(): { readonly storage: MemoryStorage; readonly backing: Disk } {
  const storage = new MemoryStorage();
  const size = 64 * CLUSTER;
  createImage(storage, { size, clusterSize: CLUSTER, backing: { name: 'base', format: 'raw' } });
  const backing = new RawDisk(new MemoryStorage(new Uint8Array(40.5 * CLUSTER).fill(7)));
  const image = openImage(storage, { backing });
  image.write(2 * CLUSTER, new Uint8Array(3 * CLUSTER).fill(1));
  image.writeZeroes(10 * CLUSTER, 2 * CLUSTER);
  image.writeCompressed(12 * CLUSTER, new Uint8Array(2 * CLUSTER).fill(2));
  image.write(50 * CLUSTER, Uint8Array.of(1));
  image.close();
  return { storage, backing: new RawDisk(new MemoryStorage(new Uint8Array(40.5 * CLUSTER).fill(7))) };
}

function statusOf(disk: Disk, range?: { offset: number; length: number }): BlockStatus[] {
  return [...blockStatus(disk, range)];
}

/** What tells runs apart, without their places in the file. */
function shortly({ start, length, depth, present, zero, data }: BlockStatus): string {
  const flags = `${present ? 'present ' : ''}${zero ? 'zero' : ''}${data ? 'data' : ''}`;
  return `${start / CLUSTER}+${length / CLUSTER} at ${depth}: ${flags}`;
}

const EXPECTED = [
  '0+2 at 1: present data',
  '2+3 at 0: present data',
  '5+5 at 1: present data',
  '10+2 at 0: present zero',
  '12+2 at 0: present data',
  '14+26.5 at 1: present data',
  '40.5+9.5 at 0: zero',
  '50+1 at 0: present data',
  '51+13 at 0: zero',
];

describe('the block status of a disk', () => {
  it('joins what is alike, through the backing disk and past its end', () => {
    const { storage, backing } = imageOverRaw();
    expect(statusOf(openImage(storage, { backing, readOnly: true })).map(shortly)).toEqual(EXPECTED);
  });

  it('gives places in the file that answered, and none for compressed clusters', () => {
    const { storage, backing } = imageOverRaw();
    const runs = statusOf(openImage(storage, { backing, readOnly: true }));
    expect(runs[2]).toMatchObject({ depth: 1, host: 5 * CLUSTER });
    expect(runs[4]).toMatchObject({ data: true, host: null });
    const bytes = new Uint8Array(1);
    storage.read(runs[1]!.host! + 2 * CLUSTER, bytes);
    expect(bytes[0]).toBe(1);
  });

  it('of a range begins and ends inside clusters', () => {
    const { storage, backing } = imageOverRaw();
    const image = openImage(storage, { backing, readOnly: true });
    const runs = statusOf(image, { offset: 4.5 * CLUSTER, length: CLUSTER });
    expect(runs.map(shortly)).toEqual(['4.5+0.5 at 0: present data', '5+0.5 at 1: present data']);
    expect(statusOf(image, { offset: image.size, length: 0 })).toEqual([]);
    expect(() => blockStatus(image, { offset: image.size, length: 1 })).toThrow('is not inside the disk');
  });

  it('does not join neighbours that lie apart in the file', () => {
    const storage = new MemoryStorage();
    createImage(storage, { size: 4 * CLUSTER, clusterSize: CLUSTER });
    const image = openImage(storage);
    image.write(CLUSTER, new Uint8Array(CLUSTER).fill(1));
    image.write(0, new Uint8Array(CLUSTER).fill(1));
    expect(statusOf(image).map(shortly)).toEqual([
      '0+1 at 0: present data',
      '1+1 at 0: present data',
      '2+2 at 0: zero',
    ]);
  });

  it('is the same when the tables have to be fetched while it is taken', async () => {
    const { storage, backing } = imageOverRaw();
    const bytes = new Uint8Array(storage.size);
    storage.read(0, bytes);
    const remote = new RemoteStorage(bytes, { chunkBytes: 512 });
    const image = await settle(() => openImage(remote, { backing, readOnly: true }));
    const before = remote.faults;
    const runs = blockStatus(image);
    const lines: string[] = [];
    for (;;) {
      const step = await settle(() => runs.next());
      if (step.done) break;
      lines.push(shortly(step.value));
    }
    expect(lines).toEqual(EXPECTED);
    expect(remote.faults).toBeGreaterThan(before);
  });
});
