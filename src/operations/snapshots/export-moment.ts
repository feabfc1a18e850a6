/**
 * A moment of a disk that somebody goes on writing to, held for as long as it is copied: a snapshot of the disk alone, which nobody but the
 * copy is to see.
 *
 *   take --> | copy, in steps; what is written is copied away from the snapshot | --> release, in steps
 *
 * - A session that ends in between leaves it in the image, as QEMU's tools and ours then show by its name, and delete by it. A page that
 *   next opens the disk to be written removes it (`worker/export-session.ts`, `worker/local-disk.ts`).
 * - It is known by its id and name together, and by having no VM state, so that no snapshot of anybody else is taken for one.
 * - VM state that is being written and belongs to no snapshot yet stays where it is.
 */
import { isQcow2Error } from '../../errors.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import type { Steps } from '../../util/steps.js';
import { createSnapshot } from './create-snapshot.js';
import { deleteSnapshot } from './delete-snapshot.js';
import { findSnapshot } from './list-snapshots.js';
import { openSnapshot, type SnapshotView } from './open-snapshot.js';
import type { SnapshotInfo } from './snapshot-info.js';

/** No number, so it does not count for the ids of others. */
const ID = 'qcow2-wasm-export';
const NAME = 'qcow2-wasm export in progress';

export interface ExportMoment {
  /** The disk as it was then. Good until it is released. */
  readonly view: SnapshotView;
  /** Deletes the snapshot. The disk may be used between the steps. */
  readonly release: () => Steps;
}

/**
 * Null where there can be no snapshot: the image is read-only, keeps its data in an external file, or has no room left, in the file or in
 * its tables. It is as it was then, and must not be changed while it is copied. Stable when it returns.
 */
export function takeMoment(image: Qcow2Image): ExportMoment | null {
  if (image.readOnly) return null;
  try {
    createSnapshot(image, { id: ID, name: NAME, furtherVmState: 'keep' });
    return { view: openSnapshot(image, { id: ID }), release: () => deleteSnapshot(image, { id: ID }) };
  } catch (error) {
    // Whatever else is wrong with the image, the copy will say.
    if (isQcow2Error(error)) return null;
    throw error;
  }
}

export function isMoment({ id, name, vmStateBytes }: Pick<SnapshotInfo, 'id' | 'name' | 'vmStateBytes'>): boolean {
  return id === ID && name === NAME && vmStateBytes === 0;
}

/** Whether a new snapshot may have this id. */
export function isMomentId(id: string | undefined): boolean {
  return id === ID;
}

/**
 * Deletes what a session that ended too early has left. Null where there is nothing, or nothing can be deleted: the image is read-only, or
 * what it says of its snapshots can't be read.
 */
export function removeLeftMoment(image: Qcow2Image): Steps | null {
  if (image.readOnly || image.header.snapshotCount === 0) return null;
  try {
    const left = findSnapshot(image, { id: ID });
    return left !== null && isMoment(left) ? deleteSnapshot(image, { id: ID }) : null;
  } catch (error) {
    if (isQcow2Error(error)) return null;
    throw error;
  }
}
