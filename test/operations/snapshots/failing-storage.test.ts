/**
 * A storage that fails in the middle of an operation on snapshots, and room that is refused.
 *
 * - A write or flush that fails poisons the image; opened again it is as before the operation or as after it.
 * - A read that fails leaves an image that goes on, or one that takes no change any more: never one that writes tables which
 *   the file does not know.
 * - Room that is refused (`LIMIT`) has changed nothing and leaks nothing.
 */
import { describe, expect, it, vi } from 'vitest';
import {
  checkImage,
  createImage,
  createSnapshot,
  deleteSnapshot,
  discardVmState,
  gotoSnapshot,
  isQcow2Error,
  listSnapshots,
  MemoryStorage,
  openImage,
  openSnapshot,
  Qcow2Error,
  runToEnd,
  writeVmState,
  type CreateOptions,
  type Qcow2Image,
} from '../../../src/index.js';
import type { Storage } from '../../../src/storage/storage.js';
import { FailingStorage, type StorageCall } from '../../storage/failing.js';
import { readWhole } from '../../support/disk-actions.js';

const STATE = Uint8Array.from({ length: 9000 }, (_, index) => 1 + (index >> 6));
const MARK = { offset: 3000, bytes: new Uint8Array(9000).fill(0x77) };

const LAYOUTS: Readonly<Record<string, Partial<CreateOptions>>> = {
  'clusters of 512 bytes, refcounts of 64 bits': { clusterSize: 512, refcountBits: 64 },
  'clusters of 4 KiB, lazy refcounts': { clusterSize: 4096, lazyRefcounts: true },
};

const OPERATIONS: Readonly<Record<string, (image: Qcow2Image) => void>> = {
  'writing VM state': (image) => {
    writeVmState(image, 0, STATE, { like: 'b' });
    image.flush();
  },
  'creating with VM state': (image) => {
    writeVmState(image, 0, STATE, { like: 'b', compress: true });
    createSnapshot(image, { name: 'c', vmStateBytes: STATE.length });
  },
  'going to one': (image) => gotoSnapshot(image, 'a'),
  'deleting one': (image) => runToEnd(deleteSnapshot(image, 'a')),
  'dropping VM state': discardVmState,
};

function makeImage(create: Partial<CreateOptions>): Uint8Array<ArrayBuffer> {
  const storage = new MemoryStorage();
  createImage(storage, { size: 0x3_0000, ...create });
  const image = openImage(storage);
  image.write(0, new Uint8Array(60_000).fill(1));
  createSnapshot(image, { name: 'a' });
  image.write(0, new Uint8Array(30_000).fill(2));
  writeVmState(image, 0, STATE.slice(0, 6000));
  createSnapshot(image, { name: 'b', vmStateBytes: 6000 });
  image.write(20_000, new Uint8Array(50_000).fill(3));
  writeVmState(image, 0, STATE.slice(0, 3000));
  image.close();
  return storage.toBytes();
}

