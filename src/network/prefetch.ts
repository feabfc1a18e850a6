/**
 * Fetching chunks that nobody waits for: in a given order, a few requests at a time, behind what a guest wants. Ended by its signal, it has
 * lost nothing: what came is kept, and the next one goes on from there.
 */
import type { Progress } from '../util/progress.js';
import type { ChunkCache } from './chunk-cache.js';
import { indicesOf, runsOf } from './chunk-geometry.js';
import { RANK, type ChunkLoader } from './chunk-loader.js';

export interface PrefetchOptions {
  readonly cache: ChunkCache;
  readonly loader: ChunkLoader;
  /** Chunks of one request. */
  readonly longestRun: number;
  /** Requests at a time. */
  readonly parallel: number;
  /** Ends with the first chunk that can't be kept. */
  readonly mustKeep: boolean;
  readonly signal?: AbortSignal | undefined;
  /** In bytes of the chunks asked for. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** @throws Qcow2Error what fetching fails with; with `mustKeep` what keeping does; `ABORTED`. */
export async function prefetchChunks(indices: readonly number[], options: PrefetchOptions): Promise<void> {
  const { cache, loader, signal, onProgress } = options;
  const bytesOf = (chunks: readonly number[]): number =>
    chunks.reduce((sum, index) => sum + cache.geometry.length(index), 0);
  const missing = indices.filter((index) => !cache.has(index));
  const total = bytesOf(indices);
  let done = total - bytesOf(missing);
  const tell = (): void => onProgress?.({ done, total, what: 'fetching the base image' });
  tell();
  const runs = runsOf(missing, options.longestRun).values();
  let failed = false;
  const fetchInTurn = async (): Promise<void> => {
    for (const run of runs) {
      if (failed) return;
      const chunks = indicesOf(run);
      await loader.want(chunks, RANK.prefetch, signal);
      if (options.mustKeep) await cache.whenKept();
      if (options.mustKeep) cache.checkKept();
      done += bytesOf(chunks);
      tell();
    }
  };
  const orEndAll = (error: unknown): never => {
    failed = true;
    throw error;
  };
  await Promise.all(Array.from({ length: options.parallel }, () => fetchInTurn().catch(orEndAll)));
}
