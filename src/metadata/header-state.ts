/**
 * The header of an open image: the record as it stands in the file, and the few fields that are rewritten in place. Each
 * method writes one group of fields that lies within one sector; the caller sees to the barriers around it.
 *
 * Autoclear bits vouch for what only software that knows them keeps up to date (spec, "autoclear_features"):
 *
 *   before a change of any kind        those unknown to us are cleared, stably: `beforeChange`
 *   before one that the guest can see  that of bitmaps that are not kept up to date, too: `beforeGuestChange`
 *
 * Writing the header here is such a change and sees to it itself. A job that begins with something else calls one of the two.
 */
import { Qcow2Error } from '../errors.js';
import {
  AUTOCLEAR_BITMAPS,
  AUTOCLEAR_RAW_DATA_FILE,
  COMPATIBLE_LAZY_REFCOUNTS,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DIRTY,
  KNOWN_AUTOCLEAR,
} from '../format/features.js';
import {
  HEADER_AT,
  HEADER_PROBE_BYTES,
  cryptoAreaOf,
  decodeHeader,
  hasDataFile,
  probeClusterSize,
  type Header,
} from '../format/header.js';
import type { Storage } from '../storage/storage.js';
import { setUint64, viewOf } from '../util/big-endian.js';
import { alignUp, hex } from '../util/integers.js';
import { rewriteHeader } from './header-rewrite.js';

/** Reads and checks the header. Throws `NOT_QCOW2`, `BAD_IMAGE` or `UNSUPPORTED`; changes nothing. */
export function readHeader(storage: Storage): Header {
  const probe = new Uint8Array(HEADER_PROBE_BYTES);
  storage.read(0, probe);
  const cluster = new Uint8Array(probeClusterSize(probe, storage.size));
  storage.read(0, cluster);
  const header = decodeHeader(cluster);
  checkPlaces(header, storage.size);
  return header;
}

/** The tables that each request needs must lie inside the file; the last cluster of a file may be cut short. */
function checkPlaces(header: Header, fileSize: number): void {
  const clusterSize = 2 ** header.clusterBits;
  const limit = alignUp(fileSize, clusterSize);
  const check = (name: string, offset: number, length: number) => {
    if (length === 0 || offset + length <= limit) return;
    const where = `lies at ${hex(offset)} to ${hex(offset + length)}; the file ends at ${hex(fileSize)}`;
    throw new Qcow2Error('BAD_IMAGE', `the ${name} ${where}`);
  };
  const { l1Entries, refcountTableClusters } = header;
  const area = cryptoAreaOf(header);
  if (area !== null) check('encryption header', area.offset, area.length);
  check(`L1 table (l1_size ${l1Entries})`, header.l1Offset, l1Entries * 8);
  const refcountTable = `refcount table (refcount_table_clusters ${refcountTableClusters})`;
  check(refcountTable, header.refcountTableOffset, refcountTableClusters * clusterSize);
}

/** What `setTables` writes. */
export type HeaderTables = Pick<
  Header,
  | 'size'
  | 'l1Entries'
  | 'l1Offset'
  | 'refcountTableOffset'
  | 'refcountTableClusters'
  | 'snapshotCount'
  | 'snapshotsOffset'
>;

export class HeaderState {
  readonly #storage: Storage;
  readonly #lazyRefcounts: boolean | undefined;
  #header: Header;

  /** Throws `BAD_ARGUMENT` for lazy refcounts of an image of version 2, which has no dirty bit. */
  constructor(storage: Storage, header: Header, options: { readonly lazyRefcounts?: boolean | undefined } = {}) {
    if (options.lazyRefcounts === true && header.version < 3) {
      throw new Qcow2Error('BAD_ARGUMENT', `lazyRefcounts needs version 3; the image has version ${header.version}`);
    }
    this.#storage = storage;
    this.#header = header;
    this.#lazyRefcounts = options.lazyRefcounts;
  }

  get value(): Header {
    return this.#header;
  }

  /** Whether refcounts are written late: as the feature bit says, unless the caller chose otherwise. */
  get lazyRefcounts(): boolean {
    return this.#lazyRefcounts ?? (this.#header.compatible & COMPATIBLE_LAZY_REFCOUNTS) !== 0n;
  }

