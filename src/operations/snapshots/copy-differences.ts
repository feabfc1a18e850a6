/**
 * Copying a disk onto a target that already holds a relative of it, another disk of the same image: only the ranges in which
 * the two differ are read and written. Zeroes take no room in the target.
 */
import type { Disk, GuestOffset } from '../../disk.js';
import { isZero } from '../../util/bytes.js';
import { stepsOf, type Steps } from '../../util/steps.js';
import { differences, type KnownDisk } from './disk-differences.js';

export interface RelatedCopy {
  readonly source: Disk;
  /** A disk of the same image as `source`: what `target` holds now, followed by zeroes if it is the shorter one. */
  readonly relative: KnownDisk;
  /** As large as `source`, and without a backing file. */
  readonly target: Disk;
}

/** Guest bytes that one step looks at. */
const STEP_BYTES = 2 * 1024 * 1024;
/** Zeroes are looked for in units of this size, aligned in the disk. */
const ZERO_UNIT = 64 * 1024;

/** Makes `target` read as `source`. A step that throws `NotResident` has changed nothing that it won't change again. */
export function copyDifferences({ source, relative, target }: RelatedCopy): Steps {
  const total = source.size;
  const buffer = new Uint8Array(Math.min(STEP_BYTES, total));
  let done = 0;
  return stepsOf(() => {
    if (done >= total) return null;
    const within = { offset: done, length: Math.min(STEP_BYTES, total - done) };
    for (const { offset, length } of differences(source, relative, within)) {
      const content = buffer.subarray(0, length);
      source.read(offset, content);
      writeContent(target, offset, content);
    }
    done += within.length;
    return { done, total, what: 'copying what differs' };
  });
}

function writeContent(target: Disk, offset: GuestOffset, content: Uint8Array): void {
  const end = offset + content.length;
  for (let at = offset; at < end;) {
    const zero = isZero(content.subarray(at - offset, unitEnd(at) - offset));
    let stop = unitEnd(at);
    while (stop < end && isZero(content.subarray(stop - offset, unitEnd(stop) - offset)) === zero) stop = unitEnd(stop);
    stop = Math.min(stop, end);
    if (zero) clear(target, at, stop - at);
    else target.write(at, content.subarray(at - offset, stop - offset));
    at = stop;
  }
}

function unitEnd(offset: GuestOffset): GuestOffset {
  return (Math.floor(offset / ZERO_UNIT) + 1) * ZERO_UNIT;
}

/** What reads as zeroes already is left alone: it needs no entry. */
function clear(target: Disk, offset: GuestOffset, length: number): void {
  for (const extent of [...target.extents(offset, length)]) {
    if (extent.kind === 'zero' || extent.kind === 'unallocated') continue;
    target.writeZeroes(extent.offset, extent.length, { unmap: true });
  }
}
