/**
 * Deleting an internal snapshot (QEMU: `qemu-img snapshot -d`, `delvm`): everything that its L1 table leads to loses a
 * reference, and what the active disk has for itself then gets its COPIED flag back.
 *
 * Its tables are read bit by bit, and the guest may work meanwhile: what it writes is copied away from a snapshot. Then one
 * switch of the tables (`metadata/table-switch.ts`) deletes it: after a crash it is there, whole, or gone with all its room.
 * No other job on the whole image may run between the steps.
 */
import { Qcow2Error } from '../../errors.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { CountChanges } from '../../metadata/count-changes.js';
import { L2References, namedTables, type NamedTable } from '../../metadata/l2-references.js';
import { joinEntries, readSnapshots, tableBytes, type StoredSnapshot } from '../../metadata/snapshot-records.js';
import { TableSwitch } from '../../metadata/table-switch.js';
import { stepsOf, type Steps } from '../../util/steps.js';
import { requireSnapshot } from './list-snapshots.js';
import { changeableForSnapshots, hostsOf, snapshotL1, takeUpSwitched, withUsableL1 } from './snapshot-tables.js';
import type { SnapshotKey } from './snapshot-info.js';

/** L2 tables read in one step: bytes, and one table at least. */
const STEP_BYTES = 4 * 1024 * 1024;

/**
 * Gone, stably, after the last step. Throws `NOT_FOUND` at once; steps throw `CORRUPT`, `UNSUPPORTED`, and as a write does, and
 * have changed nothing then.
 */
export function deleteSnapshot(image: Qcow2Image, key: SnapshotKey): Steps {
  const { storage, header } = changeableForSnapshots(image);
  const snapshot = requireSnapshot(readSnapshots(storage, header.value), key);
  let named: NamedTable[] | null = null;
  let index = 0;
  let changes = new CountChanges();
  let deleted = false;
  return stepsOf(() => {
    if (deleted) return null;
    const tables = changeableForSnapshots(image);
    named ??= namedTables(snapshotL1(tables, snapshot), tables.geometry);
    const references = new L2References(tables);
    for (let budget = STEP_BYTES; index < named.length && budget > 0; budget -= tables.geometry.clusterSize) {
      references.count(named[index]!, changes, -1);
      index++;
    }
    if (index === named.length) {
      const counted = changes;
      // A switch that fails leaves the counts half used: asked for again, the step begins anew.
      [index, changes] = [0, new CountChanges()];
      switchTables(image, snapshot, counted);
      deleted = true;
    }
    const done = deleted ? named.length + 1 : index;
    return { done, total: named.length + 1, what: 'deleting a snapshot' };
  });
}

function switchTables(image: Qcow2Image, snapshot: StoredSnapshot, changes: CountChanges): void {
  const tables = changeableForSnapshots(image);
  const { header, storage, geometry, l1 } = tables;
  const snapshots = readSnapshots(storage, header.value);
  const index = snapshots.findIndex((other) => other.id === snapshot.id && other.l1Offset === snapshot.l1Offset);
  if (index < 0) throw new Qcow2Error('NOT_FOUND', `snapshot ${snapshot.id} has been deleted meanwhile`);
  const left = snapshots.filter((_, other) => other !== index);
  const change = new TableSwitch(tables, changes);
  changes.addRange(snapshot.l1Offset, snapshot.l1Entries * 8, { change: -1, clusterSize: geometry.clusterSize });
  const freed = change.commit({
    size: header.value.size,
    l1: hostsOf(l1),
    snapshotL1: null,
    snapshotCount: left.length,
    snapshotTable: () => joinEntries(left.map(({ bytes }) => bytes)),
    oldSnapshotTableBytes: tableBytes(snapshots),
    keptL1Tables: withUsableL1(left, tables),
  });
  takeUpSwitched(image, freed);
}
