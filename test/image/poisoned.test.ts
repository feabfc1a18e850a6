/**
 * Failing storage: whichever write or flush fails, the image refuses all changes from then on with POISONED, clears no
 * flag, and what was flushed before is there when the file is opened again.
 */
import { describe, expect, it } from 'vitest';
import { createImage, isQcow2Error, MemoryStorage, openImage, Qcow2Error, type Qcow2Image } from '../../src/index.js';
import { FailingStorage } from '../storage/failing.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';

const SIZE = 0x20_0000;
const CLUSTER_SIZE = 4096;
const DIRTY_AT = 79;

function freshFile(lazyRefcounts: boolean): { file: Uint8Array; expected: Uint8Array } {
  const storage = new MemoryStorage();
  createImage(storage, { size: SIZE, clusterSize: CLUSTER_SIZE, lazyRefcounts });
  const image = openImage(storage);
  const expected = new Uint8Array(SIZE).fill(1, 0, 100_000);
  image.write(0, expected.subarray(0, 100_000));
  image.close();
  return { file: storage.toBytes(), expected };
}

/** Changes only what lies past the first 100000 bytes, plus a discard of what it wrote itself. */
function work(image: Qcow2Image): void {
  for (let index = 0; index < 12; index++) {
    image.write(200_000 + index * 100_000, new Uint8Array(30_000).fill(2));
    if (index % 3 === 2) image.flush();
  }
  image.discard(300_000, 100_000);
  image.writeZeroes(500_000, 50_000);
  image.flush();
}

function changesOf(file: Uint8Array): { write: number; flush: number } {
  const storage = new FailingStorage(file.slice());
  const image = openImage(storage);
  work(image);
  image.close();
  return { write: storage.calls.write, flush: storage.calls.flush };
}

/** Runs to the failure and past it; true when the failure was met before the close. */
function runInto(storage: FailingStorage, cause: unknown): boolean {
  const image = openImage(storage);
  let failed: unknown;
  try {
    work(image);
  } catch (error) {
    failed = error;
  }
  if (failed !== undefined) {
    expect(failed).toBeInstanceOf(Qcow2Error);
    expect(failed).toMatchObject({ code: 'IO', cause });
    storage.heal();
    const before = storage.inner.toBytes();
    const poisoned = expect.objectContaining({ code: 'POISONED' });
    expect(() => image.write(0, Uint8Array.of(9))).toThrow(poisoned);
    expect(() => image.flush()).toThrow(poisoned);
    expectSameBytes(storage.inner.toBytes(), before, 'the file of a poisoned image');
  }
  try {
    image.close();
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
  }
  return failed !== undefined;
}

describe('an image whose storage fails', () => {
  for (const lazyRefcounts of [false, true]) {
    for (const call of ['write', 'flush'] as const) {
      it(`at any ${call} is poisoned and loses nothing that was flushed${lazyRefcounts ? ' (lazy)' : ''}`, () => {
        const { file, expected } = freshFile(lazyRefcounts);
        const total = changesOf(file)[call];
        expect(total).toBeGreaterThan(5);
        let met = 0;
        for (let skip = 0; skip < total; skip++) {
          const storage = new FailingStorage(file.slice());
          const cause = new Error(`${call} ${skip} fails`);
          storage.failOn(call, cause, skip);
          if (runInto(storage, cause)) met++;
          const left = storage.inner.toBytes();
          // The first writes set the bit; the last flush comes after it was cleared, when all else is stable.
          if (lazyRefcounts && skip > 2 && skip < total - 1)
            expect((left[DIRTY_AT] ?? 0) & 1, `${call} ${skip}`).toBe(1);
          const reopened = openImage(new MemoryStorage(left));
          expectSameBytes(readWhole(reopened).subarray(0, 100_000), expected.subarray(0, 100_000), `${call} ${skip}`);
          reopened.write(0, Uint8Array.of(1));
          reopened.close();
        }
        expect(met).toBeGreaterThan(3);
      });
    }
  }

  it('with NO_SPACE says so, not IO', () => {
    const { file } = freshFile(false);
    const storage = new FailingStorage(file);
    const image = openImage(storage);
    storage.failOn('write', new Qcow2Error('NO_SPACE', 'the disk of the host is full'));
    expect(() => work(image)).toThrow(expect.objectContaining({ code: 'NO_SPACE' }));
  });
});

describe('an image that was closed', () => {
  it('answers CLOSED to everything but a second close', () => {
    const image = openImage(new MemoryStorage(freshFile(false).file));
    image.close();
    image.close();
    const closed = expect.objectContaining({ code: 'CLOSED' });
    expect(() => image.read(0, new Uint8Array(1))).toThrow(closed);
    expect(() => image.write(0, Uint8Array.of(1))).toThrow(closed);
    expect(() => image.writeZeroes(0, 1)).toThrow(closed);
    expect(() => image.discard(0, 1)).toThrow(closed);
    expect(() => image.flush()).toThrow(closed);
  });
});

describe('a request past the end of the disk', () => {
  it('is OUT_OF_RANGE with the offset, the length and the size, and changes nothing', () => {
    const { file } = freshFile(false);
    const storage = new MemoryStorage(file.slice());
    const image = openImage(storage);
    const outOfRange = expect.objectContaining({
      code: 'OUT_OF_RANGE',
      message: expect.stringContaining(String(SIZE)),
    });
    for (const [offset, length] of [
      [SIZE, 1],
      [SIZE - 1, 2],
      [SIZE + 512, 512],
      [2 ** 53, 1],
      [-1, 1],
    ] as const) {
      expect(() => image.read(offset, new Uint8Array(length))).toThrow(outOfRange);
      expect(() => image.write(offset, new Uint8Array(length))).toThrow(outOfRange);
      expect(() => image.writeZeroes(offset, length)).toThrow(outOfRange);
      expect(() => image.discard(offset, length)).toThrow(outOfRange);
    }
    image.read(SIZE, new Uint8Array(0));
    image.close();
    expectSameBytes(storage.toBytes(), file, 'the file');
  });

  it('and every change of a read-only image is READ_ONLY', () => {
    const storage = new MemoryStorage(freshFile(false).file);
    const image = openImage(storage, { readOnly: true });
    const before = storage.toBytes();
    const readOnly = expect.objectContaining({ code: 'READ_ONLY' });
    expect(() => image.write(0, Uint8Array.of(1))).toThrow(readOnly);
    expect(() => image.writeZeroes(0, 1)).toThrow(readOnly);
    expect(() => image.discard(0, SIZE)).toThrow(readOnly);
    expect(() => image.resize(SIZE * 2)).toThrow(readOnly);
    image.flush();
    image.close();
    expectSameBytes(storage.toBytes(), before, 'the file');
  });
});
