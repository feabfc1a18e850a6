/**
 * A `Blob` or `File` as a read-only Storage: an image from the visitor's computer, or a file of OPFS where it can't be
 * opened otherwise.
 *
 * The blob is read in aligned chunks that are kept, the ones used last, up to `cacheBytes`. In a worker `FileReaderSync`
 * answers at once. Elsewhere (the main thread, Node) a read of a chunk that is not here throws `NotResident`, whose
 * `load()` fetches all chunks of that read.
 *
 * Invariant: `settle` gets to an end. An operation that faults runs again from its start, so all chunks that it reads
 * must fit in at the same time. Nobody can know how many these are; but a chunk that is wanted again soon after it had to
 * go says that they do not fit, and the cache grows.
 */
import { Qcow2Error } from '../errors.js';
import { reasonOf } from '../util/reason-of.js';
import { NotResident } from './not-resident.js';
import type { Storage } from './storage.js';

const DEFAULT_CHUNK_BYTES = 1 << 20;
const DEFAULT_CACHE_BYTES = 16 << 20;

/** The part of `FileReaderSync` used here; TypeScript's library has it for workers only. */
interface SyncReader {
  readAsArrayBuffer(blob: Blob): ArrayBuffer;
}

export interface BlobStorageOptions {
  /** What messages call it; by default the name of a `File`. */
  readonly name?: string;
  readonly chunkBytes?: number;
  readonly cacheBytes?: number;
}

export class BlobStorage implements Storage {
  readonly readOnly = true;
  readonly size: number;
  readonly #blob: Blob;
  readonly #name: string;
  readonly #chunkBytes: number;
  #capacity: number;
  /** By chunk index, the one used last at the end. */
  readonly #chunks = new Map<number, Uint8Array>();
  readonly #loading = new Map<number, Promise<void>>();
  /** How many chunks had been evicted in all when this one was. */
  readonly #evictedAt = new Map<number, number>();
  #evictions = 0;
  readonly #reader = synchronousReader();
  #closed = false;

  constructor(blob: Blob, options: BlobStorageOptions = {}) {
    this.#blob = blob;
    this.size = blob.size;
    this.#name = options.name ?? ('name' in blob && typeof blob.name === 'string' ? blob.name : 'the blob');
    this.#chunkBytes = options.chunkBytes ?? DEFAULT_CHUNK_BYTES;
    this.#capacity = Math.max(1, Math.floor((options.cacheBytes ?? DEFAULT_CACHE_BYTES) / this.#chunkBytes));
  }

  read(offset: number, target: Uint8Array): void {
    if (this.#closed) throw new Qcow2Error('CLOSED', `${this.#name} is closed`);
    const end = Math.min(offset + target.length, this.size);
    if (this.#reader === null) this.#demand(offset, end);
    for (let position = offset; position < end;) {
      const index = Math.floor(position / this.#chunkBytes);
      const chunk = this.#chunk(index);
      const from = position - index * this.#chunkBytes;
      const length = Math.min(end - position, chunk.length - from);
      target.set(chunk.subarray(from, from + length), position - offset);
      position += length;
    }
    target.fill(0, Math.max(0, end - offset));
  }

  write(): void {
    throw this.#refusal();
  }

  truncate(): void {
    throw this.#refusal();
  }

  flush(): void {}

  close(): void {
    this.#closed = true;
    this.#chunks.clear();
  }

  #refusal(): Qcow2Error {
    return new Qcow2Error('READ_ONLY', `${this.#name} can only be read`);
  }

  /** Throws `NotResident` unless every chunk of `offset .. end` is here. */
  #demand(offset: number, end: number): void {
    const missing: number[] = [];
    for (let index = Math.floor(offset / this.#chunkBytes); index * this.#chunkBytes < end; index++) {
      if (!this.#chunks.has(index)) missing.push(index);
      else this.#touch(index);
    }
    if (missing.length === 0) return;
    // One read must fit in whole.
    const wanted = Math.ceil(end / this.#chunkBytes) - Math.floor(offset / this.#chunkBytes);
    this.#capacity = Math.max(this.#capacity, wanted);
    throw new NotResident(`${missing.length} chunks of ${this.#name} are not in memory`, async () => {
      await Promise.all(missing.map((index) => this.#load(index)));
    });
  }

  #load(index: number): Promise<void> {
    const running = this.#loading.get(index);
    if (running !== undefined) return running;
    const load = this.#slice(index)
      .arrayBuffer()
      .then((buffer) => this.#keep(index, new Uint8Array(buffer)))
      .catch((error: unknown) => {
        throw this.#failure(error);
      })
      .finally(() => this.#loading.delete(index));
    this.#loading.set(index, load);
    return load;
  }

  #chunk(index: number): Uint8Array {
    const kept = this.#chunks.get(index);
    if (kept !== undefined) {
      if (this.#reader !== null) this.#touch(index);
      return kept;
    }
    if (this.#reader === null) throw new Error(`chunk ${index} was demanded and is not there`);
    try {
      const chunk = new Uint8Array(this.#reader.readAsArrayBuffer(this.#slice(index)));
      this.#keep(index, chunk);
      return chunk;
    } catch (error) {
      throw this.#failure(error);
    }
  }

  #slice(index: number): Blob {
    return this.#blob.slice(index * this.#chunkBytes, (index + 1) * this.#chunkBytes);
  }

  #touch(index: number): void {
    const chunk = this.#chunks.get(index);
    if (chunk === undefined) return;
    this.#chunks.delete(index);
    this.#chunks.set(index, chunk);
  }

  #keep(index: number, chunk: Uint8Array): void {
    const evictedAt = this.#evictedAt.get(index);
    if (this.#reader === null && evictedAt !== undefined && this.#evictions - evictedAt <= 2 * this.#capacity) {
      this.#capacity *= 2;
    }
    this.#evictedAt.delete(index);
    this.#chunks.set(index, chunk);
    for (const oldest of this.#chunks.keys()) {
      if (this.#chunks.size <= this.#capacity) break;
      this.#chunks.delete(oldest);
      this.#evictedAt.set(oldest, ++this.#evictions);
    }
  }

  #failure(error: unknown): Qcow2Error {
    if (error instanceof Qcow2Error) return error;
    const text = reasonOf(error);
    // Browsers refuse to read a file that was changed on its medium after it was chosen.
    return new Qcow2Error('IO', `${this.#name} can't be read, was it changed or moved? (${text})`, { cause: error });
  }
}

function synchronousReader(): SyncReader | null {
  const { FileReaderSync } = globalThis as { FileReaderSync?: new () => SyncReader };
  return FileReaderSync === undefined ? null : new FileReaderSync();
}
