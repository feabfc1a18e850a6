/**
 * Where chunks come from: one file read by ranges (`range-source.ts`) or a folder of parts (`split-source.ts`). A source makes one
 * attempt; who asks again, and when, is the loader's business.
 */
import { passing } from './fetch-failure.js';
import type { ChunkGeometry, ChunkRun } from './chunk-geometry.js';
import type { Fetch, HttpAnswer } from './http.js';
import type { Patience } from './retry.js';

/** Takes a chunk as soon as its last byte has arrived. */
export type TakeChunk = (index: number, bytes: Uint8Array<ArrayBuffer>) => void;

export interface ChunkSource {
  readonly geometry: ChunkGeometry;
  /** Which version of the base it gives (`base-identity.ts`). It never gives another. */
  readonly identity: string;
  /** Chunks that one request can bring. */
  readonly longestRun: number;
  /**
   * Fetches the chunks of `run`, in order. What was taken before it fails stays good.
   * @throws FetchFailure of one attempt; Qcow2Error `BASE_CHANGED`, `ABORTED`.
   */
  fetchRun(run: ChunkRun, take: TakeChunk, signal: AbortSignal): Promise<void>;
}

/** What a source needs of the world. */
export interface SourceHost {
  readonly fetch: Fetch;
  readonly patience: Patience;
  /** Told of each piece of a body that arrives, in bytes. */
  readonly onBytes: (count: number) => void;
  /** Told of each request that is sent. */
  readonly onRequest: () => void;
}

interface ExpectedBody {
  readonly url: string;
  readonly run: ChunkRun;
  readonly geometry: ChunkGeometry;
}

/** Reads from the body of an answer the chunks of a run. What comes behind them is not waited for. */
export async function readChunks(
  answer: HttpAnswer,
  { url, run, geometry }: ExpectedBody,
  host: SourceHost,
  take: TakeChunk,
): Promise<void> {
  const end = run.first + run.count;
  let index = run.first;
  let chunk = new Uint8Array(geometry.length(index));
  let filled = 0;
  while (index < end) {
    const piece = await answer.next();
    if (piece === null) break;
    host.onBytes(piece.length);
    for (let used = 0; used < piece.length && index < end;) {
      const part = piece.subarray(used, used + chunk.length - filled);
      chunk.set(part, filled);
      filled += part.length;
      used += part.length;
      if (filled < chunk.length) continue;
      take(index++, chunk);
      filled = 0;
      if (index < end) chunk = new Uint8Array(geometry.length(index));
    }
  }
  if (index === end) return;
  const arrived = lengthOf({ first: run.first, count: index - run.first }, geometry) + filled;
  throw passing(`${url}: the answer was cut short: ${arrived} of ${lengthOf(run, geometry)} bytes came`);
}

/** Bytes of a run. */
export function lengthOf({ first, count }: ChunkRun, geometry: ChunkGeometry): number {
  return count === 0
    ? 0
    : geometry.start(first + count - 1) + geometry.length(first + count - 1) - geometry.start(first);
}
