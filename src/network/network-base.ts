/**
 * A base image on a server, open: what is here of it, and how the rest comes. All disks of a thread that stand on it share it.
 *
 * Reading is synchronous. A read that finds all its chunks here is answered; one that does not throws `NotResident`, whose `load()` fetches
 * those that are missing (`storage/not-resident.ts`).
 */
import { Qcow2Error } from '../errors.js';
import { NotResident } from '../storage/not-resident.js';
import type { Progress } from '../util/progress.js';
import { chunksOfProfile, ProfileRecorder, type BootProfile } from './boot-profile.js';
import type { ChunkCache } from './chunk-cache.js';
import { indicesOf } from './chunk-geometry.js';
import { ChunkLoader, RANK } from './chunk-loader.js';
import type { ChunkSource } from './chunk-source.js';
import { prefetchChunks } from './prefetch.js';
import { ReadAhead } from './read-ahead.js';
import type { Patience } from './retry.js';
import type { NetworkTraffic } from './traffic.js';

const PARALLEL_REQUESTS = 6;
const PREFETCH_REQUESTS = 3;

/** Of fetching what reads back wrong. */
const MOST_ROUNDS = 3;

export interface NetworkBaseParts {
  /** By which images name it. */
  readonly name: string;
  readonly url: string;
  readonly source: ChunkSource;
  readonly cache: ChunkCache;
  readonly traffic: NetworkTraffic;
  readonly patience: Patience;
  /** Called once, by `close()`. */
  readonly onClose: () => void;
}

/** All sizes in bytes. */
export interface BaseStatus {
  readonly name: string;
  readonly url: string;
  /** Which version of the file it is. */
  readonly identity: string;
  readonly size: number;
  readonly chunkBytes: number;
  /** Of the base that is kept in this browser, by whichever tab. `size` when it is all here. */
  readonly keptBytes: number;
  /** Of the file that keeps it. */
  readonly fileBytes: number;
  /** That came over the network since it was opened here. */
  readonly fetchedBytes: number;
  readonly requests: number;
  /** Attempts that failed and were followed by another one. */
  readonly retries: number;
  /** Why what is fetched is not kept beyond this visit; null where it is. */
  readonly notKept: string | null;
}

export interface PrefetchJob {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

export class NetworkBase {
  readonly name: string;
  readonly url: string;
  readonly source: ChunkSource;
  readonly #parts: NetworkBaseParts;
  readonly #loader: ChunkLoader;
  readonly #readAhead: ReadAhead;
  readonly #recorder: ProfileRecorder;
  #closed = false;

  constructor(parts: NetworkBaseParts) {
    const { source, cache, patience, traffic } = parts;
    this.name = parts.name;
    this.url = parts.url;
    this.source = source;
    this.#parts = parts;
    const onRetry = (): void => traffic.noteRetry();
    this.#loader = new ChunkLoader({ cache, source, patience, parallel: PARALLEL_REQUESTS, onRetry });
    this.#readAhead = new ReadAhead(source.geometry);
    this.#recorder = new ProfileRecorder(source.geometry);
  }

  /** Bytes. */
  get size(): number {
    return this.source.geometry.size;
  }

