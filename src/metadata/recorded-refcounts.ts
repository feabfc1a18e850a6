/**
 * Recorded refcounts: what the refcount table and its blocks say, read without trust in either (spec, "Host cluster
 * management"). For the check; the engine at work uses `refcounts.ts`.
 *
 * A block that lies outside the file reads as zeroes. One at an offset that is no cluster's start can't be read at all.
 */
import { exactRefcountEntry } from '../kernels/refcount-entry.js';
import { viewOf } from '../util/big-endian.js';
import type { ImageUnderCheck } from './image-under-check.js';

/** Bits 0 to 8 of a refcount table entry. */
export const REFCOUNT_TABLE_RESERVED = 0x1ff;
/** Larger offsets are negative to QEMU, which can't read there. */
const LARGEST_HIGH = 0x7fff_ffff;

export class RecordedRefcounts {
  readonly #image: ImageUnderCheck;
  #table: DataView;
  #unreadable: ReadonlySet<number>;
  #lastIndex = -1;
  #lastBlock = new Uint8Array(0);

  constructor(image: ImageUnderCheck) {
    this.#image = image;
    this.#table = this.#readTable();
    this.#unreadable = this.#findUnreadable();
  }

  /** The table or a block was written. */
  reload(): void {
    this.#table = this.#readTable();
    this.#unreadable = this.#findUnreadable();
    this.#lastIndex = -1;
  }

  get entries(): number {
    return this.#table.byteLength / 8;
  }

  /** The low bits of entry `index` that must be zero. */
  reservedBits(index: number): number {
    return this.#table.getUint32(index * 8 + 4) & REFCOUNT_TABLE_RESERVED;
  }

  /** The offset that entry `index` names, 0 for none. Above 2^53 the nearest double. */
  blockOffset(index: number): number {
    if (index >= this.entries) return 0;
    const low = this.#table.getUint32(index * 8 + 4);
    return this.#table.getUint32(index * 8) * 0x1_0000_0000 + low - (low & REFCOUNT_TABLE_RESERVED);
  }

  get anyUnreadable(): boolean {
    return this.#unreadable.size > 0;
  }

  /** Whether the counts of block `index` can't be known. */
  isUnreadable(index: number): boolean {
    return this.#unreadable.has(index);
  }

  /** The bytes of block `index`; who changes them writes them; null when there is none or it is unreadable. */
  readBlock(index: number): Uint8Array | null {
    const offset = this.blockOffset(index);
    if (offset === 0 || this.isUnreadable(index)) return null;
    if (index !== this.#lastIndex) {
      this.#lastBlock = this.#image.read(offset, this.#image.clusterSize);
      this.#lastIndex = index;
    }
    return this.#lastBlock;
  }

  /** The recorded count of one cluster, read alone; null when it can't be known. Above 2^53 the nearest double. */
  get(cluster: number): number | null {
    const exact = this.exact(cluster);
    return exact === null ? null : Number(exact);
  }

  /** The same for whoever shows it: a bigint where a number would be rounded. */
  exact(cluster: number): number | bigint | null {
    const { refcountBlockEntries, refcountOrder } = this.#image.geometry;
    const index = Math.floor(cluster / refcountBlockEntries);
    if (this.isUnreadable(index)) return null;
    const offset = this.blockOffset(index);
    if (offset === 0) return 0;
    // The eight bytes that hold the entry, whatever its width.
    const perRead = 64 / this.#image.geometry.refcountBits;
    const entry = cluster % refcountBlockEntries;
    const bytes = this.#image.read(offset + Math.floor(entry / perRead) * 8, 8);
    return exactRefcountEntry(bytes, 0, refcountOrder, entry % perRead);
  }

  #readTable(): DataView {
    const { refcountTableOffset, refcountTableClusters } = this.#image.header;
    return viewOf(this.#image.read(refcountTableOffset, refcountTableClusters * this.#image.clusterSize));
  }

  #findUnreadable(): ReadonlySet<number> {
    const found = new Set<number>();
    for (let index = 0; index < this.entries; index++) {
      const low = this.#table.getUint32(index * 8 + 4) & ~REFCOUNT_TABLE_RESERVED;
      const misaligned = (low & (this.#image.clusterSize - 1)) !== 0;
      if (misaligned || this.#table.getUint32(index * 8) > LARGEST_HIGH) found.add(index);
    }
    return found;
  }
}
