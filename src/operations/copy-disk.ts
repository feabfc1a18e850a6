/**
 * Copying a disk into another: what holds data is read and written, zeroes are left out. A long job in steps, so that
 * other requests can be served, progress be shown and an `AbortSignal` looked at between two of them.
 */
import type { Disk, GuestOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import type { Progress } from '../util/progress.js';
import { dataWriter, writeContent, type ContentWriter } from './content-writer.js';

/** Bytes moved in one step. */
const STEP_BYTES = 2 * 1024 * 1024;

export interface CopyOptions {
  /** Compresses the clusters of the target, a qcow2 image. Default false. */
  readonly compress?: boolean;
}

/**
 * Copies what `source` holds to `target`, a fresh disk of at least its size that reads as zeroes.
 *
 * An iterator written by hand: a step that throws `NotResident` has not been made and can be asked for again, so that
 * `settle(() => steps.next())` works where a generator would have ended. Throws `BAD_ARGUMENT` for a target too small, or
 * one that can hold no compressed clusters.
 */
export function copyDisk(source: Disk, target: Disk, options: CopyOptions = {}): IterableIterator<Progress, void> {
  if (target.size < source.size) {
    throw new Qcow2Error('BAD_ARGUMENT', `the target has ${target.size} bytes; it must have at least ${source.size}`);
  }
  const writer = { ...dataWriter(target, options.compress ?? false), zeroes: () => {} };
  const buffer = new Uint8Array(Math.min(STEP_BYTES, source.size));
  const total = source.size;
  let done = 0;
  return {
    next(): IteratorResult<Progress, void> {
      if (done >= total) return { done: true, value: undefined };
      const length = Math.min(STEP_BYTES, total - done);
      copyStep(source, writer, done, buffer.subarray(0, length));
      done += length;
      return { done: false, value: { done, total, what: 'copying the disk' } };
    },
    [Symbol.iterator]() {
      return this;
    },
  };
}

function copyStep(source: Disk, writer: ContentWriter, offset: GuestOffset, buffer: Uint8Array): void {
  if (!mayHoldData(source, offset, buffer.length)) return;
  source.read(offset, buffer);
  writeContent(writer, offset, buffer);
}

function mayHoldData(disk: Disk, offset: GuestOffset, length: number): boolean {
  for (const extent of disk.extents(offset, length)) {
    if (extent.kind !== 'zero' && extent.kind !== 'unallocated') return true;
  }
  return false;
}
