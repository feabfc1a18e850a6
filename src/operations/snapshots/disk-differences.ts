/**
 * Where two disks of one image differ, the active one or those of snapshots, judged by where their bytes lie: no data is
 * read. What lies in the same place is the same; what does not may be equal all the same, where both wrote equal bytes.
 *
 *   one     | data 5 | data 6 | zero | backing | data 9 |
 *   other   | data 5 | data 8 | none | backing |             (the end of a disk counts as zeroes)
 *   differ           |########|                |########|
 */
import type { Disk, Extent, GuestOffset } from '../../disk.js';

export interface DiskRange {
  readonly offset: GuestOffset;
  /** Bytes. */
  readonly length: number;
}

/** As much of a disk as is looked at here. */
export type KnownDisk = Pick<Disk, 'size' | 'extents'>;

/** The ranges in `within` where the two may differ, in order. It may go past the end of either disk. */
export function differences(one: KnownDisk, other: KnownDisk, within: DiskRange): DiskRange[] {
  const found: DiskRange[] = [];
  const rest = extentsOf(other, within);
  let beside = rest.next().value;
  for (const extent of extentsOf(one, within)) {
    const end = extent.offset + extent.length;
    for (let at = extent.offset; at < end && beside !== undefined;) {
      const stop = Math.min(end, beside.offset + beside.length);
      if (!sameBytes(extent, beside)) addTo(found, { offset: at, length: stop - at });
      if (stop === beside.offset + beside.length) beside = rest.next().value;
      at = stop;
    }
  }
  return found;
}

/** Bytes in which the two may differ; not counted further than `limit`. */
export function differingBytes(one: KnownDisk, other: KnownDisk, limit: number): number {
  const size = Math.max(one.size, other.size);
  let bytes = 0;
  for (let offset = 0; offset < size && bytes < limit; offset += SPAN_BYTES) {
    const within = { offset, length: Math.min(SPAN_BYTES, size - offset) };
    for (const { length } of differences(one, other, within)) bytes += length;
  }
  return bytes;
}

/** Looked at at once. */
const SPAN_BYTES = 64 * 1024 * 1024;

/** The extents of a range; zeroes past the end of the disk. */
function* extentsOf(disk: KnownDisk, { offset, length }: DiskRange): Generator<Extent, undefined> {
  const inside = Math.max(0, Math.min(length, disk.size - offset));
  if (inside > 0) yield* disk.extents(offset, inside);
  if (inside < length) yield { kind: 'unallocated', offset: offset + inside, length: length - inside };
}

function sameBytes(one: Extent, other: Extent): boolean {
  switch (one.kind) {
    case 'zero':
    case 'unallocated':
      return other.kind === 'zero' || other.kind === 'unallocated';
    case 'backing':
      return other.kind === 'backing';
    case 'data':
      return other.kind === 'data' && one.host - one.offset === other.host - other.offset;
    case 'compressed':
      return other.kind === 'compressed' && one.host === other.host;
  }
}

/** Adds a range that starts at or behind the end of the last one. */
function addTo(ranges: DiskRange[], range: DiskRange): void {
  const last = ranges.at(-1);
  if (last !== undefined && last.offset + last.length === range.offset) {
    ranges[ranges.length - 1] = { offset: last.offset, length: last.length + range.length };
  } else ranges.push(range);
}
