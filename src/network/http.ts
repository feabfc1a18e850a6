/**
 * One HTTP request, watched: it ends when its signal does, and fails when nothing comes for too long, or all of it takes too long. What a
 * browser says of a request that got no answer is one sentence, whatever the reason; here it is asked once more, to tell a server that is
 * not there from one that does not let this page read (CORS). One that did before has its reasons elsewhere: a line that broke, a proxy's
 * error page.
 *
 * Nothing is kept in the browser's HTTP cache (`no-store`): the chunks are kept by us, and a part that came from an older version of the
 * file would be a lie.
 */
import { lasting, passing, type FetchFailure } from './fetch-failure.js';
import { throwIfAborted, type Patience } from './retry.js';

export type Fetch = (url: string, init?: RequestInit) => Promise<Response>;

/** The host's own. Called as a function of the global scope: as a method of another object it is refused. */
export const hostFetch: Fetch = (url, init) => globalThis.fetch(url, init);

export interface HttpRequest {
  readonly url: string;
  readonly method?: 'GET' | 'HEAD';
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** Of the answer at most, as far as it is of use: how long it may take goes by them. Null for one that takes as long as its reader. */
  readonly bytes: number | null;
  readonly patience: Pick<Patience, 'stallMilliseconds' | 'slowestBytesPerSecond'>;
  /** The page has read answers of this server before. */
  readonly isReadable: boolean;
}

/** An answer whose body is read piece by piece. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: Headers;
  /** From another origin: the browser shows those headers only that the server exposes. */
  readonly isForeign: boolean;
  /** The next bytes of the body; null at its end. Fails when nothing comes for too long. */
  next(): Promise<Uint8Array | null>;
  /** Ends the request; the rest of the body is not wanted. May be called at any time. */
  end(): void;
}

/** @throws Qcow2Error `NETWORK` where there is no answer, `ABORTED`. */
export async function sendRequest(fetch: Fetch, request: HttpRequest): Promise<HttpAnswer> {
  const { url, method = 'GET', headers = {}, signal } = request;
  const watch = new StallWatch(request);
  try {
    const response = await watch.over(
      fetch(url, { method, headers, signal: watch.signal, cache: 'no-store', credentials: 'same-origin' }),
    );
    return answerOf(response, request, watch);
  } catch (error) {
    watch.end();
    throwIfAborted(signal);
    throw watch.stalled ?? (await noAnswer(fetch, request, error));
  }
}

/** Whether `url` is of another origin than the page; in Node there is no page. */
export function isForeign(url: string): boolean {
  const { origin } = globalThis as { origin?: string };
  return origin !== undefined && origin !== 'null' && new URL(url).origin !== origin;
}

function answerOf(response: Response, { url, signal }: HttpRequest, watch: StallWatch): HttpAnswer {
  const reader = response.body?.getReader();
  return {
    status: response.status,
    headers: response.headers,
    isForeign: isForeign(url),
    next: async () => {
      if (reader === undefined) return null;
      try {
        const { done, value } = await watch.over(reader.read());
        return done ? null : value;
      } catch (error) {
        throwIfAborted(signal);
        throw watch.stalled ?? passing(`${url}: the connection broke off: ${textOf(error)}`, error);
      }
    },
    end: () => watch.end(),
  };
}

/** Aborts a request on which nothing happens, or which does not come to its end. */
class StallWatch {
  readonly signal: AbortSignal;
  stalled: FetchFailure | null = null;
  readonly #ending = new AbortController();
  readonly #request: HttpRequest;
  readonly #wholeTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(request: HttpRequest) {
    this.#request = request;
    const { url, bytes, patience } = request;
    if (bytes !== null) {
      // Not to be tripped by a server that sends a byte now and then.
      const milliseconds = patience.stallMilliseconds + (bytes / patience.slowestBytesPerSecond) * 1000;
      this.#wholeTimer = setTimeout(() => {
        this.#giveUp(`${url}: ${bytes} bytes had not come after ${milliseconds / 1000} s`);
      }, milliseconds);
    }
    this.signal = AbortSignal.any([request.signal, this.#ending.signal]);
  }

  /** The same as `step`, which must come in time. */
  async over<T>(step: Promise<T>): Promise<T> {
    const { url, patience } = this.#request;
    const timer = setTimeout(() => {
      this.#giveUp(`${url}: nothing came from the server for ${patience.stallMilliseconds / 1000} s`);
    }, patience.stallMilliseconds);
    try {
      return await step;
    } finally {
      clearTimeout(timer);
    }
  }

  end(): void {
    clearTimeout(this.#wholeTimer);
    this.#ending.abort();
  }

  #giveUp(problem: string): void {
    this.stalled ??= passing(problem);
    this.end();
  }
}

async function noAnswer(fetch: Fetch, request: HttpRequest, cause: unknown): Promise<FetchFailure> {
  const { url, isReadable } = request;
  if ((globalThis.navigator as Navigator | undefined)?.onLine === false) {
    return passing(`${url}: the browser is offline`, cause);
  }
  if (!isReadable && isForeign(url) && (await answersBlindly(fetch, request))) {
    const { origin } = globalThis as { origin?: string };
    return lasting(
      'NETWORK',
      `${url}: the server answers, but does not let this page read it (CORS): it must send Access-Control-Allow-Origin: ${origin}, and ` +
        'expose ETag and Content-Range',
      cause,
    );
  }
  return passing(`${url}: the server could not be reached: ${textOf(cause)}`, cause);
}

/** Whether there is an answer when the page does not ask to see it. */
async function answersBlindly(
  fetch: Fetch,
  { url, signal, patience: { stallMilliseconds } }: HttpRequest,
): Promise<boolean> {
  try {
    const patience = AbortSignal.any([signal, AbortSignal.timeout(stallMilliseconds)]);
    await fetch(url, { method: 'HEAD', mode: 'no-cors', cache: 'no-store', signal: patience });
    return true;
  } catch {
    return false;
  }
}

function textOf(error: unknown): string {
  return error instanceof Error || error instanceof DOMException ? error.message : String(error);
}
