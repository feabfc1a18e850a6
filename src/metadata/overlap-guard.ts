/**
 * Overlap guard: before anything is written, that it does not lie on metadata. In a damaged image an L2 entry may name the
 * cluster of a table, or refcounts may say that a table is free; writing there would lose the image.
 *
 * - Guest data must lie on no structure; the write of a table on no *other* one: it says what it is and that one is left out.
 * - Ranges are widened to whole clusters: a cluster has one use.
 * - A hit is a fatal corruption (`corruption.ts`): nothing is written, here or later.
 * - The LUKS header with its key slots goes with the header: QEMU does not guard it, and without it all data are lost.
 * - With an external data file guest data lies in that file, where there is no metadata; the caller does not ask then.
 *
 * The way of every write goes through here. The active L2 tables and refcount blocks are looked up by cluster in the sets
 * that the two offset tables keep; the others are a handful of ranges.
 */
import type { HostOffset } from '../disk.js';
import { isQcow2Error } from '../errors.js';
import { bitmapsExtensionOf } from '../format/bitmap-directory.js';
import type { CryptoArea } from '../format/crypto-extension.js';
import { cryptoAreaOf, type Header } from '../format/header.js';
import { alignDown, alignUp, hex } from '../util/integers.js';
import type { Corruption } from './corruption.js';
import type { HeaderState } from './header-state.js';
import type { HostRange, InactiveTables } from './inactive-tables.js';
import type { OffsetTable } from './offset-table.js';
import { GUARDED_STRUCTURES, guardedStructures, type GuardedStructure, type OverlapCheck } from './overlap-options.js';

export interface OverlapGuardOptions {
  readonly clusterSize: number;
  readonly header: HeaderState;
  readonly l1: OffsetTable;
  readonly refcountTable: OffsetTable;
  readonly inactive: InactiveTables;
  readonly corruption: Corruption;
  readonly check?: OverlapCheck | undefined;
}

const SNAPSHOT_STRUCTURES: readonly GuardedStructure[] = ['snapshotTable', 'inactiveL1', 'inactiveL2'];

/** For messages. */
const NAMES: Readonly<Record<GuardedStructure | 'encryption', string>> = {
  mainHeader: 'the header',
  activeL1: 'the L1 table',
  activeL2: 'an L2 table',
  refcountTable: 'the refcount table',
  refcountBlock: 'a refcount block',
  snapshotTable: 'the snapshot table',
  inactiveL1: 'the L1 table of a snapshot',
  inactiveL2: 'an L2 table of a snapshot',
  bitmapDirectory: 'the bitmap directory',
  encryption: 'the encryption header',
};

/** One bit for each structure: the guard stands in the way of every write. */
const BIT = Object.fromEntries(GUARDED_STRUCTURES.map((structure, index) => [structure, 1 << index])) as Readonly<
  Record<GuardedStructure, number>
>;
const IN_TABLES = BIT.activeL2 | BIT.refcountBlock | BIT.inactiveL2;

export class OverlapGuard {
  readonly #options: OverlapGuardOptions;
  readonly #guarded: number;
  /** Where the bitmap directory lies by this header. */
  #bitmaps: { readonly header: Header; readonly directory: HostRange | null } | null = null;
  /** Where the LUKS header lies. It never moves while an image is open. */
  readonly #encryption: CryptoArea | null;

  /** Throws `BAD_ARGUMENT` for a choice of checks that does not exist, `BAD_IMAGE` for snapshots that can't be read. */
  constructor(options: OverlapGuardOptions) {
    this.#options = options;
    this.#encryption = cryptoAreaOf(options.header.value);
    const guarded = guardedStructures(options.check);
    this.#guarded = [...guarded].reduce((bits, structure) => bits | BIT[structure], 0);
    const looksAtSnapshots = SNAPSHOT_STRUCTURES.some((structure) => guarded.has(structure));
    // A write must not be the first to meet a damaged snapshot table.
    if (looksAtSnapshots) options.inactive.read();
  }

