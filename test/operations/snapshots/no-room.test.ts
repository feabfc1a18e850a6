/** A host without room: operations on snapshots are refused as a whole, and the disk in use stays of use. */
import { describe, expect, it } from 'vitest';
import {
  createImage,
  createSnapshot,
  deleteSnapshot,
  discardVmState,
  gotoSnapshot,
  listSnapshots,
  MemoryStorage,
  openImage,
  Qcow2Error,
  runToEnd,
  writeVmState,
  type Qcow2Image,
} from '../../../src/index.js';
import { expectSameBytes } from '../../support/model-disk.js';

/** A storage with a quota: nothing makes it longer than that. */
class QuotaStorage extends MemoryStorage {
  quota = Infinity;

  override write(offset: number, source: Uint8Array): void {
    this.#check(offset + source.length);
    super.write(offset, source);
  }

  override truncate(size: number): void {
    this.#check(size);
    super.truncate(size);
  }

  #check(end: number): void {
    if (end > this.size && end > this.quota) throw new Qcow2Error('NO_SPACE', 'the quota is reached');
  }
}

const noise = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, index) => (Math.imul(index + seed, 0x9e37_79b1) >>> 13) | 1);

function fullImage(): { readonly storage: QuotaStorage; readonly image: Qcow2Image } {
  const storage = new QuotaStorage();
  createImage(storage, { size: 0x10_0000, clusterSize: 4096 });
  const image = openImage(storage);
  image.write(0, noise(0x4_0000, 1));
  writeVmState(image, 0, noise(50_000, 2));
  createSnapshot(image, { name: 'first', vmStateBytes: 50_000 });
  image.write(0, noise(0x4_0000, 3));
  image.flush();
  storage.quota = storage.size;
  return { storage, image };
}

describe('without room', () => {
  it.each<[string, (image: Qcow2Image) => void]>([
    ['VM state', (image) => void writeVmState(image, 0, noise(0x10_0000, 4))],
    ['VM state that moves the L1 table', (image) => void writeVmState(image, 0x4000_0000, noise(0x8_0000, 4))],
  ])('%s is refused, and the guest goes on writing', (_, operation) => {
    const { image } = fullImage();
    expect(() => operation(image)).toThrow(expect.objectContaining({ code: 'NO_SPACE' }));
    discardVmState(image);
    image.write(100, noise(5000, 5));
    image.flush();
    const read = new Uint8Array(5000);
    image.read(100, read);
    expectSameBytes(read, noise(5000, 5), 'what the guest wrote');
    image.close();
  });

  it('a snapshot can be created, gone to or deleted or is refused, one or the other, until one has made room', () => {
    const { image, storage } = fullImage();
    // Takes what is free in the file.
    for (let offset = 0x4_0000; ; offset += 4096) {
      try {
        if (image.tables.writable!.allocator.endOfNext(1) > storage.size) break;
        image.write(offset, noise(4096, 6));
        image.flush();
      } catch {
        break;
      }
    }
    for (const operation of [
      () => createSnapshot(image, { name: 'second' }),
      () => gotoSnapshot(image, 'first'),
      () => runToEnd(deleteSnapshot(image, 'first')),
    ]) {
      expect(operation).toThrow(expect.objectContaining({ code: 'NO_SPACE' }));
      image.write(0, noise(4096, 7));
      image.flush();
    }
    expect(listSnapshots(image).map(({ name }) => name)).toEqual(['first']);
    storage.quota += 0x2_0000;
    runToEnd(deleteSnapshot(image, 'first'));
    storage.quota = storage.size;
    createSnapshot(image, { name: 'after' });
    image.close();
  });
});