  /** As `Storage.read`. */
  read(offset: number, target: Uint8Array): void {
    this.#checkOpen();
    const { geometry } = this.source;
    const { first, count } = geometry.chunksOf(offset, target.length);
    const missing: number[] = [];
    for (let index = first; index < first + count; index++) {
      const from = Math.max(offset, geometry.start(index));
      const to = Math.min(offset + target.length, geometry.start(index) + geometry.length(index));
      const part = target.subarray(from - offset, to - offset);
      if (!this.#parts.cache.read(index, from - geometry.start(index), part)) missing.push(index);
    }
    this.#recorder.note(offset, target.length);
    this.#fetchAhead(offset, target.length);
    if (missing.length > 0) {
      this.#parts.cache.demand(count);
      throw new NotResident(`${missing.length} chunks of ${this.url} are not here`, (signal) =>
        this.#loader.want(missing, RANK.demand, signal),
      );
    }
    target.fill(0, Math.max(0, Math.min(target.length, this.size - offset)));
  }

  status(): BaseStatus {
    const { cache, source, traffic, name, url } = this.#parts;
    const { size, chunkBytes } = source.geometry;
    const { fetchedBytes, requests, retries } = traffic;
    const kept = {
      keptBytes: cache.keptBytes(),
      fileBytes: cache.fileBytes(),
      notKept: cache.problem?.message ?? null,
    };
    return { name, url, identity: source.identity, size, chunkBytes, ...kept, fetchedBytes, requests, retries };
  }

  /** What was read of it since it was opened, in order. */
  profile(): BootProfile {
    return this.#recorder.profile();
  }

  /** Fetches what a profile names, in its order. Resolves when all of it is here. @throws Qcow2Error as fetching does, `ABORTED`. */
  prefetch(profile: BootProfile, job: PrefetchJob = {}): Promise<void> {
    return this.#prefetch(chunksOfProfile(profile, this.source.geometry), job);
  }

  /**
   * Fetches all that is missing, then reads all of it again and compares it with its checksums; what was damaged is fetched anew. When it
   * resolves, the base needs no network any more.
   * @throws Qcow2Error `NO_SPACE`, `IN_USE` or whatever else keeps it from being kept; as fetching does; `ABORTED`.
   */
  async makeAvailableOffline(job: PrefetchJob = {}): Promise<void> {
    const { cache, source } = this.#parts;
    const all = indicesOf({ first: 0, count: source.geometry.count });
    for (let round = 1; ; round++) {
      await this.#prefetch(all, job);
      await this.whenKept();
      this.#checkOpen();
      if (cache.problem !== null) throw cache.problem;
      const damaged = await this.#verify(all, job);
      if (damaged === 0) return;
      if (round === MOST_ROUNDS) {
        throw new Qcow2Error(
          'IO',
          `${damaged} of ${all.length} chunks of ${this.url} read back wrong, ${round} times over`,
        );
      }
    }
  }

  /** Resolves when what has come so far is kept, or can't be: the moment to close it. */
  whenKept(): Promise<void> {
    return this.#parts.cache.whenKept();
  }

  /** Nothing can be read any more; what is being fetched is given up. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#loader.close();
    this.#parts.cache.close();
    this.#parts.onClose();
  }

  async #prefetch(indices: readonly number[], { signal, onProgress }: PrefetchJob): Promise<void> {
    this.#checkOpen();
    const { cache, source } = this.#parts;
    const loading = { cache, loader: this.#loader, longestRun: source.longestRun, parallel: PREFETCH_REQUESTS };
    await prefetchChunks(indices, { ...loading, signal, onProgress });
  }

  /** How many chunks were not as they came. A guest gets its turn between two of them. */
  async #verify(indices: readonly number[], { signal, onProgress }: PrefetchJob): Promise<number> {
    const { geometry } = this.source;
    let damaged = 0;
    for (const index of indices) {
      if (!this.#parts.cache.verify(index)) damaged++;
      onProgress?.({
        done: geometry.start(index) + geometry.length(index),
        total: this.size,
        what: 'verifying the base image',
      });
      await new Promise((resolve) => setTimeout(resolve, 0));
      this.#checkOpen();
      if (signal?.aborted)
        throw new Qcow2Error('ABORTED', 'verifying the base image was given up', { cause: signal.reason });
    }
    return damaged;
  }

  #fetchAhead(offset: number, length: number): void {
    const ahead = indicesOf(this.#readAhead.after(offset, length));
    if (ahead.every((index) => this.#parts.cache.has(index))) return;
    // Nobody waits for it, so nobody is told that it failed; who then wants the chunks is.
    this.#loader.want(ahead, RANK.readAhead).catch(() => undefined);
  }

  #checkOpen(): void {
    if (this.#closed) throw new Qcow2Error('CLOSED', `the base image ${this.url} is closed`);
  }
}
