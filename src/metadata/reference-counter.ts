/**
 * Reference counter: counts, from the tables alone, how often each host cluster of an image is named (spec, "Host cluster
 * management"): by the header, the active L1 table and those of the snapshots, their L2 tables and clusters, the snapshot
 * table, the refcount table and its blocks. It changes nothing.
 */
import { Qcow2Error } from '../errors.js';
import { decodeCompressedDescriptor } from '../format/compressed-descriptor.js';
import type { Geometry } from '../format/geometry.js';
import { l2EntryHost, l2EntryKind } from '../format/l2-entry.js';
import { MAX_SNAPSHOT_TABLE_BYTES } from '../format/limits.js';
import { SNAPSHOT_FIXED_BYTES, decodeSnapshotEntry, snapshotEntryBytes } from '../format/snapshot-table.js';
import type { Storage } from '../storage/storage.js';
import { viewOf } from '../util/big-endian.js';
import { divideUp, hex } from '../util/integers.js';
import type { HeaderState } from './header-state.js';
import { L1_HIGH_MASK, OffsetTable } from './offset-table.js';

export interface CountedImage {
  readonly storage: Storage;
  readonly header: HeaderState;
  readonly geometry: Geometry;
  readonly l1: OffsetTable;
  readonly refcountTable: OffsetTable;
}

/** References of each cluster of the file, by its index. Throws `CORRUPT` for an entry that leads nowhere. */
export function countReferences(image: CountedImage): Uint32Array {
  return new ReferenceCounter(image).count();
}

/** 1 GiB of counts: 16 TiB of clusters of 64 KiB. */
const MOST_CLUSTERS = 2 ** 28;

class ReferenceCounter {
  readonly #image: CountedImage;
  readonly #counts: Uint32Array;

  constructor(image: CountedImage) {
    this.#image = image;
    const clusters = divideUp(image.storage.size, image.geometry.clusterSize);
    if (clusters > MOST_CLUSTERS) {
      throw new Qcow2Error('LIMIT', `the file has ${clusters} clusters; references are counted up to ${MOST_CLUSTERS}`);
    }
    this.#counts = new Uint32Array(clusters);
  }

  count(): Uint32Array {
    const { header, geometry, l1, refcountTable } = this.#image;
    this.#add(0, geometry.clusterSize, 'the header');
    this.#add(refcountTable.offset, refcountTable.entries * 8, 'the refcount table');
    for (let index = 0; index < refcountTable.entries; index++) {
      const block = refcountTable.get(index);
      if (block !== 0) this.#add(block, geometry.clusterSize, `refcount block ${index}`);
    }
    this.#addL1(l1, 'the L1 table');
    if (header.value.snapshotCount > 0) this.#addSnapshots();
    return this.#counts;
  }

  #addL1(l1: OffsetTable, name: string): void {
    const { geometry, storage } = this.#image;
    if (l1.entries === 0) return;
    this.#add(l1.offset, l1.entries * 8, name);
    const bytes = new Uint8Array(geometry.clusterSize);
    for (let index = 0; index < l1.entries; index++) {
      const table = l1.get(index);
      if (table === 0) continue;
      this.#add(table, geometry.clusterSize, `L2 table ${index} of ${name}`);
      storage.read(table, bytes);
      this.#addL2(bytes);
    }
  }

  #addL2(bytes: Uint8Array): void {
    const { geometry } = this.#image;
    const view = viewOf(bytes);
    for (let at = 0; at < bytes.length; at += 8) {
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      const kind = l2EntryKind(low, high);
      if (kind === 'compressed') {
        const { host, length } = decodeCompressedDescriptor(low, high, geometry.clusterBits);
        // The last sectors of the file may be missing behind a stream that ends before them.
        this.#add(host, Math.min(length, Math.max(1, this.#end - host)), 'a compressed cluster');
      } else if (kind === 'data' || kind === 'zero-allocated') {
        this.#add(l2EntryHost(low, high), geometry.clusterSize, 'a data cluster');
      }
    }
  }

  #addSnapshots(): void {
    const { header, storage, geometry } = this.#image;
    const { snapshotCount, snapshotsOffset } = header.value;
    let at = snapshotsOffset;
    for (let index = 0; index < snapshotCount; index++) {
      const fixed = new Uint8Array(SNAPSHOT_FIXED_BYTES);
      storage.read(at, fixed);
      const bytes = new Uint8Array(snapshotEntryBytes(fixed));
      storage.read(at, bytes);
      at += bytes.length;
      if (at - snapshotsOffset > MAX_SNAPSHOT_TABLE_BYTES) {
        throw new Qcow2Error('BAD_IMAGE', `the snapshot table is longer than ${MAX_SNAPSHOT_TABLE_BYTES} bytes`);
      }
      const { l1Offset, l1Entries, id } = decodeSnapshotEntry(bytes, geometry.clusterSize);
      const name = `L1 table of snapshot ${id}`;
      const l1 = new OffsetTable({
        storage,
        name,
        offset: l1Offset,
        entries: l1Entries,
        clusterSize: geometry.clusterSize,
        highMask: L1_HIGH_MASK,
      });
      this.#addL1(l1, `the ${name}`);
    }
    this.#add(snapshotsOffset, at - snapshotsOffset, 'the snapshot table');
  }

  get #end(): number {
    return this.#counts.length * this.#image.geometry.clusterSize;
  }

  #add(host: number, length: number, what: string): void {
    const { clusterSize } = this.#image.geometry;
    const first = Math.floor(host / clusterSize);
    const end = divideUp(host + length, clusterSize);
    if (end > this.#counts.length) {
      throw new Qcow2Error('CORRUPT', `${what} at ${hex(host)} reaches past the end of the file, ${hex(this.#end)}`);
    }
    for (let cluster = first; cluster < end; cluster++) this.#counts[cluster]!++;
  }
}