/** All that can be read of an image, as text; without VM state of the active disk, which is nobody's. */
function contentOf(storage: Storage): { readonly disk: string; readonly snapshots: string } {
  const image = openImage(storage, { readOnly: true });
  const snapshots = listSnapshots(image).map(({ id, vmStateBytes }) => {
    const view = openSnapshot(image, { id });
    const state = new Uint8Array(vmStateBytes);
    view.readVmState(0, state);
    return `${id}: ${base64(readWhole(view))} ${base64(state)}`;
  });
  return { disk: base64(readWhole(image)), snapshots: snapshots.join('\n') };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

/** The error of an operation, which must be ours. */
function errorOf(operation: () => void): Qcow2Error | null {
  try {
    operation();
    return null;
  } catch (error) {
    if (isQcow2Error(error)) return error;
    throw error;
  }
}

/** A copy, opened for writing and closed again: what was left dirty has been repaired. */
function cleaned(bytes: Uint8Array<ArrayBuffer>): MemoryStorage {
  const storage = new MemoryStorage(bytes);
  openImage(storage).close();
  return storage;
}

interface Failing {
  readonly start: Uint8Array<ArrayBuffer>;
  readonly operation: (image: Qcow2Image) => void;
  readonly call: StorageCall;
}

/** Has call number `skip` fail. Returns false when the operation needed no more than that. */
function fail({ start, operation, call }: Failing, skip: number): boolean {
  const before = contentOf(new MemoryStorage(start.slice()));
  const whole = new MemoryStorage(start.slice());
  const done = openImage(whole);
  operation(done);
  done.close();
  const after = contentOf(whole);

  const storage = new FailingStorage(start.slice());
  const image = openImage(storage);
  storage.failOn(call, new Qcow2Error('NO_SPACE', 'the disk is full'), skip);
  const error = errorOf(() => operation(image));
  storage.heal();
  if (error === null) return false;
  const what = `${call} ${skip}`;
  if (call !== 'read') {
    expect(error.code, what).toBe('NO_SPACE');
    expect(errorOf(() => image.write(MARK.offset, MARK.bytes))?.code, what).toBe('POISONED');
  }
  const goesOn = errorOf(() => {
    image.write(MARK.offset, MARK.bytes);
    image.flush();
  });
  errorOf(() => image.close());

  const left = cleaned(storage.inner.toBytes());
  const { corruptions, checkErrors, remaining } = runToEnd(checkImage(left));
  expect(corruptions + checkErrors, `${what}: ${remaining[0]?.message}`).toBe(0);
  const marked = new MemoryStorage(left.toBytes());
  const found = contentOf(left);
  expect([before.snapshots, after.snapshots], `${what}: the snapshots`).toContain(found.snapshots);
  if (goesOn === null) {
    const read = openImage(marked, { readOnly: true });
    expect(base64(readWhole(read).subarray(3000, 12_000)), `${what}: what was flushed`).toBe(base64(MARK.bytes));
  } else {
    expect(goesOn.code, what).toBe('POISONED');
    expect([before.disk, after.disk], `${what}: the disk`).toContain(found.disk);
  }
  return true;
}

describe('a storage that fails in the middle of an operation on snapshots', () => {
  for (const [layout, create] of Object.entries(LAYOUTS)) {
    const start = makeImage(create);
    for (const [title, operation] of Object.entries(OPERATIONS)) {
      for (const call of ['write', 'flush', 'read'] as const) {
        it(`leaves the old state or the new one: ${title}, any ${call} fails (${layout})`, () => {
          let calls = 0;
          while (fail({ start, operation, call }, calls)) calls++;
          expect(calls).toBeGreaterThan(0);
        });
      }
    }
  }
});

describe('room that is refused in the middle of an operation on snapshots', () => {
  for (const [layout, create] of Object.entries(LAYOUTS)) {
    const start = makeImage(create);
    for (const [title, operation] of Object.entries(OPERATIONS)) {
      if (title === 'dropping VM state') continue; // which needs none
      it(`changes nothing and leaks nothing: ${title} (${layout})`, () => {
        const before = contentOf(new MemoryStorage(start.slice()));
        for (let passing = 0; ; passing++) {
          const storage = new MemoryStorage(start.slice());
          const image = openImage(storage);
          const refused = refuseRoom(image, operation, passing);
          if (refused === null) {
            expect(passing).toBeGreaterThan(1);
            break;
          }
          expect(refused.code).toBe('LIMIT');
          // What was written of the VM state stays, until it is dropped.
          discardVmState(image);
          image.reopen({});
          expect(runToEnd(checkImage(storage)).findings, `after refusal ${passing}`).toEqual([]);
          expect(contentOf(storage), `after refusal ${passing}`).toEqual(before);
          operation(image);
          image.close();
          expect(runToEnd(checkImage(storage)).findings, `made again after refusal ${passing}`).toEqual([]);
        }
      });
    }
  }
});

/** Does `operation` on an image that has room for `passing` allocations only; the error that it ends with. */
function refuseRoom(image: Qcow2Image, operation: (image: Qcow2Image) => void, passing: number): Qcow2Error | null {
  const { allocator } = image.changeableTables().writable;
  let left = passing;
  for (const name of ['allocate', 'allocateContiguous', 'allocateBytes'] as const) {
    const original = allocator[name].bind(allocator) as (amount: number) => never;
    vi.spyOn(allocator, name).mockImplementation((amount: number) => {
      if (left === 0) throw new Qcow2Error('LIMIT', 'the file can not grow');
      left--;
      return original(amount);
    });
  }
  const error = errorOf(() => operation(image));
  vi.restoreAllMocks();
  return error;
}
