/**
 * A base image as one file on a server that knows byte ranges.
 *
 * Invariant: all that is taken is of one version. Each request asks for it with `If-Range`, each answer is compared with it header by header.
 * To another origin `If-Range` would cost a question of the browser's before each request (CORS preflight), so there only the answers tell.
 */
import { baseChanged, digestOf, identityOf, validatorOf } from './base-identity.js';
import { ChunkGeometry, type ChunkRun } from './chunk-geometry.js';
import { lengthOf, readChunks, type ChunkSource, type SourceHost, type TakeChunk } from './chunk-source.js';
import { lasting, passing } from './fetch-failure.js';
import { isForeign, sendRequest, type HttpAnswer } from './http.js';
import { checkRangeAnswer, type ExpectedRange } from './range-answer.js';

/** Bytes of one request at most: what is asked for behind it does not wait too long. */
const LONGEST_REQUEST_BYTES = 1024 * 1024;

export interface RangeSourceOptions {
  readonly url: string;
  readonly geometry: ChunkGeometry;
  readonly identity: string;
  /** What the server itself calls the version, where `identity` is a digest: learned from the first answer unless given. */
  readonly served?: string | null;
}

export class RangeSource implements ChunkSource {
  readonly geometry: ChunkGeometry;
  readonly identity: string;
  readonly longestRun: number;
  readonly #url: string;
  readonly #host: SourceHost;
  #served: string | null;

  constructor(host: SourceHost, { url, geometry, identity, served = null }: RangeSourceOptions) {
    this.#host = host;
    this.#url = url;
    this.geometry = geometry;
    this.identity = identity;
    this.longestRun = Math.max(1, LONGEST_REQUEST_BYTES / geometry.chunkBytes);
    this.#served = digestOf(identity) === null ? identity : served;
  }

  async fetchRun(run: ChunkRun, take: TakeChunk, signal: AbortSignal): Promise<void> {
    const { geometry } = this;
    const first = geometry.start(run.first);
    const range = { first, last: first + lengthOf(run, geometry) - 1 };
    const expected = { ...range, url: this.#url, size: geometry.size, identity: this.#served };
    const answer = await request(this.#host, expected, signal);
    try {
      checkRangeAnswer(answer, expected);
      this.#served ??= identityOf(answer.headers, geometry.size);
      await readChunks(answer, { url: this.#url, run, geometry }, this.#host, take);
    } finally {
      answer.end();
    }
  }
}

/** What the first request to a server brings. */
export interface FirstAnswer {
  readonly source: RangeSource;
  /** What the server calls the version. */
  readonly served: string | null;
  /** Chunk 0: a qcow2 is opened from it. */
  readonly chunk: Uint8Array<ArrayBuffer>;
}

export interface FirstRequest {
  readonly url: string;
  readonly chunkBytes: number;
  /** The digest that the author gives, as an identity; null: what the server says tells the version. */
  readonly digest: string | null;
  readonly signal: AbortSignal;
}

/**
 * Asks for the first chunk, and learns from the answer what the file is. One attempt.
 * @throws FetchFailure; Qcow2Error `UNSUPPORTED` where nothing tells one version from the next, `LIMIT`, `ABORTED`.
 */
export async function firstRangeAnswer(host: SourceHost, wanted: FirstRequest): Promise<FirstAnswer> {
  const { url, chunkBytes, digest, signal } = wanted;
  const expected = { first: 0, last: chunkBytes - 1, url, size: null, identity: null };
  const answer = await request(host, expected, signal);
  try {
    const range = checkRangeAnswer(answer, expected);
    const size = range?.total ?? (await sizeByHead(host, url, signal));
    const served = identityOf(answer.headers, size);
    const identity = digest ?? served;
    if (identity === null) throw noIdentity(url);
    const geometry = new ChunkGeometry(size, chunkBytes);
    const source = new RangeSource(host, { url, geometry, identity, served });
    let chunk = new Uint8Array(0);
    await readChunks(answer, { url, run: { first: 0, count: 1 }, geometry }, host, (_, bytes) => {
      chunk = bytes;
    });
    return { source, served, chunk };
  } finally {
    answer.end();
  }
}

/** @throws Qcow2Error `BASE_CHANGED` unless `source` gives the version that a disk was made over. */
export function checkPin(url: string, pin: string | null, { identity }: ChunkSource): void {
  if (pin !== null && pin !== identity) throw baseChanged(url, pin, identity);
}

function request(host: SourceHost, expected: ExpectedRange, signal: AbortSignal): Promise<HttpAnswer> {
  const { url, first, last, identity } = expected;
  const validator = identity === null || isForeign(url) ? null : validatorOf(identity);
  host.onRequest();
  return sendRequest(host.fetch, {
    url,
    headers: { Range: `bytes=${first}-${last}`, ...(validator === null ? {} : { 'If-Range': validator }) },
    signal,
    stallMilliseconds: host.patience.stallMilliseconds,
  });
}

/** For a server that does not let other origins see Content-Range. */
async function sizeByHead(host: SourceHost, url: string, signal: AbortSignal): Promise<number> {
  host.onRequest();
  const { stallMilliseconds } = host.patience;
  const answer = await sendRequest(host.fetch, { url, method: 'HEAD', signal, stallMilliseconds });
  answer.end();
  const length = answer.headers.get('content-length');
  if (answer.status !== 200) throw passing(`${url}: the server answered HEAD with status ${answer.status}`);
  if (length !== null && /^\d+$/.test(length)) return Number(length);
  throw lasting('UNSUPPORTED', `${url}: the server does not say how long the file is: it must expose Content-Range`);
}

function noIdentity(url: string): Error {
  return lasting(
    'UNSUPPORTED',
    `${url}: the server sends neither a strong ETag nor Last-Modified, so a changed file could not be told from this one: give its "digest"`,
  );
}
