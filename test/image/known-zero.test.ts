import { describe, expect, it } from 'vitest';
import { createImage, MemoryStorage, openImage, RawDisk, type Disk, type Qcow2Image } from '../../src/index.js';
import { isKnownZero } from '../../src/image/known-zero.js';

const CLUSTER = 4096;

function imageOver(backing: Disk | null, size = 8 * CLUSTER): Qcow2Image {
  const storage = new MemoryStorage();
  createImage(storage, {
    size,
    clusterSize: CLUSTER,
    ...(backing ? { backing: { name: 'base', format: 'qcow2' } } : {}),
  });
  return openImage(storage, { backing });
}

describe('known zeroes', () => {
  it('are what nobody in the chain has written', () => {
    const image = imageOver(imageOver(null));
    expect(isKnownZero(image, 0, image.size)).toBe(true);
    image.write(CLUSTER, Uint8Array.of(0));
    expect(isKnownZero(image, 0, CLUSTER)).toBe(true);
    expect(isKnownZero(image, 0, CLUSTER + 1)).toBe(false);
    image.writeZeroes(CLUSTER, CLUSTER);
    expect(isKnownZero(image, 0, image.size)).toBe(true);
  });

  it('end where a backing disk has data, and begin where it ends', () => {
    const base = imageOver(null, 4 * CLUSTER);
    base.write(2 * CLUSTER, new Uint8Array(2 * CLUSTER).fill(1));
    const image = imageOver(base);
    expect(isKnownZero(image, CLUSTER, 2 * CLUSTER)).toBe(true);
    expect(isKnownZero(image, CLUSTER, 3 * CLUSTER)).toBe(false);
    expect(isKnownZero(image, 4 * CLUSTER, 8 * CLUSTER)).toBe(true);
  });

  it('are not known of data, whatever the bytes are', () => {
    expect(isKnownZero(new RawDisk(new MemoryStorage(new Uint8Array(CLUSTER))), 0, CLUSTER)).toBe(false);
  });

  it('are not known of an image whose backing file is not open', () => {
    const storage = new MemoryStorage();
    createImage(storage, { size: CLUSTER, clusterSize: CLUSTER, backing: { name: 'base', format: 'raw' } });
    expect(isKnownZero(openImage(storage, { backing: null }), 0, CLUSTER)).toBe(false);
  });

  it('let zeroes over a part take the whole cluster, over backing disks that hold nothing there', () => {
    const image = imageOver(imageOver(null));
    image.writeZeroes(CLUSTER + 512, 512);
    expect([...image.extents(CLUSTER, CLUSTER)]).toMatchObject([{ kind: 'zero', length: CLUSTER }]);
    const base = imageOver(null);
    base.write(CLUSTER, Uint8Array.of(1));
    const other = imageOver(base);
    other.writeZeroes(CLUSTER + 512, 512);
    expect([...other.extents(CLUSTER, CLUSTER)]).toMatchObject([{ kind: 'data', length: CLUSTER }]);
  });

  it('keep both ends of a range in one piece', () => {
    const base = imageOver(null);
    base.write(0, new Uint8Array(8 * CLUSTER).fill(1));
    const image = imageOver(base);
    image.writeZeroes(CLUSTER - 512, 1024);
    const [first, second] = [...image.extents(0, 2 * CLUSTER)];
    expect(second).toBeUndefined();
    expect(first).toMatchObject({ kind: 'data', length: 2 * CLUSTER });
    const bytes = new Uint8Array(2 * CLUSTER);
    image.read(0, bytes);
    expect(bytes.indexOf(0)).toBe(CLUSTER - 512);
    expect(bytes.lastIndexOf(0)).toBe(CLUSTER + 511);
  });
});
