/**
 * A disk opened in the thread that uses it, as `openLocalDisk` does: as it is opened for a page, without the queue and the protocol around it.
 *
 * No export is made of it here; but its last session may have been that of a page, and have ended in the middle of one. What that has left
 * goes before the disk is used: afterwards nothing could see to it.
 */
import { removeLeftMoment } from '../operations/snapshots/export-moment.js';
import { openDiskFile, type DiskFileOptions, type OpenDiskFile } from './disk-file.js';
import type { ImageFiles } from './image-files.js';
import { carryOut } from './job.js';
import { nextTask } from './next-task.js';

/** @throws Qcow2Error as `openDiskFile`. What can't be removed stays, hidden, for the next time. */
export async function openLocalDiskFile(files: ImageFiles, options: DiskFileOptions): Promise<OpenDiskFile> {
  const disk = await openDiskFile(files, options);
  try {
    const steps = removeLeftMoment(disk.image);
    if (steps !== null) await carryOut(steps, nextTask);
  } catch {
    // It is of use with it. An image that takes no change any more tells so to who changes it.
  }
  return disk;
}
