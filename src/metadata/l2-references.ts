/**
 * L2 references: which host clusters the entries of L2 tables name (spec, "L2 table entry"), read straight from the file, for
 * jobs on all tables of an image or of a snapshot. Strict: an entry that can't be is `CORRUPT`, as it is in use.
 *
 * A table that an L1 table names several times is read once, with its references weighed.
 */
import type { GuestOffset, HostOffset } from '../disk.js';
import type { CompressedDescriptor } from '../format/compressed-descriptor.js';
import type { Geometry } from '../format/geometry.js';
import { l2EntryCopied, l2EntryHost, l2EntryKind } from '../format/l2-entry.js';
import { viewOf } from '../util/big-endian.js';
import type { CountChanges } from './count-changes.js';
import type { ImageTables } from './image-tables.js';
import { EntryChecks } from './l2-entries.js';

/** An L2 table and how many entries of the L1 tables looked at name it. */
export interface NamedTable {
  readonly host: HostOffset;
  readonly times: number;
  /** Of the first entry that names it: where the guest range that it maps starts. */
  readonly guest: GuestOffset;
}

/** The L2 tables among `hosts`, the entries of an L1 table as offsets with 0 for none; each once. */
export function namedTables(hosts: Iterable<HostOffset>, geometry: Geometry): NamedTable[] {
  const tables = new Map<HostOffset, { host: HostOffset; times: number; guest: GuestOffset }>();
  let index = 0;
  for (const host of hosts) {
    const known = tables.get(host);
    if (known !== undefined) known.times++;
    else if (host !== 0) tables.set(host, { host, times: 1, guest: index * geometry.l2Coverage });
    index++;
  }
  return [...tables.values()];
}

export interface EntryVisitor {
  /** `at` is where the entry lies in the table, in bytes. */
  cluster?(host: HostOffset, at: number, copied: boolean): void;
  compressed?(descriptor: CompressedDescriptor): void;
}

export class L2References {
  readonly #tables: ImageTables;
  readonly #checks: EntryChecks;

  constructor(tables: ImageTables) {
    const { storage, geometry, corruption } = tables;
    this.#tables = tables;
    this.#checks = new EntryChecks({ storage, geometry, corruption, externalData: false });
  }

  /** Calls `visitor` for each entry of `table` that names clusters. Returns the table's bytes. Throws `CORRUPT`. */
  visit(table: NamedTable, visitor: EntryVisitor): Uint8Array {
    const { geometry, storage } = this.#tables;
    const { l2EntryBytes, clusterSize } = geometry;
    const bytes = new Uint8Array(clusterSize);
    storage.read(table.host, bytes);
    const view = viewOf(bytes);
    for (let at = 0; at < bytes.length; at += l2EntryBytes) {
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      if (high === 0 && low === 0) continue;
      const kind = l2EntryKind(low, high);
      if (kind === 'unallocated' || kind === 'zero') continue;
      const guest = table.guest + (at / l2EntryBytes) * clusterSize;
      if (kind === 'compressed') {
        const descriptor = this.#checks.compressed(low, high, guest);
        visitor.compressed?.(descriptor);
        continue;
      }
      const host = l2EntryHost(low, high);
      this.#checks.allocated(host, 1, guest);
      visitor.cluster?.(host, at, l2EntryCopied(high));
    }
    return bytes;
  }

  /** Adds `change` for each reference that `table` is and makes, as often as it is named. */
  count(table: NamedTable, changes: CountChanges, change: number): void {
    const { clusterSize } = this.#tables.geometry;
    const weighed = change * table.times;
    changes.add(table.host / clusterSize, weighed);
    this.visit(table, {
      cluster: (host) => changes.add(host / clusterSize, weighed),
      compressed: ({ host, length }) => changes.addRange(host, length, { change: weighed, clusterSize }),
    });
  }
}
