import { describe, expect, it } from 'vitest';
import {
  createImage,
  isQcow2Error,
  MemoryStorage,
  NotResident,
  openImage,
  runToEnd,
  settle,
} from '../../../src/index.js';
import { checkImage, checkVerdict, type CheckResult, type Repair } from '../../../src/operations/check/check-image.js';
import { ReadOnlyStorage } from '../../../src/storage/read-only.js';
import type { Storage } from '../../../src/storage/storage.js';
import { FailingStorage } from '../../storage/failing.js';
import { Qcow2Bytes } from '../../support/qcow2-bytes.js';

const CLUSTER = 4096;
const SIZE = 4 * 2 ** 20;

/** An image with 256 KiB of data, damaged by `damage`. */
function imageBytes(damage: (image: Qcow2Bytes) => void = () => {}): Uint8Array {
  const storage = new MemoryStorage();
  createImage(storage, { size: SIZE, clusterSize: CLUSTER });
  const image = openImage(storage);
  // The L2 table comes to lie before most of the data.
  image.write(0, new Uint8Array(CLUSTER).fill(7));
  image.write(0, new Uint8Array(256 * 1024).fill(7));
  image.flush();
  const bytes = new Qcow2Bytes(storage.toBytes());
  image.close();
  damage(bytes);
  return new Uint8Array(bytes.bytes);
}

function run(target: Storage, repair: Repair = 'none'): CheckResult {
  const job = checkImage(target, { repair });
  for (;;) {
    const { done, value } = job.next();
    if (done) return value;
  }
}

const leakMany = (image: Qcow2Bytes) => {
  const at = image.append(new Uint8Array(1500 * CLUSTER));
  for (let index = 0; index < 1500; index++) image.setRefcount(at + index * CLUSTER, 1);
};
const loseBlock = (image: Qcow2Bytes) => image.setBits(image.refcountTableOffset, 0n);

describe('a check', () => {
  it('finds nothing in a sound image, and changes nothing', () => {
    const bytes = imageBytes();
    const storage = new MemoryStorage(bytes.slice());
    const result = run(storage);
    expect(checkVerdict(result)).toBe(0);
    expect(result.findings).toEqual([]);
    expect(result).toMatchObject({ totalClusters: 1024, allocatedClusters: 64, fragmentedClusters: 0 });
    expect(Buffer.compare(storage.toBytes(), bytes)).toBe(0);
  });

  it('changes nothing in a damaged image either', () => {
    const bytes = imageBytes(loseBlock);
    const storage = new MemoryStorage(bytes.slice());
    expect(checkVerdict(run(storage))).toBe(2);
    expect(Buffer.compare(storage.toBytes(), bytes)).toBe(0);
  });

  it('names what it found and where, and counts what no list can hold', () => {
    const result = run(new MemoryStorage(imageBytes(leakMany)));
    expect(checkVerdict(result)).toBe(3);
    expect(result.leaks).toBe(1500);
    expect(result.findings).toHaveLength(1000);
    expect(result.findingsTotal).toBe(1500);
    const [first] = result.findings;
    expect(first).toMatchObject({ kind: 'leak', message: expect.stringContaining('refcount 1 and is named 0 times') });
    expect(result.remaining).toEqual(result.findings);
  });

  it('works on an open image, with what is still in its caches', () => {
    const image = openImage(new MemoryStorage(imageBytes()));
    image.write(2 ** 21 + 5, new Uint8Array(70_000).fill(1));
    const job = checkImage(image);
    let step = job.next();
    while (!step.done) step = job.next();
    expect(checkVerdict(step.value)).toBe(0);
    expect(step.value.allocatedClusters).toBe(64 + 18);
    image.close();
  });

  it('does not repair an open image, nor a storage that is read-only', () => {
    const image = openImage(new MemoryStorage(imageBytes()));
    expect(() => checkImage(image, { repair: 'all' })).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
    image.close();
    const storage = new ReadOnlyStorage(new MemoryStorage(imageBytes()));
    expect(() => checkImage(storage, { repair: 'leaks' })).toThrow(expect.objectContaining({ code: 'READ_ONLY' }));
    expect(checkVerdict(run(storage))).toBe(0);
  });

  it('throws for what is no image', () => {
    expect(() => run(new MemoryStorage(new Uint8Array(4096)))).toThrow(expect.objectContaining({ code: 'NOT_QCOW2' }));
    const cut = imageBytes((image) => image.setU32(20, 30));
    expect(() => run(new MemoryStorage(cut))).toThrow(expect.objectContaining({ code: 'BAD_IMAGE' }));
  });

  it('shows progress that grows within each part', () => {
    const parts = new Map<string, number>();
    const job = checkImage(new MemoryStorage(imageBytes(loseBlock)), { repair: 'all' });
    for (let step = job.next(); !step.done; step = job.next()) {
      const { what, done, total } = step.value;
      expect(done).toBeLessThanOrEqual(total);
      parts.set(what, done);
    }
    expect([...parts.keys()]).toEqual(
      expect.arrayContaining(['counting references', 'comparing refcounts', 'rebuilding the refcount structure']),
    );
  });

  it.each(['sound', 'damaged'])('comes to the same end when every read of a %s image faults once', async (state) => {
    const damage = (image: Qcow2Bytes) => {
      leakMany(image);
      image.setBits(image.l2EntryAt(8192), image.bits(image.l2EntryAt(4096)));
      image.setBits(image.l1EntryAt(2 ** 21), 1n << 40n);
      image.setBits(image.l2EntryAt(12288), 1n << 30n);
    };
    const bytes = imageBytes(state === 'damaged' ? damage : undefined);
    const job = checkImage(new FaultingStorage(bytes));
    for (;;) {
      const { done, value } = await settle(() => job.next());
      if (!done) continue;
      expect(value).toEqual(run(new MemoryStorage(bytes)));
      return;
    }
  });
});