  get dirty(): boolean {
    return (this.#header.incompatible & INCOMPATIBLE_DIRTY) !== 0n;
  }

  setDirty(dirty: boolean): void {
    this.#setIncompatible(INCOMPATIBLE_DIRTY, dirty);
  }

  /** Marks the image corrupt. Version 3 only. */
  setCorrupt(): void {
    this.#setIncompatible(INCOMPATIBLE_CORRUPT, true);
  }

  /** To be called before the first change of anything in the file. Stable when it returns. */
  beforeChange(): void {
    this.#keepAutoclear(this.#header.autoclear & KNOWN_AUTOCLEAR);
  }

  /** To be called before the first change of anything the guest can see. Stable when it returns. */
  beforeGuestChange({ bitmapsKept }: { readonly bitmapsKept: boolean }): void {
    const rawDataFile = hasDataFile(this.#header) ? AUTOCLEAR_RAW_DATA_FILE : 0n;
    this.#keepAutoclear(this.#header.autoclear & (bitmapsKept ? rawDataFile | AUTOCLEAR_BITMAPS : rawDataFile));
  }

  setRefcountTable(refcountTableOffset: number, refcountTableClusters: number): void {
    const bytes = new Uint8Array(12);
    const view = viewOf(bytes);
    setUint64(view, 0, refcountTableOffset);
    view.setUint32(8, refcountTableClusters);
    this.#writeFields(HEADER_AT.refcountTableOffset, bytes);
    this.#header = { ...this.#header, refcountTableOffset, refcountTableClusters };
  }

  /** The size of the disk and the place of the active L1 table: one write, so that they always fit each other. */
  setSizeAndL1(size: number, l1Offset: number, l1Entries: number): void {
    const bytes = new Uint8Array(HEADER_AT.l1Offset + 8 - HEADER_AT.size);
    const view = viewOf(bytes);
    setUint64(view, 0, size);
    view.setUint32(8, this.#header.cryptMethod);
    view.setUint32(HEADER_AT.l1Entries - HEADER_AT.size, l1Entries);
    setUint64(view, HEADER_AT.l1Offset - HEADER_AT.size, l1Offset);
    this.#writeFields(HEADER_AT.size, bytes);
    this.#header = { ...this.#header, size, l1Offset, l1Entries };
  }

  /** All tables at once, and the size of the disk: one write within a sector. */
  setTables(tables: HeaderTables): void {
    const bytes = new Uint8Array(HEADER_AT.snapshotsOffset + 8 - HEADER_AT.size);
    const view = viewOf(bytes);
    const at = (field: number): number => field - HEADER_AT.size;
    setUint64(view, 0, tables.size);
    view.setUint32(8, this.#header.cryptMethod);
    view.setUint32(at(HEADER_AT.l1Entries), tables.l1Entries);
    setUint64(view, at(HEADER_AT.l1Offset), tables.l1Offset);
    setUint64(view, at(HEADER_AT.refcountTableOffset), tables.refcountTableOffset);
    view.setUint32(at(HEADER_AT.refcountTableClusters), tables.refcountTableClusters);
    view.setUint32(at(HEADER_AT.snapshotCount), tables.snapshotCount);
    setUint64(view, at(HEADER_AT.snapshotsOffset), tables.snapshotsOffset);
    this.#writeFields(HEADER_AT.size, bytes);
    this.#header = { ...this.#header, ...tables };
  }

  /**
   * Writes the whole header anew, with its extensions and names; stable when it returns (`header-rewrite.ts`). Autoclear bits
   * that are unknown go with the same write.
   */
  rewrite(next: Header): void {
    const known = { ...next, autoclear: next.autoclear & KNOWN_AUTOCLEAR };
    this.#header = rewriteHeader(this.#storage, this.#header, known);
  }

  #setIncompatible(bit: bigint, on: boolean): void {
    const others = this.#header.incompatible & ~bit;
    const incompatible = on ? others | bit : others;
    this.#writeFields(HEADER_AT.incompatible, flagBytes(incompatible));
    this.#header = { ...this.#header, incompatible };
  }

  #keepAutoclear(autoclear: bigint): void {
    if (autoclear === this.#header.autoclear) return;
    this.#storage.write(HEADER_AT.autoclear, flagBytes(autoclear));
    this.#header = { ...this.#header, autoclear };
    this.#storage.flush();
  }

  #writeFields(at: number, bytes: Uint8Array): void {
    this.beforeChange();
    this.#storage.write(at, bytes);
  }
}

function flagBytes(flags: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, flags);
  return bytes;
}
