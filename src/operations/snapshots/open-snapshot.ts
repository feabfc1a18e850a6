/**
 * A snapshot as a disk of its own, to be read: the image stays as it is (QEMU: `load_tmp`, `qemu-img convert -l`).
 *
 * What a snapshot leads to never changes, so the guest may go on meanwhile. The view is good until the snapshot is deleted or
 * the image closed; it owns nothing.
 */
import type { Disk, Extent, GuestOffset } from '../../disk.js';
import { Qcow2Error } from '../../errors.js';
import { checkSnapshotL1 } from '../../format/snapshot-table.js';
import { checkRange } from '../../image/disk-range.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { planRead } from '../../image/read-plan.js';
import { readBehind, readViewOf, type ReadView } from '../../image/read-view.js';
import { executeRead } from '../../image/read.js';
import type { ImageTables } from '../../metadata/image-tables.js';
import type { MappedRun } from '../../metadata/mapped-run.js';
import { readSnapshots } from '../../metadata/snapshot-records.js';
import { vmStateStart } from './snapshot-tables.js';
import { requireSnapshot, snapshotInfo } from './list-snapshots.js';
import type { SnapshotInfo, SnapshotKey } from './snapshot-info.js';

/** Throws `NOT_FOUND`, and `BAD_IMAGE` for an L1 table that can't be. */
export function openSnapshot(image: Qcow2Image, key: SnapshotKey): SnapshotView {
  const { header } = image;
  const snapshot = requireSnapshot(readSnapshots(image.storage, header), key);
  checkSnapshotL1(snapshot, image.clusterSize);
  const info = snapshotInfo(snapshot, header);
  const { l1Offset, l1Entries } = snapshot;
  const tables = image.snapshotTables({ ...header, size: info.diskSize, l1Offset, l1Entries });
  return new SnapshotView(info, tables, image.backing);
}

export class SnapshotView implements Disk {
  readonly readOnly = true;
  readonly info: SnapshotInfo;
  readonly #tables: ImageTables;
  readonly #view: ReadView;
  #closed = false;

  /** For `openSnapshot`. */
  constructor(info: SnapshotInfo, tables: ImageTables, backing: Disk | null) {
    this.info = info;
    this.#tables = tables;
    this.#view = readViewOf(tables, backing);
  }

  get size(): number {
    return this.info.diskSize;
  }

  read(offset: GuestOffset, target: Uint8Array): void {
    this.#check(offset, target.length);
    executeRead(this.#view.sources, planRead(this.#view.mapping, offset, target.length), offset, target);
  }

  extents(offset: GuestOffset, length: number): Iterable<Extent> {
    this.#check(offset, length);
    return planRead(this.#view.mapping, offset, length);
  }

  /** Bytes of the VM state from `offset` on; zeroes where nothing was written. */
  readVmState(offset: number, target: Uint8Array): void {
    this.#check(0, 0);
    readBehind(this.#view, this.#tables, this.vmStateStart + offset, target);
  }

  /** How the cluster at `offset` of the VM state is stored; null for one that is behind the last. */
  vmStateRun(offset: number): MappedRun | null {
    const { l1, l2, geometry } = this.#tables;
    const at = this.vmStateStart + offset;
    return at < l1.entries * geometry.l2Coverage ? l2.runAt(at, geometry.clusterSize) : null;
  }

  write(): never {
    throw readOnly();
  }

  writeZeroes(): never {
    throw readOnly();
  }

  discard(): never {
    throw readOnly();
  }

  flush(): void {
    this.#check(0, 0);
  }

  close(): void {
    this.#closed = true;
  }

  /** Where its VM state starts, as a guest offset. */
  get vmStateStart(): number {
    return vmStateStart(this.#tables);
  }

  #check(offset: GuestOffset, length: number): void {
    if (this.#closed) throw new Qcow2Error('CLOSED', `snapshot ${this.info.id} was used after close()`);
    checkRange(this.size, offset, length);
  }
}

function readOnly(): Qcow2Error {
  return new Qcow2Error('READ_ONLY', 'a snapshot can only be read');
}
