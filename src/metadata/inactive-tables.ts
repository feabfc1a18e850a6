/**
 * Inactive tables: where the structures of internal snapshots lie (spec, "Snapshots"), as far as the overlap guard wants to
 * know. Nothing is changed, and the places are read once for each state of the snapshot table.
 *
 *   snapshot table -> L1 table of each snapshot -> L2 tables
 *
 * Of a damaged snapshot table, what can be known is guarded: a table that the file does not hold whole guards all the room it
 * would take; an L1 table that can't be guards nothing, and asking for the L2 tables of all snapshots fails then.
 *
 * Memory: a range for each snapshot, and, only when inactive L2 tables are guarded, one number for each of them, however
 * many snapshots share it.
 */
import type { HostOffset } from '../disk.js';
import { SNAPSHOT_FIXED_BYTES, checkSnapshotL1, flawOfSnapshotL1 } from '../format/snapshot-table.js';
import type { Storage } from '../storage/storage.js';
import { viewOf } from '../util/big-endian.js';
import type { HeaderState } from './header-state.js';
import { snapshotEntries, type StoredSnapshot } from './snapshot-records.js';

export interface HostRange {
  readonly offset: HostOffset;
  /** Bytes. */
  readonly length: number;
}

export interface InactiveTablesOptions {
  readonly storage: Storage;
  readonly header: HeaderState;
}

/** L1 entries that are looked at in one read. */
const ENTRIES_PER_READ = 4096;
const HIGH_OFFSET_MASK = 0x00ff_ffff;
const LOW_OFFSET_MASK = 0xffff_fe00;

export class InactiveTables {
  readonly #options: InactiveTablesOptions;
  /** Bytes of the snapshot table that `#l1Tables` was read from; -1 before that. */
  #tableBytes = -1;
  #l1Tables: readonly HostRange[] = [];
  /** The first snapshot whose L1 table can't be, and is not among them. */
  #unusable: StoredSnapshot | null = null;
  #l2Tables: ReadonlySet<HostOffset> | null = null;

  constructor(options: InactiveTablesOptions) {
    this.#options = options;
  }

  /** Reads the snapshot table, unless it has been read. Throws `BAD_IMAGE`. */
  read(): void {
    if (this.#tableBytes < 0) this.#readTable();
  }

  /** Null where there is none. Throws `BAD_IMAGE` for a table that can't be read. */
  get snapshotTable(): HostRange | null {
    const { snapshotCount, snapshotsOffset } = this.#options.header.value;
    if (snapshotCount === 0) return null;
    this.read();
    return { offset: snapshotsOffset, length: this.#tableBytes };
  }

  /** The L1 tables of the snapshots. Throws `BAD_IMAGE`. */
  get l1Tables(): readonly HostRange[] {
    if (this.#options.header.value.snapshotCount === 0) return [];
    this.read();
    return this.#l1Tables;
  }

  /** Whether some snapshot's L1 table names `offset`. Throws `BAD_IMAGE`, also for an L1 table that can't be. */
  namesL2(offset: HostOffset): boolean {
    if (this.#options.header.value.snapshotCount === 0) return false;
    this.#l2Tables ??= this.#collectL2Tables();
    return this.#l2Tables.has(offset);
  }

  /** To be called when the snapshot table, or an L1 table of a snapshot, was written. */
  changed(): void {
    this.#tableBytes = -1;
    this.#l1Tables = [];
    this.#unusable = null;
    this.#l2Tables = null;
  }

  #readTable(): void {
    const { storage, header } = this.#options;
    const { clusterBits, snapshotCount } = header.value;
    const l1Tables: HostRange[] = [];
    let unusable: StoredSnapshot | null = null;
    let length = 0;
    for (const entry of snapshotEntries(storage, header.value, { cutShort: 'accept' })) {
      const isUsable = flawOfSnapshotL1(entry, 2 ** clusterBits) === null;
      if (isUsable) l1Tables.push({ offset: entry.l1Offset, length: entry.l1Entries * 8 });
      else unusable ??= entry;
      length += entry.byteLength;
    }
    this.#l1Tables = l1Tables;
    this.#unusable = unusable;
    this.#tableBytes = Math.max(length, snapshotCount * SNAPSHOT_FIXED_BYTES);
  }

  #collectL2Tables(): Set<HostOffset> {
    const { storage, header } = this.#options;
    const found = new Set<HostOffset>();
    const l1Tables = union(this.l1Tables);
    if (this.#unusable !== null) checkSnapshotL1(this.#unusable, 2 ** header.value.clusterBits);
    for (const { offset, length } of l1Tables) {
      for (let done = 0; done < length; done += ENTRIES_PER_READ * 8) {
        const bytes = new Uint8Array(Math.min(ENTRIES_PER_READ * 8, length - done));
        storage.read(offset + done, bytes);
        const view = viewOf(bytes);
        for (let at = 0; at < bytes.length; at += 8) {
          const high = view.getUint32(at) & HIGH_OFFSET_MASK;
          const low = (view.getUint32(at + 4) & LOW_OFFSET_MASK) >>> 0;
          if (high !== 0 || low !== 0) found.add(high * 0x1_0000_0000 + low);
        }
      }
    }
    return found;
  }
}

/** The same bytes without repetition: the tables of a bad image may lie in each other, and would be read over and over. */
function union(ranges: readonly HostRange[]): HostRange[] {
  const merged: HostRange[] = [];
  for (const { offset, length } of [...ranges].sort((a, b) => a.offset - b.offset)) {
    const last = merged.at(-1);
    if (last === undefined || offset > last.offset + last.length) merged.push({ offset, length });
    else
      merged[merged.length - 1] = { offset: last.offset, length: Math.max(last.length, offset + length - last.offset) };
  }
  return merged;
}
