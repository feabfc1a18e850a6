/**
 * Which chunks are fetched when. Each that is wanted, by however many, is fetched once; what a guest waits for comes before what it may
 * want next, and that before what is fetched for later.
 *
 *   wanted -> waiting (by rank, then in order) -> in a request, with its neighbours -> here
 *
 * Invariants:
 * - A chunk is in at most one request, and so is each chunk in all tabs: a request holds the locks of its chunks, taken in ascending order,
 *   so that two of them can't wait for each other, and looks again afterwards whether another tab has brought some.
 * - A request of which nobody wants a chunk any more is ended; a chunk that has arrived is kept all the same.
 * - A failure is told to those who wait for the chunks that did not come. Nothing is remembered of it: the next who wants one tries anew.
 */
import { assert } from '../util/assert.js';
import type { ChunkCache, Held } from './chunk-cache.js';
import type { ChunkRun } from './chunk-geometry.js';
import type { ChunkSource } from './chunk-source.js';
import { abortedError, throwIfAborted, withRetries, type Patience } from './retry.js';

/** Lower comes first. */
export const RANK = { demand: 0, readAhead: 1, prefetch: 2 } as const;
export type Rank = (typeof RANK)[keyof typeof RANK];

export interface LoaderOptions {
  readonly cache: ChunkCache;
  readonly source: ChunkSource;
  readonly patience: Patience;
  /** Requests at a time. Browsers make six to one server of HTTP/1.1. */
  readonly parallel: number;
  readonly onRetry?: (reason: Error) => void;
}

/** Kept free for what a guest waits for. */
const RESERVED_REQUESTS = 2;

interface Want {
  readonly index: number;
  readonly done: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
  rank: Rank;
  waiters: number;
  request: LoadRequest | null;
}

interface LoadRequest {
  readonly ending: AbortController;
  /** Those that have not come yet. */
  readonly wants: Map<number, Want>;
}

export class ChunkLoader {
  readonly #options: LoaderOptions;
  readonly #wants = new Map<number, Want>();
  readonly #requests = new Set<LoadRequest>();
  readonly #closing = new AbortController();

  constructor(options: LoaderOptions) {
    this.#options = options;
  }

