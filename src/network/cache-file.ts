/**
 * The chunks of one base image that are here, in one file (of OPFS, in a browser). Chunks lie in the order in which they arrived, so the
 * file is as long as what is kept and no longer: browsers count the length against a site's quota.
 *
 *   0     +-----------------------------+
 *         | header                      |  which version of which base (`cache-header.ts`)
 *   4096  +-----------------------------+
 *         | presence map                |  8 bytes a chunk: its slot + 1 (0: not here), the checksum of its bytes
 *         +-----------------------------+  aligned to 4096
 *         | slots of one chunk each     |
 *         +-----------------------------+
 *
 * Invariants:
 * 1. The bytes of a chunk are stable before its entry is written. An entry that is lost costs fetching the chunk again.
 * 2. A slot is written once. A new one begins where the file ends, so whoever appends holds the append lock (`chunk-cache.ts`), and half
 *    a slot that a crash left is passed over. What could not be appended is cut off again: otherwise each attempt without room would cost some.
 * 3. An entry is 8 aligned bytes, which no tearing at 512 bytes can halve. Its checksum is looked at when the chunk is first read: one that
 *    is wrong is as good as a chunk that is not here.
 * 4. Several threads may have the file open. Nobody changes an entry but from "not here" to a slot, or back where the chunk was damaged;
 *    so what one has read of the map stays right, and a chunk that is missing is looked up once more.
 */
import { isQcow2Error } from '../errors.js';
import type { Storage } from '../storage/storage.js';
import { alignUp, divideUp } from '../util/integers.js';
import { murmurHash32 } from '../util/murmur-hash.js';
import { CacheNotes, HEADER_BYTES, headerBytes, readHeader, type CacheLabel } from './cache-header.js';
import type { ChunkGeometry } from './chunk-geometry.js';

const ENTRY_BYTES = 8;
const MAP_PIECE_BYTES = 64 * 1024;

export interface NewChunk {
  readonly index: number;
  readonly bytes: Uint8Array;
}

export class CacheFile {
  readonly notes: CacheNotes;
  readonly #storage: Storage;
  readonly #dataStart: number;
  /** Two numbers a chunk, as in the file. */
  readonly #map: Uint32Array;
  /** Chunks whose bytes were compared with their checksum, or came from here. */
  readonly #verified = new Set<number>();

  private constructor(
    storage: Storage,
    readonly geometry: ChunkGeometry,
    readonly label: CacheLabel,
  ) {
    this.notes = new CacheNotes(storage);
    this.#storage = storage;
    this.#dataStart = dataStartOf(geometry);
    this.#map = new Uint32Array(2 * geometry.count);
  }

  /** Opens the cache in `storage`; null where there is none, or half of one. The cache owns the storage then. */
  static open(storage: Storage): CacheFile | null {
    const header = readHeader(storage);
    if (header === null) return null;
    const cache = new CacheFile(storage, header.geometry, header.label);
    cache.#readMap();
    return cache;
  }

  /** Makes an empty one in place of whatever `storage` holds. Nobody else may have it open. */
  static create(storage: Storage, geometry: ChunkGeometry, label: CacheLabel): CacheFile {
    storage.truncate(0);
    storage.write(0, headerBytes(geometry, label));
    storage.truncate(dataStartOf(geometry));
    storage.flush();
    return new CacheFile(storage, geometry, label);
  }

