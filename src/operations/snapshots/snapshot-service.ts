/**
 * The snapshots of an open image as the owner of a machine uses them: by id, the VM state in pieces. The worker's session
 * (`worker/disk-session.ts`) and `localSnapshots` are made of it. Every call runs to its end, but for the job of a delete.
 *
 * The snapshot that is read from, or shared with, is kept open: a VM state comes in many pieces. That of an export
 * (`export-moment.ts`) is nobody's: it is not listed, and can't be used.
 */
import { Qcow2Error } from '../../errors.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import type { ImageTables } from '../../metadata/image-tables.js';
import type { Steps } from '../../util/steps.js';
import { createSnapshot } from './create-snapshot.js';
import { deleteSnapshot } from './delete-snapshot.js';
import { isMoment, isMomentId } from './export-moment.js';
import { gotoSnapshot } from './goto-snapshot.js';
import { findSnapshot, snapshotUsage } from './list-snapshots.js';
import { openSnapshot, type SnapshotView } from './open-snapshot.js';
import type { NewSnapshot, SnapshotInfo, SnapshotUsage, VmStateOptions, VmStateWritten } from './snapshot-info.js';
import { discardVmState, writeVmStateLike } from './vm-state.js';

export class SnapshotService {
  readonly #image: Qcow2Image;
  /** Good as long as the image has the tables it had then: each operation on snapshots reads them anew. */
  #open: { readonly view: SnapshotView; readonly tables: ImageTables } | null = null;

  constructor(image: Qcow2Image) {
    this.#image = image;
  }

  list(): SnapshotUsage[] {
    return snapshotUsage(this.#image).filter((snapshot) => !isMoment(snapshot));
  }

  create(options: NewSnapshot): SnapshotInfo {
    if (isMomentId(options.id)) {
      throw new Qcow2Error(
        'BAD_ARGUMENT',
        `id is ${JSON.stringify(options.id)}, which exports use; choose another one`,
      );
    }
    return createSnapshot(this.#image, options);
  }

  /** The VM state stays the snapshot's alone, so that deleting the snapshot frees it. */
  goto(id: string): SnapshotInfo {
    this.#checkUsable(id);
    return gotoSnapshot(this.#image, { id }, { vmState: 'drop' });
  }

  delete(id: string): Steps {
    this.#checkUsable(id);
    return deleteSnapshot(this.#image, { id });
  }

  readVmState(id: string, offset: number, target: Uint8Array): void {
    this.#checkUsable(id);
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

  /** Throws `NOT_FOUND` for the snapshot of an export, which is not listed either. */
  #checkUsable(id: string): void {
    const found = isMomentId(id) ? findSnapshot(this.#image, { id }) : null;
    if (found === null || !isMoment(found)) return;
    throw new Qcow2Error('NOT_FOUND', `the snapshot ${id} is that of an export, and is not to be used`);
  }

  /** After a delete the same id may be given again, so a view does not outlive any operation. */
  #opened(id: string): SnapshotView {
    const { tables } = this.#image;
    if (this.#open?.view.info.id !== id || this.#open.tables !== tables) {
      this.#open = { view: openSnapshot(this.#image, { id }), tables };
    }
    return this.#open.view;
  }
}
