/**
 * Which sizes a disk can get. Beside the limits of the format:
 *
 * - Version 2 does not record the size of a snapshot's disk, so a disk with snapshots can't be resized there, as in QEMU.
 * - Bitmaps are resized along, so one that is out of date stands in the way, as in QEMU.
 * - What a longer backing file holds behind the old end must not show, so a disk grows only with its backing disk open.
 */
import type { Disk } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import { l1EntriesFor } from '../format/geometry.js';
import { MAX_L1_BYTES, SECTOR_BYTES } from '../format/limits.js';
import type { ChangeTarget } from '../metadata/changeable-tables.js';

/** Throws unless the disk can have `size` bytes, the image being of `version` then. */
export function checkResize(
  target: ChangeTarget & { readonly backing: Disk | null },
  size: number,
  version: 2 | 3,
): void {
  const tables = target.changeableTables();
  const { geometry, guestData } = tables;
  const header = tables.header.value;
  guestData.checkKey();
  if (!Number.isSafeInteger(size) || size < 0 || size % SECTOR_BYTES !== 0) {
    throw new Qcow2Error('BAD_ARGUMENT', `size is ${size}; it must be a multiple of ${SECTOR_BYTES}, 0 or more`);
  }
  const most = MAX_L1_BYTES / 8;
  if (l1EntriesFor(geometry, size) > most) {
    const limit = `with this cluster size it must be at most ${most * geometry.l2Coverage}`;
    throw new Qcow2Error('LIMIT', `size is ${size}; ${limit}`);
  }
  if (version === 2 && header.snapshotCount > 0) {
    const why = 'version 2 does not record the size of their disks';
    throw new Qcow2Error('UNSUPPORTED', `the image has ${header.snapshotCount} snapshots and can't be resized: ${why}`);
  }
  if (size > header.size && header.backingFile !== null && target.backing === null) {
    const name = JSON.stringify(header.backingFile.name);
    throw new Qcow2Error(
      'BACKING',
      `without its backing file ${name}, which may reach past its end, the disk can't grow`,
    );
  }
  tables.bitmaps.checkResize(tables, size);
}
