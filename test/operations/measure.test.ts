import { describe, expect, it } from 'vitest';
import { createImage, MemoryStorage, openImage, settle, type Disk, type Progress } from '../../src/index.js';
import { measureDisk, measureNew, type MeasureOptions, type Measurement } from '../../src/operations/measure.js';
import { RemoteStorage } from '../storage/remote.js';

const CLUSTER = 512;
const COUNT = 4096;

/** Every other cluster holds data: a run for each cluster. */
function stripes(): MemoryStorage {
  const storage = new MemoryStorage();
  createImage(storage, { size: COUNT * CLUSTER, clusterSize: CLUSTER });
  const image = openImage(storage);
  for (let cluster = 0; cluster < COUNT; cluster += 2) image.write(cluster * CLUSTER, Uint8Array.of(1));
  image.close();
  return storage;
}

async function measured(disk: Disk, options: MeasureOptions): Promise<{ result: Measurement; steps: Progress[] }> {
  const job = measureDisk(disk, options);
  const steps: Progress[] = [];
  for (;;) {
    const step = await settle(() => job.next());
    if (step.done) return { result: step.value, steps };
    steps.push(step.value);
  }
}

describe('measuring', () => {
  it('counts a cluster of the new image when a part of it holds data, and once', async () => {
    const disk = openImage(stripes(), { readOnly: true });
    for (const [clusterSize, share] of [
      [CLUSTER, 0.5],
      [2 * CLUSTER, 1],
      [65536, 1],
    ] as const) {
      const { result } = await measured(disk, { clusterSize });
      const { required, fullyAllocated } = measureNew(disk.size, { clusterSize });
      expect(result).toEqual({ required: required + share * disk.size, fullyAllocated });
    }
  });

  it('goes in steps that say how far they are', async () => {
    const { steps } = await measured(openImage(stripes(), { readOnly: true }), {});
    expect(steps.length).toBeGreaterThan(2);
    const done = steps.map((step) => step.done);
    expect(done).toEqual(done.toSorted((a, b) => a - b));
    expect(steps.at(-1)).toEqual({ done: COUNT * CLUSTER, total: COUNT * CLUSTER, what: 'measuring the disk' });
  });

  it('gives the same when the tables have to be fetched on the way', async () => {
    const storage = stripes();
    const bytes = new Uint8Array(storage.size);
    storage.read(0, bytes);
    const remote = new RemoteStorage(bytes, { chunkBytes: 512 });
    const far = await measured(await settle(() => openImage(remote, { readOnly: true })), {});
    const near = await measured(openImage(storage, { readOnly: true }), {});
    expect(far.result).toEqual(near.result);
    expect(remote.faults).toBeGreaterThan(10);
  });

  it('needs all of a disk that is copied onto a backing file, and looks at none of it', async () => {
    const disk = openImage(stripes(), { readOnly: true });
    const { result, steps } = await measured(disk, { hasBacking: true });
    expect(result.required).toBe(result.fullyAllocated);
    expect(steps).toEqual([]);
  });

  it('takes a disk of no bytes', async () => {
    const storage = new MemoryStorage();
    createImage(storage, { size: 0 });
    const { result } = await measured(openImage(storage, { readOnly: true }), {});
    expect(result).toEqual(measureNew(0));
  });

  it('counts the key slots of LUKS for the disk of an image, too, and refuses what LUKS does not have', async () => {
    const disk = openImage(stripes(), { readOnly: true });
    const plain = (await measured(disk, {})).result;
    const { result } = await measured(disk, { encryption: {} });
    const slots = 2 * 2 ** 20;
    expect(result).toEqual({ required: plain.required + slots, fullyAllocated: plain.fullyAllocated + slots });
    expect(() => measureNew(0, { encryption: { cipher: 'aes-192', mode: 'cbc' } })).toThrow('it must have mode xts');
  });

  it.each([-1, 0.5, Number.NaN, 2 ** 53])('refuses a size of %d', (size) => {
    expect(() => measureNew(size)).toThrow(`size is ${size}; it must be a whole number, 0 or more`);
  });

  it('refuses what has no length that a number holds', () => {
    const size = 2 ** 53 - 512;
    expect(() => measureNew(size, { clusterSize: 2 ** 21 })).toThrow('sizes stop at 2^53 - 1');
  });
});
