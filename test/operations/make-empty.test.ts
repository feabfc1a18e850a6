import { describe, expect, it } from 'vitest';
import { checkImage, createImage, makeEmpty, MemoryStorage, openImage } from '../../src/index.js';
import { runToEnd } from '../../src/util/steps.js';

const CLUSTER = 4096;

/** Fails the read with the number `failing`, counted from when that is set. */
class FailingReads extends MemoryStorage {
  failing = -1;
  reads = 0;

  override read(offset: number, target: Uint8Array): void {
    if (this.reads++ === this.failing) throw new Error('the medium is gone');
    super.read(offset, target);
  }
}

function written(): FailingReads {
  const storage = new FailingReads();
  createImage(storage, { size: 64 * CLUSTER, clusterSize: CLUSTER, backing: { name: 'base', format: 'raw' } });
  const image = openImage(storage, { backing: null });
  image.write(0, new Uint8Array(8 * CLUSTER).fill(1));
  image.close();
  return storage;
}

describe('emptying an image', () => {
  it('that stops at any read leaves one that is repaired when it is opened', () => {
    let stopped = 0;
    for (let failing = 0; ; failing++) {
      const storage = written();
      const image = openImage(storage, { backing: null });
      storage.reads = 0;
      storage.failing = failing;
      let done = false;
      try {
        runToEnd(makeEmpty(image));
        done = true;
      } catch {
        stopped++;
      }
      storage.failing = -1;
      image.close();
      const again = openImage(storage, { backing: null });
      expect(runToEnd(checkImage(again))).toMatchObject({ corruptions: 0, checkErrors: 0 });
      again.close();
      if (done) break;
    }
    expect(stopped).toBeGreaterThan(0);
  });
});
