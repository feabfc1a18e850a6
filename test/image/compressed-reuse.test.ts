import { describe, expect, it } from 'vitest';
import { createImage, makeEmpty, MemoryStorage, openImage, resizeImage, runToEnd } from '../../src/index.js';

const CLUSTER = 4096;

/** Fills cluster 0 compressed with `value`, and reads it, so that it is kept. */
function fillAndRead(image: ReturnType<typeof openImage>, value: number): number[] {
  image.writeCompressed(0, new Uint8Array(CLUSTER).fill(value));
  image.flush();
  const target = new Uint8Array(CLUSTER);
  image.read(0, target);
  return [...new Set(target)];
}

describe('a place that held compressed data and was freed by a job', () => {
  it.each([2, 3] as const)('is read anew after the image was emptied (version %i)', (version) => {
    const storage = new MemoryStorage();
    createImage(storage, { size: 1 << 20, clusterSize: CLUSTER, version });
    const image = openImage(storage);
    expect(fillAndRead(image, 1)).toEqual([1]);
    runToEnd(makeEmpty(image));
    expect(fillAndRead(image, 2)).toEqual([2]);
    // What copy-on-write carries over comes from the new data, too.
    image.write(10, new Uint8Array(5).fill(3));
    const target = new Uint8Array(20);
    image.read(0, target);
    expect([...target]).toEqual([...Array(10).fill(2), ...Array(5).fill(3), ...Array(5).fill(2)]);
  });

  it('is read anew after the disk has shrunk over it', () => {
    const storage = new MemoryStorage();
    createImage(storage, { size: 1 << 20, clusterSize: CLUSTER });
    const image = openImage(storage);
    const last = (1 << 20) - CLUSTER;
    image.writeCompressed(last, new Uint8Array(CLUSTER).fill(9));
    image.flush();
    image.read(last, new Uint8Array(CLUSTER));
    const steps = resizeImage(image, { size: 1 << 19, shrink: true });
    while (steps.next().done !== true) {
      image.flush();
      expect(fillAndRead(image, 4)).toEqual([4]);
    }
    expect(fillAndRead(image, 5)).toEqual([5]);
  });
});
