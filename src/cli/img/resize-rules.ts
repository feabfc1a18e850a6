/** What a disk can't be resized to, in QEMU's words; what the engine finds beyond that is said in its own. */
import { l1EntriesFor } from '../../format/geometry.js';
import { MAX_L1_BYTES } from '../../format/limits.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { listBitmaps } from '../../operations/bitmaps/bitmaps.js';
import { CliError } from '../text/messages.js';
import { checkUsable } from './bitmap-actions.js';

/** `version` is the one that the image has by then. */
export function checkNewSize(image: Qcow2Image, size: number, version: number): void {
  if (size % 512 !== 0) throw new CliError('The new size must be a multiple of 512');
  if (version < 3 && image.header.snapshotCount > 0) {
    throw new CliError("Can't resize a v2 image which has snapshots", { errno: 'ENOTSUP' });
  }
  if (size !== image.size) for (const bitmap of listBitmaps(image)) checkUsable(bitmap);
  if (l1EntriesFor(image.tables.geometry, size) > MAX_L1_BYTES / 8) {
    throw new CliError('Failed to grow the L1 table: File too large', { errno: 'EFBIG' });
  }
}