  /**
   * Resolves when all of `indices` are here.
   * @param signal ends the wait; what nobody else wants is not fetched then. @throws Qcow2Error what fetching fails with, `ABORTED`.
   */
  async want(indices: readonly number[], rank: Rank, signal?: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    throwIfAborted(this.#closing.signal);
    const wants = indices.filter((index) => !this.#options.cache.has(index)).map((index) => this.#wanted(index, rank));
    for (const want of wants) want.waiters++;
    this.#startRequests();
    try {
      await orAborted(Promise.all(wants.map(({ done }) => done)), signal);
    } finally {
      for (const want of wants) if (--want.waiters === 0) this.#abandon(want);
    }
  }

  /** Ends all requests; what waits is refused with `ABORTED`. */
  close(): void {
    this.#closing.abort();
    for (const { ending } of this.#requests) ending.abort();
    for (const want of this.#wants.values())
      if (want.request === null) this.#settle(want, abortedError(this.#closing.signal));
  }

  #wanted(index: number, rank: Rank): Want {
    const known = this.#wants.get(index);
    if (known !== undefined) {
      known.rank = Math.min(known.rank, rank) as Rank;
      return known;
    }
    const { promise, resolve, reject } = withResolvers();
    const want: Want = { index, done: promise, resolve, reject, rank, waiters: 0, request: null };
    this.#wants.set(index, want);
    return want;
  }

  /** Nobody waits for it any more. */
  #abandon(want: Want): void {
    if (this.#wants.get(want.index) !== want) return;
    const { request } = want;
    if (request === null) this.#wants.delete(want.index);
    else if ([...request.wants.values()].every(({ waiters }) => waiters === 0)) request.ending.abort();
  }

  #startRequests(): void {
    for (let wants = this.#nextRun(); wants.length > 0; wants = this.#nextRun()) {
      const request: LoadRequest = {
        ending: new AbortController(),
        wants: new Map(wants.map((want) => [want.index, want])),
      };
      for (const want of wants) want.request = request;
      this.#requests.add(request);
      void this.#carryOut(request);
    }
  }

  /** The chunks of the next request, neighbours in ascending order; none while enough are under way. */
  #nextRun(): Want[] {
    const { parallel, source } = this.#options;
    let best: Want | null = null;
    for (const want of this.#wants.values()) {
      if (want.request === null && (best === null || want.rank < best.rank)) best = want;
      if (best?.rank === RANK.demand) break;
    }
    if (best === null) return [];
    const reserved = best.rank === RANK.demand ? 0 : Math.min(RESERVED_REQUESTS, parallel - 1);
    if (this.#requests.size >= parallel - reserved) return [];
    const run = [best];
    while (run.length < source.longestRun) {
      const next = this.#wants.get(best.index + run.length);
      if (next === undefined || next.request !== null || next.rank > best.rank) break;
      run.push(next);
    }
    return run;
  }

  async #carryOut(request: LoadRequest): Promise<void> {
    const locks: Held[] = [];
    const kept: Promise<void>[] = [];
    let failure: unknown = null;
    try {
      for (const index of request.wants.keys())
        locks.push(await this.#options.cache.lockChunk(index, request.ending.signal));
      for (const run of this.#missingRuns(request)) await this.#fetch(run, request, kept);
    } catch (error) {
      failure = error;
    }
    this.#requests.delete(request);
    for (const want of request.wants.values()) this.#failOrRestart(want, failure);
    this.#startRequests();
    await Promise.all(kept).finally(() => {
      for (const lock of locks) lock.release();
    });
  }

  /** What is left to be fetched now that the locks are held; what is here is told. */
  #missingRuns(request: LoadRequest): ChunkRun[] {
    const runs: { first: number; count: number }[] = [];
    for (const want of [...request.wants.values()]) {
      const last = runs.at(-1);
      if (this.#options.cache.has(want.index)) this.#arrived(want);
      else if (last !== undefined && last.first + last.count === want.index) last.count++;
      else runs.push({ first: want.index, count: 1 });
    }
    return runs;
  }

  async #fetch(run: ChunkRun, request: LoadRequest, kept: Promise<void>[]): Promise<void> {
    const { cache, source, patience, onRetry } = this.#options;
    const { signal } = request.ending;
    const end = run.first + run.count;
    let next = run.first;
    await withRetries(
      (gotOn) =>
        source.fetchRun(
          { first: next, count: end - next },
          (index, bytes) => {
            assert(index === next, `chunk ${index} came, chunk ${next} was next`);
            next++;
            gotOn();
            kept.push(cache.take(index, bytes));
            const want = request.wants.get(index);
            if (want !== undefined) this.#arrived(want);
          },
          signal,
        ),
      { patience, signal, ...(onRetry && { onRetry }) },
    );
  }

  #arrived(want: Want): void {
    want.request?.wants.delete(want.index);
    this.#settle(want, null);
  }

  /** A request that was ended because nobody waited has found somebody who does again: their chunk has another turn. */
  #failOrRestart(want: Want, failure: unknown): void {
    const { request } = want;
    want.request = null;
    if (request?.ending.signal.aborted === true && !this.#closing.signal.aborted && want.waiters > 0) return;
    this.#settle(want, failure ?? new Error('internal: a request ended without its chunks'));
  }

  #settle(want: Want, failure: unknown): void {
    this.#wants.delete(want.index);
    if (failure === null) want.resolve();
    else want.reject(failure);
  }
}

/** As `work`, or rejects with `ABORTED` when `signal` is aborted before. */
async function orAborted(work: Promise<unknown>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) {
    await work;
    return;
  }
  const { promise, reject } = withResolvers();
  const abort = (): void => reject(abortedError(signal));
  signal.addEventListener('abort', abort);
  try {
    await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', abort);
    // Nobody may be left to hear of it.
    work.catch(() => undefined);
  }
}

function withResolvers(): { promise: Promise<void>; resolve: () => void; reject: (error: unknown) => void } {
  let resolve!: () => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  // Who waits hears of it; one who has left must not make it an unhandled rejection.
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}
