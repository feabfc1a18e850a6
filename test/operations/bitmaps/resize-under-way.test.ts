/** A resize is done in steps, and between two of them bitmaps may be asked for, stored and added: they are those of the new disk then. */
import { describe, expect, it } from 'vitest';
import {
  addBitmap,
  checkImage,
  createImage,
  dirtyRanges,
  listBitmaps,
  MemoryStorage,
  openImage,
  resizeImage,
  runToEnd,
  storeBitmaps,
  type Qcow2Image,
} from '../../../src/index.js';

const MIB = 2 ** 20;

const BETWEEN: Readonly<Record<string, (image: Qcow2Image) => void>> = {
  'storing them': (image) => storeBitmaps(image),
  'adding one': (image) => void addBitmap(image, { name: 'another', granularity: 65536 }),
  'opening anew': (image) => image.reopen({}),
  'reading alone for a while': (image) => {
    image.reopen({ readOnly: true });
    image.reopen({ readOnly: false });
  },
  'letting go of the file': (image) => {
    image.inactivate();
    image.invalidate();
  },
  'a write': (image) => image.write(0, new Uint8Array(512).fill(1)),
};

function diskOf(size: number, granularity: number): MemoryStorage {
  const storage = new MemoryStorage();
  createImage(storage, { size, clusterSize: 4096 });
  const image = openImage(storage);
  addBitmap(image, { name: 'b', granularity });
  addBitmap(image, { name: 'still', granularity, enabled: false });
  image.close();
  return storage;
}

/** Resizes, with `between` before step `at`. Returns how many steps there were. */
function resize(image: Qcow2Image, size: number, at: number, between: (image: Qcow2Image) => void): number {
  const steps = resizeImage(image, { size, shrink: true });
  let count = 0;
  for (;;) {
    if (count === at) between(image);
    if (steps.next().done === true) return count;
    count++;
  }
}

describe.each(Object.entries(BETWEEN))('%s between two steps', (_name, between) => {
  it.each([
    ['growing', MIB, 2 * MIB, 65536],
    ['growing beyond what the table of a bitmap has entries for', MIB, 64 * MIB, 512],
    ['shrinking', 2 * MIB, MIB, 65536],
  ])('of %s leaves bitmaps of the new size, with what is new marked', (_what, from, to, granularity) => {
    const total = resize(openImage(diskOf(from, granularity)), to, -1, () => {});
    for (let at = 0; at <= total; at++) {
      const storage = diskOf(from, granularity);
      const image = openImage(storage);
      resize(image, to, at, between);
      image.close();
      const again = openImage(storage, { readOnly: true });
      expect(again.size).toBe(to);
      const states = listBitmaps(again).map(({ name, state }) => `${name} ${state}`);
      expect(states.slice(0, 2), `before step ${at}`).toEqual(['b consistent', 'still consistent']);
      const marked = [...dirtyRanges(again, 'b')].filter(({ offset }) => offset >= from);
      expect(marked, `before step ${at}`).toEqual(to > from ? [{ offset: from, length: to - from }] : []);
      expect([...dirtyRanges(again, 'still')]).toEqual([]);
      again.close();
      expect(runToEnd(checkImage(storage))).toMatchObject({ corruptions: 0, leaks: 0 });
    }
  });
});
