/** What is left of the refcounts of a disk that was shrunk. */
import { describe, expect, it } from 'vitest';
import { checkImage, createImage, MemoryStorage, openImage, resizeImage, runToEnd } from '../../src/index.js';
import { Qcow2Bytes } from '../support/qcow2-bytes.js';
import { SeededRandom } from '../support/seeded-random.js';

const MIB = 2 ** 20;
const CLUSTER = 512;

/** The refcount blocks that the table names and that count nothing. */
function emptyBlocks(bytes: Uint8Array): number[] {
  const file = new Qcow2Bytes(bytes);
  const table = file.u64(48);
  const entries = (file.u32(56) * CLUSTER) / 8;
  const blocks = Array.from({ length: entries }, (_, index) => file.u64(table + index * 8)).filter((at) => at !== 0);
  return blocks.filter((at) => file.bytes.subarray(at, at + CLUSTER).every((byte) => byte === 0));
}

describe('a disk that was shrunk', () => {
  it('has no refcount block that counts nothing, in whatever order its clusters were written', () => {
    const random = new SeededRandom(163);
    for (let round = 0; round < 20; round++) {
      const storage = new MemoryStorage();
      createImage(storage, { size: 3 * MIB, clusterSize: CLUSTER, refcountBits: 64 });
      const pieces = Array.from({ length: 12 }, (_, index) => index);
      while (pieces.length > 0) {
        const [piece] = pieces.splice(random.below(pieces.length), 1) as [number];
        const image = openImage(storage);
        image.write((piece * MIB) / 4, new Uint8Array(MIB / 4).fill(0xff));
        image.close();
      }
      const image = openImage(storage);
      runToEnd(resizeImage(image, { size: MIB, shrink: true }));
      image.close();
      expect(emptyBlocks(storage.toBytes()), `round ${round}`).toEqual([]);
      expect(runToEnd(checkImage(storage))).toMatchObject({ corruptions: 0, leaks: 0 });
    }
  });
});
