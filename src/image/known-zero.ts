/**
 * Known zeroes: what reads as zeroes by the tables alone, of an image and of the chain below it. No data is looked at.
 *
 * An image that names a backing file which is not open says nothing of what that file would show.
 */
import type { Disk, GuestOffset } from '../disk.js';
import type { Header } from '../format/header.js';

/** A disk over another one: a `Qcow2Image`. */
interface LayeredDisk extends Disk {
  readonly backing: Disk | null;
  readonly header: Pick<Header, 'backingFile'>;
}

function isLayered(disk: Disk): disk is LayeredDisk {
  return 'backing' in disk && 'header' in disk;
}

/** Whether the bytes `start .. end` of `disk` are known to be zeroes. */
export function isKnownZero(disk: Disk, start: GuestOffset, end: GuestOffset): boolean {
  const below = isLayered(disk) ? disk.backing : null;
  const hidesNothing = !isLayered(disk) || disk.header.backingFile === null;
  for (const { kind, offset, length } of disk.extents(start, end - start)) {
    if (kind === 'zero' || (kind === 'unallocated' && hidesNothing)) continue;
    if (kind !== 'backing' || below === null) return false;
    const inside = Math.min(offset + length, below.size);
    if (inside > offset && !isKnownZero(below, offset, inside)) return false;
  }
  return true;
}
