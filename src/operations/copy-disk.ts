/**
 * Copying a disk into another: what holds data is read and written, zeroes are left out. A long job in steps, so that
 * other requests can be served, progress be shown and an `AbortSignal` looked at between two of them.
 */
import type { Disk, GuestOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import { isZero } from '../util/bytes.js';
import type { Progress } from '../util/progress.js';

/** Bytes moved in one step. */
const STEP_BYTES = 2 * 1024 * 1024;
/** Zeroes are looked for in units of this size, aligned in the disk. */
const ZERO_UNIT = 64 * 1024;

/**
 * Copies what `source` holds to `target`, a fresh disk of at least its size that reads as zeroes.
 *
 * An iterator written by hand: a step that throws `NotResident` has not been made and can be asked for again, so that
 * `settle(() => steps.next())` works where a generator would have ended. Throws `BAD_ARGUMENT` for a target too small.
 */
export function copyDisk(source: Disk, target: Disk): IterableIterator<Progress, void> {
  if (target.size < source.size) {
    throw new Qcow2Error('BAD_ARGUMENT', `the target has ${target.size} bytes; it must have at least ${source.size}`);
  }
  const buffer = new Uint8Array(Math.min(STEP_BYTES, source.size));
  const total = source.size;
  let done = 0;
  return {
    next(): IteratorResult<Progress, void> {
      if (done >= total) return { done: true, value: undefined };
      const length = Math.min(STEP_BYTES, total - done);
      copyStep(source, target, done, buffer.subarray(0, length));
      done += length;
      return { done: false, value: { done, total, what: 'copying the disk' } };
    },
    [Symbol.iterator]() {
      return this;
    },
  };
}

function copyStep(source: Disk, target: Disk, offset: GuestOffset, buffer: Uint8Array): void {
  if (!mayHoldData(source, offset, buffer.length)) return;
  source.read(offset, buffer);
  let start = 0;
  while (start < buffer.length) {
    let end = start;
    while (end < buffer.length && !isZero(buffer.subarray(end, end + ZERO_UNIT))) end += ZERO_UNIT;
    if (end > start) target.write(offset + start, buffer.subarray(start, Math.min(end, buffer.length)));
    start = Math.max(end, start + ZERO_UNIT);
  }
}

function mayHoldData(disk: Disk, offset: GuestOffset, length: number): boolean {
  for (const extent of disk.extents(offset, length)) {
    if (extent.kind !== 'zero' && extent.kind !== 'unallocated') return true;
  }
  return false;
}
