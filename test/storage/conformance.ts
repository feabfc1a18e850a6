/**
 * What every Storage must do, as a list of cases without a test framework: the same list runs in Node under vitest
 * (`describe-conformance.ts`) and inside a browser's worker, where the OPFS handle is.
 *
 * A case throws a plain `Error` that says what it saw. Each gets a storage of its own.
 */
import { isQcow2Error } from '../../src/errors.js';
import type { Storage } from '../../src/storage/storage.js';

export interface ConformanceCase {
  /** A sentence about behaviour. */
  readonly title: string;
  run(storage: Storage): void;
}

/** Throws unless `storage` holds `expected` at `offset`; the target is full of rubbish before. */
export function expectBytesAt(storage: Storage, offset: number, expected: readonly number[] | Uint8Array): void {
  const target = new Uint8Array(expected.length).fill(0xa5);
  storage.read(offset, target);
  const wrong = target.findIndex((byte, index) => byte !== expected[index]);
  if (wrong === -1) return;
  throw new Error(`byte ${offset + wrong} is ${target[wrong]}, expected ${expected[wrong]}`);
}

function expectSize(storage: Storage, expected: number): void {
  if (storage.size !== expected) throw new Error(`size is ${storage.size}, expected ${expected}`);
}

function expectRefusal(what: string, call: () => void): void {
  try {
    call();
  } catch (error) {
    if (isQcow2Error(error, 'READ_ONLY')) return;
    throw new Error(`${what} failed with ${String(error)}, expected READ_ONLY`, { cause: error });
  }
  throw new Error(`${what} was not refused`);
}

/** Position-dependent bytes: a shifted or repeated block is seen. */
export function patternBytes(length: number, seed = 0): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let index = 0; index < length; index++) bytes[index] = (index * 31 + (index >>> 8) * 7 + seed) & 0xff;
  return bytes;
}

/** For writable storages. Each case is given an empty one. */
export const WRITABLE_STORAGE_CASES: readonly ConformanceCase[] = [
  {
    title: 'is empty and writable when it is new',
    run(storage) {
      expectSize(storage, 0);
      if (storage.readOnly) throw new Error('readOnly is true');
      expectBytesAt(storage, 0, [0, 0, 0]);
    },
  },
  {
    title: 'reads what was written, at odd offsets and lengths',
    run(storage) {
      storage.write(0, patternBytes(1000));
      storage.write(333, Uint8Array.of(1, 2, 3));
      const expected = patternBytes(1000);
      expected.set([1, 2, 3], 333);
      expectBytesAt(storage, 0, expected);
      expectBytesAt(storage, 334, [2, 3]);
      expectSize(storage, 1000);
    },
  },
  {
    title: 'reads zeroes past its end, never less than asked',
    run(storage) {
      storage.write(0, Uint8Array.of(7, 8));
      expectBytesAt(storage, 1, [8, 0, 0, 0]);
      expectBytesAt(storage, 2, [0, 0]);
      expectBytesAt(storage, 1_000_000, [0, 0]);
      expectSize(storage, 2);
    },
  },
  {
    title: 'reads zeroes in the gap that a write past the end leaves',
    run(storage) {
      storage.write(0, Uint8Array.of(1));
      storage.write(100_000, Uint8Array.of(2));
      expectSize(storage, 100_001);
      expectBytesAt(storage, 0, [1, 0, 0]);
      expectBytesAt(storage, 99_998, [0, 0, 2]);
    },
  },
  {
    title: 'takes reads and writes of no bytes without a change',
    run(storage) {
      storage.write(0, Uint8Array.of(1, 2));
      storage.write(1, new Uint8Array(0));
      storage.read(1, new Uint8Array(0));
      storage.read(50, new Uint8Array(0));
      expectSize(storage, 2);
      expectBytesAt(storage, 0, [1, 2, 0]);
    },
  },
  {
    title: 'reads and writes only the window of a view into a larger buffer',
    run(storage) {
      const buffer = patternBytes(64);
      storage.write(8, buffer.subarray(16, 32));
      const target = new Uint8Array(48).fill(0xa5);
      storage.read(8, target.subarray(16, 32));
      for (let index = 0; index < 48; index++) {
        const expected = index >= 16 && index < 32 ? buffer[index] : 0xa5;
        if (target[index] !== expected) throw new Error(`byte ${index} is ${target[index]}, expected ${expected}`);
      }
    },
  },
  {
    title: 'keeps what was written when the source array changes afterwards',
    run(storage) {
      const source = patternBytes(5000);
      storage.write(0, source);
      source.fill(0xff);
      expectBytesAt(storage, 0, patternBytes(5000));
    },
  },
  {
    title: 'shrinks, and what was cut off does not come back when it grows again',
    run(storage) {
      storage.write(0, patternBytes(10_000));
      storage.truncate(3000);
      expectSize(storage, 3000);
      expectBytesAt(storage, 2998, [...patternBytes(3000).subarray(2998), 0, 0]);
      storage.truncate(10_000);
      expectSize(storage, 10_000);
      expectBytesAt(storage, 3000, new Uint8Array(7000));
      storage.truncate(100);
      storage.write(9999, Uint8Array.of(5));
      expectBytesAt(storage, 100, [...new Uint8Array(9899), 5]);
    },
  },
  {
    title: 'grows by truncate, with zeroes',
    run(storage) {
      storage.write(0, Uint8Array.of(9));
      storage.truncate(70_000);
      expectSize(storage, 70_000);
      expectBytesAt(storage, 0, [9, 0]);
      expectBytesAt(storage, 69_998, [0, 0, 0]);
    },
  },
  {
    title: 'holds megabytes written backwards in odd pieces',
    run(storage) {
      const length = 3 * 0x10_0000 + 17;
      const expected = patternBytes(length, 3);
      for (let end = length; end > 0; end -= 70_001) {
        const start = Math.max(0, end - 70_001);
        storage.write(start, expected.subarray(start, end));
      }
      expectSize(storage, length);
      expectBytesAt(storage, 0, expected);
    },
  },
  {
    title: 'reads the same before and after a flush',
    run(storage) {
      storage.flush();
      storage.write(0, patternBytes(4096));
      expectBytesAt(storage, 0, patternBytes(4096));
      storage.flush();
      storage.flush();
      expectBytesAt(storage, 0, patternBytes(4096));
    },
  },
  {
    title: 'may be closed twice',
    run(storage) {
      storage.write(0, Uint8Array.of(1));
      storage.close();
      storage.close();
    },
  },
];