  /** Throws `CORRUPT` when `length` bytes at `host`, about to be written as `what`, touch metadata other than `own`. */
  check(host: HostOffset, length: number, what: string, own?: GuardedStructure | 'encryption'): void {
    const guarded = own === undefined || own === 'encryption' ? this.#guarded : this.#guarded & ~BIT[own];
    if (guarded === 0) return;
    const { clusterSize, corruption } = this.#options;
    const start = alignDown(host, clusterSize);
    const end = alignUp(host + length, clusterSize);
    const structure = this.#ownerOf(start, end, guarded, own !== 'encryption');
    if (structure === null) return;
    const message = `${what} at ${hex(host)} (${length} bytes) would overwrite ${NAMES[structure]}`;
    const facts = { fact: 'overlap', structure, writing: what } as const;
    throw corruption.found({ message, offset: host, size: length, facts });
  }

  /** The first structure that clusters `start .. end` touch. */
  #ownerOf(
    start: HostOffset,
    end: HostOffset,
    guarded: number,
    alsoKeySlots: boolean,
  ): GuardedStructure | 'encryption' | null {
    const structure = this.#inRanges(start, end, guarded) ?? this.#inTables(start, end, guarded);
    if (structure !== null) return structure;
    const area = (guarded & BIT.mainHeader) !== 0 && alsoKeySlots ? this.#encryption : null;
    return area !== null && start < area.offset + area.length && area.offset < end ? 'encryption' : null;
  }

  #inRanges(start: HostOffset, end: HostOffset, guarded: number): GuardedStructure | null {
    const { clusterSize, header, l1, refcountTable, inactive } = this.#options;
    const touches = (offset: HostOffset, length: number) => start < offset + length && offset < end;
    const touchesRange = (range: HostRange | null) => range !== null && touches(range.offset, range.length);
    if ((guarded & BIT.mainHeader) !== 0 && start < clusterSize) return 'mainHeader';
    if ((guarded & BIT.activeL1) !== 0 && touches(l1.offset, l1.entries * 8)) return 'activeL1';
    if ((guarded & BIT.refcountTable) !== 0 && touches(refcountTable.offset, refcountTable.entries * 8)) {
      return 'refcountTable';
    }
    if (header.value.snapshotCount > 0) {
      if ((guarded & BIT.snapshotTable) !== 0 && touchesRange(inactive.snapshotTable)) return 'snapshotTable';
      if ((guarded & BIT.inactiveL1) !== 0 && inactive.l1Tables.some(touchesRange)) return 'inactiveL1';
    }
    if ((guarded & BIT.bitmapDirectory) !== 0 && touchesRange(this.#bitmapDirectory())) return 'bitmapDirectory';
    return null;
  }

  #inTables(start: HostOffset, end: HostOffset, guarded: number): GuardedStructure | null {
    if ((guarded & IN_TABLES) === 0) return null;
    const { clusterSize, l1, refcountTable, inactive } = this.#options;
    for (let at = start; at < end; at += clusterSize) {
      if ((guarded & BIT.activeL2) !== 0 && l1.names(at)) return 'activeL2';
      if ((guarded & BIT.refcountBlock) !== 0 && refcountTable.names(at)) return 'refcountBlock';
      if ((guarded & BIT.inactiveL2) !== 0 && inactive.namesL2(at)) return 'inactiveL2';
    }
    return null;
  }

  /** Only as long as the autoclear bit vouches for the extension (spec, "Bitmaps extension"). */
  #bitmapDirectory(): HostRange | null {
    const header = this.#options.header.value;
    if (this.#bitmaps?.header !== header) this.#bitmaps = { header, directory: bitmapDirectoryOf(header) };
    return this.#bitmaps.directory;
  }
}

/** One that breaks the format names no directory: nobody here reads or keeps it. */
function bitmapDirectoryOf(header: Header): HostRange | null {
  try {
    const extension = bitmapsExtensionOf(header);
    return extension && { offset: extension.directoryOffset, length: extension.directoryBytes };
  } catch (error) {
    if (isQcow2Error(error, 'BAD_IMAGE') || isQcow2Error(error, 'LIMIT')) return null;
    throw error;
  }
}
