/**
 * Going to an internal snapshot: the disk becomes what it was then, its size included (QEMU: `qemu-img snapshot -a`, `loadvm`).
 * The snapshot stays.
 *
 * What the active L1 table led to loses a reference, what the snapshot's leads to gets one more. One switch of the tables
 * (`metadata/table-switch.ts`): after a crash the disk is the one or the other.
 */
import { Qcow2Error } from '../../errors.js';
import { l1EntriesFor } from '../../format/geometry.js';
import { MAX_L1_BYTES, SECTOR_BYTES } from '../../format/limits.js';
import { prepareResize } from '../../image/grow-disk.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import type { ChangeableTables } from '../../metadata/changeable-tables.js';
import { namedTables } from '../../metadata/l2-references.js';
import { joinEntries, readSnapshots, tableBytes, type StoredSnapshot } from '../../metadata/snapshot-records.js';
import { TableSwitch } from '../../metadata/table-switch.js';
import { requireSnapshot, snapshotInfo } from './list-snapshots.js';
import { changeableForSnapshots, hostsOf, snapshotL1, takeUpSwitched, withUsableL1 } from './snapshot-tables.js';
import type { SnapshotInfo, SnapshotKey } from './snapshot-info.js';

export interface GotoOptions {
  /**
   * `keep`, as QEMU: the VM state can be read behind the end of the active disk, until the next snapshot is created. `drop`
   * leaves it to the snapshot alone, so that deleting the snapshot frees it.
   */
  readonly vmState?: 'keep' | 'drop';
}

/**
 * Stable when it returns. Throws `NOT_FOUND`, `LIMIT`, `UNSUPPORTED`, `BAD_IMAGE` for a disk size that can't be, and as a write
 * does; nothing has changed then.
 */
export function gotoSnapshot(image: Qcow2Image, key: SnapshotKey, options: GotoOptions = {}): SnapshotInfo {
  const tables = changeableForSnapshots(image);
  const snapshots = readSnapshots(tables.storage, tables.header.value);
  const snapshot = requireSnapshot(snapshots, key);
  const size = diskSizeOf(snapshot, tables);
  const next = nextL1(tables, snapshot, size, options.vmState ?? 'keep');
  prepareBitmaps(tables, size);
  const change = new TableSwitch(tables);
  const { references, changes } = change;
  for (const table of namedTables(next, tables.geometry)) references.count(table, changes, 1);
  for (const table of namedTables(hostsOf(tables.l1), tables.geometry)) references.count(table, changes, -1);
  const freed = change.commit({
    size,
    l1: next,
    snapshotL1: null,
    snapshotCount: snapshots.length,
    snapshotTable: () => joinEntries(snapshots.map(({ bytes }) => bytes)),
    oldSnapshotTableBytes: tableBytes(snapshots),
    keptL1Tables: withUsableL1(snapshots, tables),
  });
  tables.bitmaps.resize(size);
  takeUpSwitched(image, freed);
  return snapshotInfo(snapshot, image.header);
}

/** Nobody looks at what differs: to bitmaps all of the disk changes. */
function prepareBitmaps(tables: ChangeableTables, size: number): void {
  const { bitmaps, header } = tables;
  const old = header.value.size;
  if (size === old) tables.beforeGuestChange();
  else {
    bitmaps.checkResize(tables, size);
    prepareResize(tables);
  }
  bitmaps.mark(0, old);
}

/** What the snapshot says is not judged before: a size that no L1 table can hold must not get into the header. */
function diskSizeOf(snapshot: StoredSnapshot, { header, geometry }: ChangeableTables): number {
  const size = snapshot.diskSize ?? header.value.size;
  const most = (MAX_L1_BYTES / 8) * geometry.l2Coverage;
  if (size % SECTOR_BYTES === 0 && size <= most) return size;
  const limit = `it must be a multiple of ${SECTOR_BYTES}, and with this cluster size at most ${most}`;
  throw new Qcow2Error('BAD_IMAGE', `the disk size of snapshot ${snapshot.id} is ${size}; ${limit}`);
}

/** The active L1 table to be. It is not made smaller, so that the next VM state needs no new one. */
function nextL1(tables: ChangeableTables, snapshot: StoredSnapshot, size: number, vmState: 'keep' | 'drop') {
  const hosts = snapshotL1(tables, snapshot);
  const ofDisk = l1EntriesFor(tables.geometry, size);
  const kept = vmState === 'keep' ? hosts : hosts.subarray(0, ofDisk);
  const next = new Float64Array(Math.max(ofDisk, kept.length, tables.l1.entries));
  next.set(kept);
  return next;
}
