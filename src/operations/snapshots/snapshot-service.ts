/**
 * The snapshots of an open image as the owner of a machine uses them: by id, the VM state in pieces. The worker's session
 * (`worker/disk-session.ts`) and `localSnapshots` are made of it. Every call runs to its end, but for the job of a delete.
 *
 * The snapshot that is read from, or shared with, is kept open: a VM state comes in many pieces.
 */
import type { Qcow2Image } from '../../image/qcow2-image.js';
import type { Steps } from '../../util/steps.js';
import { createSnapshot } from './create-snapshot.js';
import { deleteSnapshot } from './delete-snapshot.js';
import { gotoSnapshot } from './goto-snapshot.js';
import { snapshotUsage } from './list-snapshots.js';
import { openSnapshot, type SnapshotView } from './open-snapshot.js';
import type { NewSnapshot, SnapshotInfo, SnapshotUsage, VmStateOptions, VmStateWritten } from './snapshot-info.js';
import { discardVmState, writeVmStateLike } from './vm-state.js';

export class SnapshotService {
  readonly #image: Qcow2Image;
  #open: SnapshotView | null = null;

  constructor(image: Qcow2Image) {
    this.#image = image;
  }

  list(): SnapshotUsage[] {
    return snapshotUsage(this.#image);
  }

  create(options: NewSnapshot): SnapshotInfo {
    return createSnapshot(this.#image, options);
  }

  /** The VM state stays the snapshot's alone, so that deleting the snapshot frees it. */
  goto(id: string): SnapshotInfo {
    return gotoSnapshot(this.#image, { id }, { vmState: 'drop' });
  }

  delete(id: string): Steps {
    if (this.#open?.info.id === id) this.#open = null;
    return deleteSnapshot(this.#image, { id });
  }

  readVmState(id: string, offset: number, target: Uint8Array): void {
    this.#opened(id).readVmState(offset, target);
  }

  writeVmState(offset: number, source: Uint8Array, options: VmStateOptions): VmStateWritten {
    const { like = null, compress = false } = options;
    const other =
      like === null ? null : typeof like === 'string' ? this.#opened(like) : openSnapshot(this.#image, like);
    return writeVmStateLike(this.#image, { offset, source, like: other, compress });
  }

  discardVmState(): void {
    discardVmState(this.#image);
  }

  /** An id is not given twice as long as its snapshot exists, and the view goes before its snapshot does. */
  #opened(id: string): SnapshotView {
    if (this.#open?.info.id !== id) this.#open = openSnapshot(this.#image, { id });
    return this.#open;
  }
}