/** Throws `NotResident` at the first read of each cluster. */
class FaultingStorage extends ReadOnlyStorage {
  readonly #seen = new Set<number>();

  constructor(bytes: Uint8Array) {
    super(new MemoryStorage(bytes));
  }

  override read(offset: number, target: Uint8Array): void {
    const cluster = Math.floor(offset / CLUSTER);
    if (!this.#seen.has(cluster)) {
      throw new NotResident(`cluster ${cluster}`, async () => void this.#seen.add(cluster));
    }
    super.read(offset, target);
  }
}

describe('a repair', () => {
  it('of leaks frees them, and leaves the rest as it is', () => {
    const storage = new MemoryStorage(imageBytes(leakMany));
    expect(run(storage, 'leaks')).toMatchObject({ leaks: 0, corruptions: 0, leaksFixed: 1500, corruptionsFixed: 0 });
  });

  it('of leaks refuses where clusters in use count as free', () => {
    const bytes = imageBytes(loseBlock);
    const storage = new MemoryStorage(bytes.slice());
    const result = run(storage, 'leaks');
    expect(checkVerdict(result)).toBe(1);
    expect(result.findings.at(-1)?.kind).toBe('not-checked');
    expect(Buffer.compare(storage.toBytes(), bytes)).toBe(0);
  });

  it('of everything says what was found and that nothing remains', () => {
    const result = run(new MemoryStorage(imageBytes(loseBlock)), 'all');
    expect(result).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0, remaining: [] });
    expect(result.corruptionsFixed).toBeGreaterThan(0);
    expect(result.findings.length).toBeGreaterThan(0);
  });

  it('can be stopped after any step, and done again from the start', () => {
    for (let stop = 0; ; stop++) {
      const storage = new MemoryStorage(imageBytes(loseBlock));
      const job = checkImage(storage, { repair: 'all' });
      let ended = false;
      for (let step = 0; step < stop && !ended; step++) ended = job.next().done === true;
      expect(checkVerdict(run(storage, 'all'))).toBe(0);
      const image = openImage(storage, { readOnly: true });
      const bytes = new Uint8Array(256 * 1024);
      image.read(0, bytes);
      expect(Buffer.compare(bytes, Buffer.alloc(256 * 1024, 7))).toBe(0);
      image.close();
      if (ended) return;
    }
  });

  it('that can not write stops with the error of the storage, and marks nothing as sound', () => {
    const damage = (image: Qcow2Bytes) => {
      loseBlock(image);
      image.setBits(72, 2n);
    };
    for (const call of ['write', 'flush'] as const) {
      for (let skip = 0; skip < 3; skip++) {
        const storage = new FailingStorage(imageBytes(damage));
        storage.failOn(call, new Error('the disk is gone'), skip);
        let error: unknown;
        try {
          run(storage, 'all');
        } catch (thrown) {
          error = thrown;
        }
        expect(isQcow2Error(error, 'IO')).toBe(true);
        expect(new Qcow2Bytes(storage.inner.toBytes()).bits(72), `${call} ${skip}`).toBe(2n);
      }
    }
  });

  it('never puts a new table where a lost cluster was, though the file grows over it', () => {
    let lost = 0;
    const damage = (image: Qcow2Bytes) => {
      loseBlock(image);
      lost = image.hostOf(256 * 1024 - CLUSTER);
      image.truncate(lost - CLUSTER);
    };
    const storage = new MemoryStorage(imageBytes(damage));
    run(storage, 'all');
    const image = openImage(storage, { readOnly: true });
    const bytes = new Uint8Array(CLUSTER).fill(1);
    image.read(256 * 1024 - CLUSTER, bytes);
    expect(Buffer.compare(bytes, Buffer.alloc(CLUSTER))).toBe(0);
    image.close();
  });
});

describe('a check of an open image', () => {
  it('with lazy refcounts finds nothing wrong, although they were not written yet', () => {
    const storage = new MemoryStorage();
    createImage(storage, { size: 1 << 20, lazyRefcounts: true });
    const image = openImage(storage);
    image.write(70_000, new Uint8Array(200_000).fill(5));
    expect(runToEnd(checkImage(image))).toMatchObject({ corruptions: 0, leaks: 0 });
    image.write(500_000, new Uint8Array(10).fill(6));
    image.close();
    expect(runToEnd(checkImage(storage))).toMatchObject({ corruptions: 0, leaks: 0 });
  });
});