/** What a read-only storage holds when its cases run. */
export const READ_ONLY_CONTENT: Uint8Array<ArrayBuffer> = patternBytes(3 * 0x1_0000 + 123, 9);

/** For read-only storages. Each case is given one that holds `READ_ONLY_CONTENT`. */
export const READ_ONLY_STORAGE_CASES: readonly ConformanceCase[] = [
  {
    title: 'says that it is read-only, and its size',
    run(storage) {
      if (!storage.readOnly) throw new Error('readOnly is false');
      expectSize(storage, READ_ONLY_CONTENT.length);
    },
  },
  {
    title: 'reads all of its content, whole and in odd pieces',
    run(storage) {
      expectBytesAt(storage, 0, READ_ONLY_CONTENT);
      for (let offset = 0; offset < READ_ONLY_CONTENT.length; offset += 7777) {
        expectBytesAt(storage, offset, READ_ONLY_CONTENT.subarray(offset, offset + 7777));
      }
    },
  },
  {
    title: 'reads zeroes past its end',
    run(storage) {
      const last = READ_ONLY_CONTENT.length - 1;
      expectBytesAt(storage, last, [READ_ONLY_CONTENT[last] ?? 0, 0, 0]);
      expectBytesAt(storage, last + 100_000, [0, 0]);
    },
  },
  {
    title: 'refuses writes and truncates with READ_ONLY and stays as it is',
    run(storage) {
      expectRefusal('a write', () => storage.write(0, Uint8Array.of(1)));
      expectRefusal('a write of no bytes', () => storage.write(0, new Uint8Array(0)));
      expectRefusal('a truncate', () => storage.truncate(0));
      expectSize(storage, READ_ONLY_CONTENT.length);
      expectBytesAt(storage, 0, READ_ONLY_CONTENT.subarray(0, 16));
    },
  },
  {
    title: 'takes a flush, and may be closed twice',
    run(storage) {
      storage.flush();
      storage.close();
      storage.close();
    },
  },
];
