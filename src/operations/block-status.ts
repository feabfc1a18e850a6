/**
 * Block status: what a disk holds where, through its backing chain, in runs as long as can be. The same as
 * `qemu-img map --output=json` says of it.
 *
 * A run ends where the answer changes: another file of the chain, data or zeroes, or a place in the file that does not
 * follow. Compressed clusters are data without a place.
 *
 * QEMU also asks the host for the holes of raw files, and of images whose metadata was preallocated, and shows them as
 * zeroes. A storage does not tell of holes, so that these are data here.
 */
import type { Disk, Extent, GuestOffset, HostOffset } from '../disk.js';
import { Qcow2Image } from '../image/qcow2-image.js';
import { checkRange } from '../image/disk-range.js';

export interface BlockStatus {
  readonly start: GuestOffset;
  readonly length: number;
  /** In which file of the chain the answer was found: 0 for the disk itself, 1 for its backing file, ... */
  readonly depth: number;
  /** Whether any file of the chain says anything of it. If not it reads as zeroes. */
  readonly present: boolean;
  /** Reads as zeroes, and no bytes are stored for it that are looked at. */
  readonly zero: boolean;
  /** Bytes are stored for it, plainly or compressed. */
  readonly data: boolean;
  /** Where it lies in the storage of guest data of that file; null where it has no plain place. */
  readonly host: HostOffset | null;
}

export interface GuestRange {
  readonly offset: GuestOffset;
  readonly length: number;
}

/**
 * The runs of `range`, by default the whole disk, in order and without gaps.
 *
 * An iterator written by hand: a step that throws `NotResident` has not been made and can be asked for again (see
 * `copy-disk.ts`). Throws `OUT_OF_RANGE` for a range that is not inside the disk.
 */
export function blockStatus(
  disk: Disk,
  range: GuestRange = { offset: 0, length: disk.size },
): IterableIterator<BlockStatus, void> {
  checkRange(disk.size, range.offset, range.length);
  const end = range.offset + range.length;
  let at = range.offset;
  return {
    next(): IteratorResult<BlockStatus, void> {
      if (at >= end) return { done: true, value: undefined };
      const run = longestRun(disk, at, end);
      at += run.length;
      return { done: false, value: run };
    },
    [Symbol.iterator]() {
      return this;
    },
  };
}

function longestRun(disk: Disk, start: GuestOffset, end: GuestOffset): BlockStatus {
  const first = statusAt(disk, start, end);
  let length = first.length;
  while (start + length < end) {
    const next = statusAt(disk, start + length, end);
    if (!continues(first, length, next)) break;
    length += next.length;
  }
  return { ...first, length };
}

function continues(first: BlockStatus, length: number, next: BlockStatus): boolean {
  if (first.depth !== next.depth || first.present !== next.present) return false;
  if (first.zero !== next.zero || first.data !== next.data) return false;
  return first.host === null ? next.host === null : next.host === first.host + length;
}

/** What the first extent at `start` is, looked for down the chain; it may go on behind it. */
function statusAt(disk: Disk, start: GuestOffset, end: GuestOffset): BlockStatus {
  let current = disk;
  let limit = end - start;
  for (let depth = 0; ; depth++) {
    const extent = firstExtent(current, start, limit);
    const below = extent.kind === 'backing' ? backingOf(current) : null;
    if (below === null || start >= below.size) {
      return {
        start,
        length: extent.length,
        depth,
        ...answerOf(extent),
        ...(isEncrypted(current) ? { host: null } : {}),
      };
    }
    // A backing file may end inside the extent.
    limit = Math.min(extent.length, below.size - start);
    current = below;
  }
}

function firstExtent(disk: Disk, offset: GuestOffset, limit: number): Extent {
  for (const extent of disk.extents(offset, limit)) return extent;
  throw new Error(`internal: no extent at offset ${offset} of a disk of ${disk.size} bytes`);
}

/** The answer that `extent` gives where there is nothing below it. */
function answerOf(extent: Extent): Pick<BlockStatus, 'present' | 'zero' | 'data' | 'host'> {
  switch (extent.kind) {
    case 'data':
      return { present: true, zero: false, data: true, host: extent.host };
    case 'compressed':
      return { present: true, zero: false, data: true, host: null };
    case 'zero':
      return { present: true, zero: true, data: false, host: extent.host ?? null };
    case 'backing':
    case 'unallocated':
      return { present: false, zero: true, data: false, host: extent.host ?? null };
  }
}

/** Where its bytes lie is of no use then. */
function isEncrypted(disk: Disk): boolean {
  return disk instanceof Qcow2Image && disk.header.cryptMethod !== 0;
}

/** The disk that answers for the `backing` extents of another. Only images have them. */
function backingOf(disk: Disk): Disk | null {
  return disk instanceof Qcow2Image ? disk.backing : null;
}