  /** Whether a chunk is here; may ask the file. */
  has(index: number): boolean {
    if (this.#slot(index) === null) this.#readEntry(index);
    return this.#slot(index) !== null;
  }

  /** The chunks that are here, as far as is known without asking the file. */
  *known(): IterableIterator<number> {
    for (let index = 0; index < this.geometry.count; index++) if (this.#slot(index) !== null) yield index;
  }

  /** Bytes of the chunks that are here, as far as is known without asking the file. */
  knownBytes(): number {
    let bytes = 0;
    for (const index of this.known()) bytes += this.geometry.length(index);
    return bytes;
  }

  /** Reads the map again: what other threads have brought. */
  refresh(): void {
    this.#readMap();
  }

  /**
   * Fills `target` from the byte `from` of a chunk on. False where it is not here, or is damaged: it is not here any more then.
   */
  read(index: number, from: number, target: Uint8Array): boolean {
    if (!this.has(index) || (!this.#verified.has(index) && !this.verify(index))) return false;
    this.#storage.read(this.#position(index) + from, target);
    return true;
  }

  /** Whether the chunk is here as it came. One that is damaged is removed. */
  verify(index: number): boolean {
    if (!this.has(index)) return false;
    const bytes = new Uint8Array(this.geometry.length(index));
    this.#storage.refresh?.();
    this.#storage.read(this.#position(index), bytes);
    if (murmurHash32(bytes) === this.#map[2 * index + 1]) {
      this.#verified.add(index);
      return true;
    }
    // Another thread may have found that too, and fetched the chunk again.
    const [slot, checksum] = [this.#map[2 * index], this.#map[2 * index + 1]];
    this.#readEntry(index);
    if (this.#map[2 * index] !== slot || this.#map[2 * index + 1] !== checksum) return this.verify(index);
    this.#verified.delete(index);
    this.#writeEntry(index, 0, 0);
    return false;
  }

  /**
   * Keeps chunks that are not here. Only with the append lock.
   * @throws Qcow2Error `NO_SPACE`, `IO`; none of them is here then.
   */
  append(chunks: readonly NewChunk[]): void {
    this.#storage.refresh?.();
    const { chunkBytes } = this.geometry;
    const first = Math.max(0, divideUp(this.#storage.size - this.#dataStart, chunkBytes));
    const end = this.#storage.size;
    try {
      chunks.forEach(({ bytes }, nth) => this.#storage.write(this.#dataStart + (first + nth) * chunkBytes, bytes));
      this.#storage.flush();
    } catch (error) {
      this.#cutOff(end);
      throw error;
    }
    chunks.forEach(({ index, bytes }, nth) => {
      this.#writeEntry(index, first + nth + 1, murmurHash32(bytes));
      this.#verified.add(index);
    });
  }

  /** Bytes of the file. */
  get fileBytes(): number {
    return this.#storage.size;
  }

  close(): void {
    try {
      this.#storage.flush();
    } finally {
      this.#storage.close();
    }
  }

  /** Null where the chunk is not here. Where an entry is rubbish, so is what it leads to, and its checksum tells. */
  #slot(index: number): number | null {
    const entry = this.#map[2 * index]!;
    return entry === 0 ? null : entry - 1;
  }

  #position(index: number): number {
    return this.#dataStart + this.#slot(index)! * this.geometry.chunkBytes;
  }

  /** No entry leads behind `end`. A file that can't be cut is as good, only longer. */
  #cutOff(end: number): void {
    try {
      this.#storage.truncate(end);
    } catch (error) {
      if (!isQcow2Error(error)) throw error;
    }
  }

  #readMap(): void {
    this.#storage.refresh?.();
    const piece = new Uint8Array(MAP_PIECE_BYTES);
    const end = this.geometry.count * ENTRY_BYTES;
    for (let at = 0; at < end; at += piece.length) {
      const part = piece.subarray(0, Math.min(piece.length, end - at));
      this.#storage.read(HEADER_BYTES + at, part);
      this.#takeEntries(at / ENTRY_BYTES, part);
    }
  }

  #readEntry(index: number): void {
    const bytes = new Uint8Array(ENTRY_BYTES);
    this.#storage.read(HEADER_BYTES + index * ENTRY_BYTES, bytes);
    this.#takeEntries(index, bytes);
  }

  #takeEntries(first: number, bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length; at += 4) this.#map[2 * first + at / 4] = view.getUint32(at);
  }

  #writeEntry(index: number, slot: number, checksum: number): void {
    const bytes = new Uint8Array(ENTRY_BYTES);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, slot);
    view.setUint32(4, checksum);
    this.#storage.write(HEADER_BYTES + index * ENTRY_BYTES, bytes);
    this.#takeEntries(index, bytes);
  }
}

function dataStartOf(geometry: ChunkGeometry): number {
  return alignUp(HEADER_BYTES + geometry.count * ENTRY_BYTES, HEADER_BYTES);
}
