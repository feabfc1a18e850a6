/**
 * Where chunks come from: one file read by ranges (`range-source.ts`) or a folder of parts (`split-source.ts`). A source makes one
 * attempt; who asks again, and when, is the loader's business.
 */
import { passing } from './fetch-failure.js';
import type { ChunkGeometry, ChunkRun } from './chunk-geometry.js';
import { sendRequest, type Fetch, type HttpAnswer, type HttpRequest } from './http.js';
import type { Patience } from './retry.js';
import type { NetworkTraffic } from './traffic.js';

/** Takes a chunk as soon as its last byte has arrived. */
export type TakeChunk = (index: number, bytes: Uint8Array<ArrayBuffer>) => void;

export interface ChunkSource {
  readonly geometry: ChunkGeometry;
  /** Which version of the base it gives (`base-identity.ts`). It never gives another. */
  readonly identity: string;
  /** The SHA-256 of the whole, in hexadecimal digits, where it alone can tell that the bytes are right; null where others do. */
  readonly wholeDigest: string | null;
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
  readonly traffic: NetworkTraffic;
}

/** Sends a request, and counts it. Who reads the body counts that. @throws as `sendRequest`. */
export async function ask(
  { fetch, patience, traffic }: SourceHost,
  request: Omit<HttpRequest, 'patience' | 'isReadable'>,
): Promise<HttpAnswer> {
  traffic.noteRequest();
  const answer = await sendRequest(fetch, { ...request, patience, isReadable: traffic.isReadable });
  traffic.isReadable = true;
  return answer;
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
    host.traffic.noteBytes(piece.length);
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
