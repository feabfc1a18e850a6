/**
 * The chunks of a base that are here, in memory or in the cache file that all disks and tabs of the origin share.
 *
 * How tabs share it. Where the browser opens a file for several writers (Chromium: `readwrite-unsafe`), each worker has a handle of its own,
 * and two Web Locks order what they do: `append` is held while a chunk is added, and a lock of each chunk while it is fetched, so that no
 * two tabs fetch the same one. Where handles are exclusive, the first worker has the file, and the others keep in memory what they
 * fetch: they work, and fetch for themselves. A worker that ends, however it ends, lets go of its locks and its handle.
 *
 * What does not fit (the quota) stays in memory as well; `problem` says so.
 */
import { Qcow2Error, isQcow2Error } from '../errors.js';
import type { CacheFile } from './cache-file.js';
import type { ChunkGeometry } from './chunk-geometry.js';
import { MemoryChunks } from './memory-chunks.js';
import { throwIfAborted } from './retry.js';

/** What is held until `release`. */
export interface Held {
  release(): void;
}

/** Takes a lock that all threads of the origin know, by a name. Waits as long as it takes, or until `signal` is aborted. */
export type TakeLock = (name: string, signal?: AbortSignal) => Promise<Held>;

export interface ChunkCacheOptions {
  readonly geometry: ChunkGeometry;
  /** Null where nothing can be kept, with the reason. */
  readonly file: CacheFile | null;
  readonly problem: Qcow2Error | null;
  /** Null where nobody else can have the file. */
  readonly takeLock: TakeLock | null;
  /** For chunks that can't be kept. */
  readonly memoryBytes: number;
}

export class ChunkCache {
  readonly geometry: ChunkGeometry;
  readonly #file: CacheFile | null;
  readonly #takeLock: TakeLock | null;
  readonly #memory: MemoryChunks;
  #problem: Qcow2Error | null;
  /** What has come and is in memory alone. */
  readonly #unkept: number[] = [];
  #keeping: Promise<void> | null = null;

  constructor({ geometry, file, problem, takeLock, memoryBytes }: ChunkCacheOptions) {
    this.geometry = geometry;
    this.#file = file;
    this.#problem = problem;
    this.#takeLock = takeLock;
    this.#memory = new MemoryChunks(Math.floor(memoryBytes / geometry.chunkBytes));
  }

  /** Why chunks are not kept beyond this visit; null where they are. */
  get problem(): Qcow2Error | null {
    return this.#problem;
  }

  has(index: number): boolean {
    return this.#memory.has(index) || (this.#file?.has(index) ?? false);
  }

  /** Fills `target` from the byte `from` of a chunk on; false where it is not here. */
  read(index: number, from: number, target: Uint8Array): boolean {
    const chunk = this.#memory.get(index);
    if (chunk === undefined) return this.#file?.read(index, from, target) ?? false;
    target.set(chunk.subarray(from, from + target.length));
    return true;
  }

  /** So many chunks are wanted at once. */
  demand(count: number): void {
    this.#memory.demand(count);
  }

  /** The lock of a chunk, to be held while it is fetched and kept. */
  async lockChunk(index: number, signal: AbortSignal): Promise<Held> {
    if (this.#file === null || this.#takeLock === null) return { release: () => undefined };
    try {
      return await this.#takeLock(`chunk/${index}`, signal);
    } catch (error) {
      throwIfAborted(signal);
      throw error;
    }
  }

  /**
   * Takes a chunk that has just come: it can be read from now on. Resolves when it is kept, or can't be, which is no error of the disk's.
   * All that come while others are being written are written together, with one flush.
   */
  take(index: number, bytes: Uint8Array): Promise<void> {
    this.#memory.hold(index, bytes);
    this.#unkept.push(index);
    this.#keeping ??= this.#keepAll();
    return this.#keeping;
  }

  /** Resolves when all that has come so far is kept, or can't be. */
  async whenKept(): Promise<void> {
    await this.#keeping;
  }

  /** Compares a kept chunk with its checksum. False where it is not in the file as it came; it is to be fetched again then. */
  verify(index: number): boolean {
    if (this.#file?.verify(index) === true) return true;
    this.#memory.drop(index);
    return false;
  }

  /** Bytes of chunks that are kept, by whichever tab. */
  keptBytes(): number {
    this.#file?.refresh();
    return this.#file?.knownBytes() ?? 0;
  }

  /** Bytes of the cache file. */
  fileBytes(): number {
    return this.#file?.fileBytes ?? 0;
  }

  close(): void {
    this.#memory.clear();
    this.#file?.close();
  }

  async #keepAll(): Promise<void> {
    try {
      while (this.#unkept.length > 0) await this.#keep();
    } finally {
      this.#keeping = null;
    }
  }

  async #keep(): Promise<void> {
    let lock: Held | undefined;
    try {
      lock = await this.#takeLock?.('append');
      if (this.#file !== null && this.#problem === null) this.#append(this.#file, this.#unkept);
    } catch (error) {
      const reason = error instanceof Error || error instanceof DOMException ? error.message : String(error);
      const message = `the base image is not kept here any further: ${reason}`;
      this.#problem = new Qcow2Error(isQcow2Error(error) ? error.code : 'IO', message, { cause: error });
    } finally {
      for (const index of this.#unkept.splice(0)) this.#memory.release(index);
      lock?.release();
    }
  }

  #append(file: CacheFile, indices: readonly number[]): void {
    const chunks = indices.flatMap((index) => {
      const bytes = this.#memory.get(index);
      return bytes === undefined || file.has(index) ? [] : [{ index, bytes }];
    });
    if (chunks.length > 0) file.append(chunks);
  }
}
