/**
 * Copying a disk onto a target that already holds a relative of it, another disk of the same image: only the ranges in which
 * the two differ are read and written. Zeroes take no room in the target.
 */
import type { Disk, GuestOffset } from '../../disk.js';
import { stepsOf, type Steps } from '../../util/steps.js';
import { alignDown, alignUp } from '../../util/integers.js';
import { dataWriter, writeContent } from '../content-writer.js';
import { differences, type DiskRange, type KnownDisk } from './disk-differences.js';

export interface RelatedCopy {
  readonly source: Disk;
  /** A disk of the same image as `source`: what `target` holds now, followed by zeroes if it is the shorter one. */
  readonly relative: KnownDisk;
  /** As large as `source`, and without a backing file. */
  readonly target: Disk;
  /** Compresses what is copied, in whole clusters of the target. */
  readonly compress: boolean;
}

/** Guest bytes that one step looks at. */
const STEP_BYTES = 2 * 1024 * 1024;

/** Makes `target` read as `source`. A step that throws `NotResident` has changed nothing that it won't change again. */
export function copyDifferences({ source, relative, target, compress }: RelatedCopy): Steps {
  const data = dataWriter(target, compress);
  const writer = { ...data, zeroes: (offset: GuestOffset, length: number) => clear(target, offset, length) };
  const total = source.size;
  const buffer = new Uint8Array(Math.min(STEP_BYTES, total));
  let done = 0;
  return stepsOf(() => {
    if (done >= total) return null;
    const within = { offset: done, length: Math.min(STEP_BYTES, total - done) };
    const found = differences(source, relative, within);
    for (const { offset, length } of compress ? inUnits(found, within, data.unit) : found) {
      const content = buffer.subarray(0, length);
      source.read(offset, content);
      writeContent(writer, offset, content);
    }
    done += within.length;
    return { done, total, what: 'copying what differs' };
  });
}

/** The same ranges, widened to whole units, as far as `within` goes: that begins with one. */
function inUnits(ranges: readonly DiskRange[], within: DiskRange, unit: number): DiskRange[] {
  const most = within.offset + within.length;
  let done = within.offset;
  return ranges.flatMap((range) => {
    const offset = Math.max(done, alignDown(range.offset, unit));
    done = Math.max(done, Math.min(most, alignUp(range.offset + range.length, unit)));
    return done > offset ? [{ offset, length: done - offset }] : [];
  });
}

/** What reads as zeroes already is left alone: it needs no entry. */
function clear(target: Disk, offset: GuestOffset, length: number): void {
  for (const extent of [...target.extents(offset, length)]) {
    if (extent.kind === 'zero' || extent.kind === 'unallocated') continue;
    target.writeZeroes(extent.offset, extent.length, { unmap: true });
  }
}
