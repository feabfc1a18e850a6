/**
 * A base image on a server, open: what is here of it, and how the rest comes. All disks of a thread that stand on it share it.
 *
 * Reading is synchronous. A read that finds all its chunks here is answered; one that does not throws `NotResident`, whose `load()` fetches
 * those that are missing (`storage/not-resident.ts`).
 */
import { Qcow2Error, isQcow2Error } from '../errors.js';
import { NotResident } from '../storage/not-resident.js';
import { chunksOfProfile, ProfileRecorder, type BootProfile } from './boot-profile.js';
import type { ChunkCache } from './chunk-cache.js';
import { indicesOf } from './chunk-geometry.js';
import { ChunkLoader, RANK } from './chunk-loader.js';
import type { ChunkSource } from './chunk-source.js';
import {
  awaitsComparison,
  makeOffline,
  verifyAll,
  type EstimateRoom,
  type OfflineParts,
  type PrefetchJob,
} from './make-offline.js';
import { prefetchChunks } from './prefetch.js';
import { ReadAhead } from './read-ahead.js';
import type { Patience } from './retry.js';
import type { NetworkTraffic } from './traffic.js';

const PARALLEL_REQUESTS = 6;
const PREFETCH_REQUESTS = 3;

export interface NetworkBaseParts {
  /** By which images name it. */
  readonly name: string;
  readonly url: string;
  readonly source: ChunkSource;
  readonly cache: ChunkCache;
  readonly traffic: NetworkTraffic;
  readonly patience: Patience;
  readonly estimateRoom: EstimateRoom | null;
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

export class NetworkBase {
  readonly name: string;
  readonly url: string;
  readonly source: ChunkSource;
  readonly #parts: NetworkBaseParts;
  readonly #loader: ChunkLoader;
  readonly #readAhead: ReadAhead;
  readonly #recorder: ProfileRecorder;
  #closed = false;
  /** What is here has another digest than it must have. */
  #wrong: Qcow2Error | null = null;

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
    if (awaitsComparison(this.#offline)) void this.#compareAside();
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
      throw new NotResident(`${missing.length} chunks of ${this.url} are not here`, async (signal, round = 1) => {
        this.#parts.cache.demand(count, round);
        await this.#loader.want(missing, RANK.demand, signal);
      });
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
    return this.#prefetch(chunksOfProfile(profile, this.source.geometry), job, false);
  }

  /** As `prefetch`, by the profile at `url`. Once all that it names is kept, `fetchIt` is not called any more, nor on later visits. */
  async prefetchBy(url: string, fetchIt: () => Promise<BootProfile>, job: PrefetchJob = {}): Promise<void> {
    const { cache, source } = this.#parts;
    if (cache.notes?.hasProfile(url) === true || cache.keptBytes() === source.geometry.size) return;
    await this.prefetch(await fetchIt(), job);
    await this.whenKept();
    this.#checkOpen();
    if (cache.problem === null) cache.notes?.noteProfile(url);
  }

  /**
   * Fetches all that is missing, then reads all of it again and compares it with its checksums (`make-offline.ts`); what was damaged is
   * fetched anew. When it resolves, the base needs no network any more.
   * @throws Qcow2Error `NO_SPACE`, `IN_USE` or whatever else keeps it from being kept; `BASE_CHANGED`; as fetching does; `ABORTED`.
   */
  async makeAvailableOffline(job: PrefetchJob = {}): Promise<void> {
    this.#checkOpen();
    await this.#orWrong(makeOffline(this.#offline, job));
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

  get #offline(): OfflineParts {
    const { url, source, cache, estimateRoom } = this.#parts;
    const prefetch: OfflineParts['prefetch'] = (indices, job) => this.#prefetch(indices, job, true);
    return { url, source, cache, estimateRoom, prefetch, checkOpen: () => this.#checkOpen() };
  }

  async #prefetch(indices: readonly number[], job: PrefetchJob, mustKeep: boolean): Promise<void> {
    this.#checkOpen();
    const { cache, source } = this.#parts;
    const loading = { cache, loader: this.#loader, longestRun: source.longestRun, parallel: PREFETCH_REQUESTS };
    await prefetchChunks(indices, { ...loading, ...job, mustKeep });
  }

  /** While the disk is used: reads fail from the moment on at which it shows that what is here is wrong. */
  async #compareAside(): Promise<void> {
    try {
      await this.#orWrong(verifyAll(this.#offline, {}));
    } catch {
      // Who reads is told.
    }
  }

  async #orWrong(work: Promise<unknown>): Promise<void> {
    try {
      await work;
    } catch (error) {
      if (isQcow2Error(error, 'BASE_CHANGED') && !this.#closed && this.#parts.cache.notes?.digest === 'wrong') {
        this.#wrong = error;
      }
      throw error;
    }
  }

  #fetchAhead(offset: number, length: number): void {
    const ahead = indicesOf(this.#readAhead.after(offset, length));
    if (ahead.every((index) => this.#parts.cache.has(index))) return;
    // Nobody waits for it, so nobody is told that it failed; who then wants the chunks is.
    this.#loader.want(ahead, RANK.readAhead).catch(() => undefined);
  }

  #checkOpen(): void {
    if (this.#closed) throw new Qcow2Error('CLOSED', `the base image ${this.url} is closed`);
    if (this.#wrong !== null) throw this.#wrong;
  }
}
