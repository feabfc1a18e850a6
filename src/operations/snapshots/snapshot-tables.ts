/** What the operations on snapshots have in common: which tables they work on, and what comes before and after a switch. */
import { Qcow2Error } from '../../errors.js';
import { l1EntriesFor } from '../../format/geometry.js';
import { hasDataFile } from '../../format/header.js';
import { checkSnapshotL1, flawOfSnapshotL1 } from '../../format/snapshot-table.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import type { ClusterRun } from '../../metadata/allocator.js';
import type { ChangeableTables } from '../../metadata/changeable-tables.js';
import type { ImageTables } from '../../metadata/image-tables.js';
import { L1_HIGH_MASK, OffsetTable } from '../../metadata/offset-table.js';
import type { StoredSnapshot } from '../../metadata/snapshot-records.js';

/** Throws `UNSUPPORTED` for an external data file, which counts nothing and so can't share anything; else as for any change. */
export function changeableForSnapshots(image: Qcow2Image): ChangeableTables {
  const tables = image.changeableTables();
  if (!hasDataFile(tables.header.value)) return tables;
  throw new Qcow2Error('UNSUPPORTED', 'the image keeps its data in an external data file; it can have no snapshots');
}

/** The L2 tables of a snapshot by guest range: offsets, 0 for none. Throws `BAD_IMAGE` or `CORRUPT`. */
export function snapshotL1(tables: ImageTables, snapshot: StoredSnapshot): Float64Array {
  checkSnapshotL1(snapshot, tables.geometry.clusterSize);
  const { id, l1Offset, l1Entries } = snapshot;
  return hostsOf(
    new OffsetTable({
      storage: tables.storage,
      name: `L1 table of snapshot ${id}`,
      offset: l1Offset,
      entries: l1Entries,
      clusterSize: tables.geometry.clusterSize,
      highMask: L1_HIGH_MASK,
      corrupt: (finding) => tables.corruption.found(finding),
    }),
  );
}

/** Those whose L1 tables can be: of the others nothing is known. */
export function withUsableL1(snapshots: readonly StoredSnapshot[], { geometry }: ImageTables): StoredSnapshot[] {
  return snapshots.filter((snapshot) => flawOfSnapshotL1(snapshot, geometry.clusterSize) === null);
}

/** What the entries of an L1 table name. Throws `CORRUPT`. */
export function hostsOf(table: OffsetTable): Float64Array {
  return Float64Array.from({ length: table.entries }, (_, index) => table.get(index));
}

/** Where VM state of the active disk starts, as a guest offset. */
export function vmStateStart({ geometry, header }: ImageTables): number {
  return l1EntriesFor(geometry, header.value.size) * geometry.l2Coverage;
}

/** After a switch: all tables are read anew, and what has become free may go back to the host. */
export function takeUpSwitched(image: Qcow2Image, freed: readonly ClusterRun[]): void {
  image.reloadTables();
  image.changeableTables().writable.allocator.passDown(freed, 'snapshot');
}
