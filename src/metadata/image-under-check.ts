/**
 * The image under check: header and geometry of an image that a normal open may refuse, and the few writes of a repair.
 *
 * The header must be valid, but for what a check can live with: the corrupt bit, a refcount table that is missing or lies outside the file. Tables that lie outside the file read as zeroes here, and
 * the scan reports them.
 *
 * Invariants of a repair: unknown autoclear bits are cleared, stably, before the first write (spec, "autoclear_features");
 * each field group of the header is one write within one sector; what it points to is stable before (invariant 6 of
 * `write-order.ts`).
 */
import { Qcow2Error } from '../errors.js';
import {
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DATA_FILE,
  INCOMPATIBLE_DIRTY,
  KNOWN_AUTOCLEAR,
  INCOMPATIBLE_EXTENDED_L2,
} from '../format/features.js';
import { geometryOf, type Geometry } from '../format/geometry.js';
import { HEADER_AT, HEADER_PROBE_BYTES, decodeHeader, probeClusterSize, type Header } from '../format/header.js';
import type { Storage } from '../storage/storage.js';
import { getUint64, setUint64, viewOf } from '../util/big-endian.js';
import { divideUp } from '../util/integers.js';

/** As QEMU's limit: more clusters than these are not checked. */
const MOST_FILE_CLUSTERS = 2 ** 31 - 1;
/** Byte of the header: nb_snapshots, with snapshots_offset behind it. */
const SNAPSHOTS_AT = 60;

export class ImageUnderCheck {
  readonly storage: Storage;
  readonly geometry: Geometry;
  readonly clusterSize: number;
  /** Guest clusters lie in a file of their own and are not counted. */
  readonly hasDataFile: boolean;
  #header: Header;

  /** Throws `NOT_QCOW2`, `BAD_IMAGE`, `UNSUPPORTED`, or `LIMIT` for a file with too many clusters. */
  constructor(storage: Storage) {
    this.storage = storage;
    this.#header = readTolerantly(storage);
    const { clusterBits, refcountOrder, incompatible } = this.#header;
    this.geometry = geometryOf(clusterBits, refcountOrder, (incompatible & INCOMPATIBLE_EXTENDED_L2) !== 0n);
    this.clusterSize = this.geometry.clusterSize;
    this.hasDataFile = (incompatible & INCOMPATIBLE_DATA_FILE) !== 0n;
    if (this.fileClusters > MOST_FILE_CLUSTERS) {
      const counts = `the file has ${this.fileClusters} clusters`;
      throw new Qcow2Error('LIMIT', `${counts}; a check counts at most ${MOST_FILE_CLUSTERS}`);
    }
  }

  get header(): Header {
    return this.#header;
  }

  /** Clusters of the file, the last one maybe in part. */
  get fileClusters(): number {
    return divideUp(this.storage.size, this.clusterSize);
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    // Entries may name what no storage can address.
    if (offset < this.storage.size) this.storage.read(offset, bytes);
    return bytes;
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#clearUnknownAutoclear();
    this.storage.write(offset, bytes);
  }

  flush(): void {
    this.storage.flush();
  }

  setRefcountTable(refcountTableOffset: number, refcountTableClusters: number): void {
    const bytes = new Uint8Array(12);
    setUint64(viewOf(bytes), 0, refcountTableOffset);
    viewOf(bytes).setUint32(8, refcountTableClusters);
    this.write(HEADER_AT.refcountTableOffset, bytes);
    this.#header = { ...this.#header, refcountTableOffset, refcountTableClusters };
  }

  setSnapshotTable(snapshotsOffset: number, snapshotCount: number): void {
    const bytes = new Uint8Array(12);
    viewOf(bytes).setUint32(0, snapshotCount);
    setUint64(viewOf(bytes), 4, snapshotsOffset);
    this.write(SNAPSHOTS_AT, bytes);
    this.#header = { ...this.#header, snapshotsOffset, snapshotCount };
  }

  /** Clears the dirty and the corrupt bit, where they are set; stable when it returns. */
  markConsistent(): void {
    const incompatible = this.#header.incompatible & ~(INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT);
    if (incompatible === this.#header.incompatible) return;
    this.#clearUnknownAutoclear();
    this.flush();
    this.#writeFlags(HEADER_AT.incompatible, incompatible);
    this.flush();
    this.#header = { ...this.#header, incompatible };
  }

  #clearUnknownAutoclear(): void {
    const { version, autoclear } = this.#header;
    if (version === 2 || (autoclear & ~KNOWN_AUTOCLEAR) === 0n) return;
    this.#header = { ...this.#header, autoclear: autoclear & KNOWN_AUTOCLEAR };
    this.#writeFlags(HEADER_AT.autoclear, this.#header.autoclear);
    this.flush();
  }

  #writeFlags(at: number, flags: bigint): void {
    const bytes = new Uint8Array(8);
    viewOf(bytes).setBigUint64(0, flags);
    this.storage.write(at, bytes);
  }
}

/** Decodes the header with what a check tolerates hidden from the decoder, and put back afterwards. */
function readTolerantly(storage: Storage): Header {
  const probe = new Uint8Array(HEADER_PROBE_BYTES);
  storage.read(0, probe);
  const cluster = new Uint8Array(probeClusterSize(probe, storage.size));
  storage.read(0, cluster);
  const view = viewOf(cluster);
  const refcountTableOffset = getUint64(view, HEADER_AT.refcountTableOffset, 'refcount_table_offset');
  const refcountTableClusters = view.getUint32(HEADER_AT.refcountTableClusters);
  if (refcountTableOffset === 0) setUint64(view, HEADER_AT.refcountTableOffset, cluster.length);
  if (refcountTableClusters === 0) view.setUint32(HEADER_AT.refcountTableClusters, 1);
  return { ...decodeHeader(cluster), refcountTableOffset, refcountTableClusters };
}
