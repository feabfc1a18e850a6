/**
 * A whole file from a server, as a stream: watched for stalls, and compared with the length that was announced, so that one that breaks off
 * is a failure and not a shorter file. Nothing of it is kept here.
 */
import { passing } from './fetch-failure.js';
import { hostFetch, sendRequest, type Fetch, type HttpAnswer } from './http.js';
import { statusFailure } from './range-answer.js';
import { DEFAULT_PATIENCE } from './retry.js';

export interface Download {
  readonly stream: ReadableStream<Uint8Array>;
  /** Bytes in all; null where the server does not say. */
  readonly total: number | null;
}

export interface DownloadOptions {
  readonly signal: AbortSignal;
  readonly fetch?: Fetch;
  readonly stallMilliseconds?: number;
}

/** @param url absolute. @throws Qcow2Error `NETWORK`, `NOT_FOUND`, `ABORTED`; the stream fails with these, too. */
export async function openDownload(url: string, options: DownloadOptions): Promise<Download> {
  const { signal, fetch = hostFetch, stallMilliseconds = DEFAULT_PATIENCE.stallMilliseconds } = options;
  const answer = await sendRequest(fetch, { url, signal, stallMilliseconds });
  if (answer.status !== 200) {
    answer.end();
    throw statusFailure(url, answer.status);
  }
  const total = announcedLength(answer.headers);
  return { stream: streamOf(url, answer, total), total };
}

/** The same of an answer that somebody else has asked for. @throws Qcow2Error `NETWORK`, `NOT_FOUND`. */
export function downloadOf(response: Response): Download | null {
  const { ok, status, body, headers, url } = response;
  if (!ok) throw statusFailure(url === '' ? 'the response' : url, status);
  return body === null ? null : { stream: body, total: announcedLength(headers) };
}

/** Null where what arrives has another length than what is sent. */
function announcedLength(headers: Headers): number | null {
  const length = headers.get('content-length');
  const isPlain = (headers.get('content-encoding') ?? 'identity') === 'identity';
  return isPlain && length !== null && /^\d{1,15}$/.test(length) ? Number(length) : null;
}

function streamOf(url: string, answer: HttpAnswer, total: number | null): ReadableStream<Uint8Array> {
  let done = 0;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const piece = await answer.next();
      if (piece !== null) {
        done += piece.length;
        return controller.enqueue(piece);
      }
      answer.end();
      if (total !== null && done !== total) {
        throw passing(`${url}: the connection broke off after ${done} of ${total} bytes`);
      }
      controller.close();
    },
    cancel: () => answer.end(),
  });
}
