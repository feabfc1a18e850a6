/**
 * A web server without a network: `fetch` for the tests, over files in memory. It knows ranges as RFC 9110 has them, or not; counts what it
 * sends; and can be told to misbehave, one request at a time.
 */
import type { Fetch } from '../../src/network/http.js';

export interface ServedFile {
  bytes: Uint8Array<ArrayBuffer>;
  etag: string | null;
  lastModified: string | null;
}

/** What becomes of one request; null answers as a good server does. */
export type Fault =
  | null
  | { readonly kind: 'unreachable' }
  | { readonly kind: 'status'; readonly status: number }
  /** The body ends after so many bytes, as if all had been sent. */
  | { readonly kind: 'truncated'; readonly after: number }
  /** The connection breaks after so many bytes. */
  | { readonly kind: 'broken'; readonly after: number }
  /** The body stops after so many bytes, and the connection stays. */
  | { readonly kind: 'stalled'; readonly after: number }
  | { readonly kind: 'silent' }
  /** The body comes a few bytes at a time, and never to its end. */
  | { readonly kind: 'dripping' }
  | { readonly kind: 'no etag' }
  | { readonly kind: 'too long' }
  | { readonly kind: 'wrong length' }
  | { readonly kind: 'wrong range' }
  | { readonly kind: 'no content-range' }
  | { readonly kind: 'compressed' };

export interface SeenRequest {
  readonly url: string;
  readonly method: string;
  readonly range: string | null;
  readonly ifRange: string | null;
}

const PIECE_BYTES = 10_000;

export class FakeServer {
  readonly files = new Map<string, ServedFile>();
  knowsRanges = true;
  /** Called for each request, in order. */
  fault: (request: SeenRequest, nth: number) => Fault = () => null;
  readonly requests: SeenRequest[] = [];
  /** Of bodies, as far as they were read. */
  sentBytes = 0;
  /** Requests under way now, and the most there were. */
  open = 0;
  mostOpen = 0;
  /** Requests that their sender ended. */
  ended = 0;

  put(url: string, bytes: Uint8Array<ArrayBuffer>, etag: string | null = '"v1"'): ServedFile {
    const file: ServedFile = { bytes, etag, lastModified: 'Tue, 11 Nov 2025 10:00:00 GMT' };
    this.files.set(url, file);
    return file;
  }

  readonly fetch: Fetch = async (url, init = {}) => {
    const headers = new Headers(init.headers);
    const request = {
      url,
      method: init.method ?? 'GET',
      range: headers.get('range'),
      ifRange: headers.get('if-range'),
    };
    this.requests.push(request);
    const fault = this.fault(request, this.requests.length);
    const signal = init.signal ?? new AbortController().signal;
    await new Promise((resolve) => setTimeout(resolve, 0));
    if (signal.aborted) throw signal.reason;
    if (fault?.kind === 'unreachable') throw new TypeError('Failed to fetch');
    if (fault?.kind === 'silent') return this.#neverAnswer(signal);
    return this.#answer(request, fault, signal);
  };

  #neverAnswer(signal: AbortSignal): Promise<Response> {
    return new Promise((_, reject) => {
      this.#whenEnded(signal, (reason) => {
        this.ended++;
        reject(reason);
      });
    });
  }

  #answer(request: SeenRequest, fault: Fault, signal: AbortSignal): Response {
    const file = this.files.get(request.url);
    if (fault?.kind === 'status') return new Response(null, { status: fault.status });
    if (file === undefined) return new Response('no such file', { status: 404 });
    const headers = headersOf(file);
    const holds = request.ifRange === null || request.ifRange === file.etag || request.ifRange === file.lastModified;
    const range = this.knowsRanges && holds ? /^bytes=(\d+)-(\d+)$/.exec(request.range ?? '') : null;
    if (range === null) return this.#send(file.bytes, { status: 200, headers }, fault, signal);
    const first = Number(range[1]);
    const end = Math.min(Number(range[2]) + 1, file.bytes.length);
    if (first >= file.bytes.length) {
      headers.set('content-range', `bytes */${file.bytes.length}`);
      return new Response(null, { status: 416, headers });
    }
    headers.set('content-range', contentRange(first, end, file.bytes.length, fault));
    if (fault?.kind === 'no etag') headers.delete('etag');
    if (fault?.kind === 'no content-range') headers.delete('content-range');
    if (fault?.kind === 'wrong length') headers.set('content-length', String(end - first + 3));
    if (fault?.kind === 'compressed') headers.set('content-encoding', 'gzip');
    return this.#send(file.bytes.subarray(first, end), { status: 206, headers }, fault, signal);
  }

  #send(bytes: Uint8Array<ArrayBuffer>, init: ResponseInit, fault: Fault, signal: AbortSignal): Response {
    const ends = fault?.kind === 'truncated' || fault?.kind === 'broken' || fault?.kind === 'stalled';
    const whole = fault?.kind === 'too long' ? new Uint8Array([...bytes.slice(0), 1, 2, 3]) : bytes;
    const sent = ends ? Math.min(fault.after, whole.length) : whole.length;
    let at = 0;
    this.open++;
    this.mostOpen = Math.max(this.mostOpen, this.open);
    let isOpen = true;
    const close = (): void => {
      if (isOpen) this.open--;
      isOpen = false;
    };
    const body = new ReadableStream<Uint8Array<ArrayBuffer>>(
      {
        start: (controller) =>
          this.#whenEnded(signal, (reason) => {
            if (!isOpen) return;
            close();
            this.ended++;
            controller.error(reason);
          }),
        pull: async (controller) => {
          const drips = fault?.kind === 'dripping';
          await new Promise((resolve) => setTimeout(resolve, drips ? 10 : 0));
          if (signal.aborted) return;
          const piece = whole.slice(at, Math.min(at + (drips ? 1 : PIECE_BYTES), sent));
          at += piece.length;
          this.sentBytes += piece.length;
          if (piece.length > 0) controller.enqueue(piece);
          if (at < sent) return;
          if (fault?.kind === 'stalled' && sent < whole.length) {
            await new Promise(() => undefined);
          }
          close();
          if (fault?.kind === 'broken' && sent < whole.length) controller.error(new TypeError('network error'));
          else controller.close();
        },
      },
      { highWaterMark: 0 },
    );
    return new Response(body, init);
  }

  #whenEnded(signal: AbortSignal, then: (reason: unknown) => void): void {
    signal.addEventListener('abort', () => then(signal.reason));
  }
}

function headersOf({ etag, lastModified }: ServedFile): Headers {
  const headers = new Headers();
  if (etag !== null) headers.set('etag', etag);
  if (lastModified !== null) headers.set('last-modified', lastModified);
  return headers;
}

function contentRange(first: number, end: number, total: number, fault: Fault): string {
  return fault?.kind === 'wrong range'
    ? `bytes ${first + 512}-${end - 1}/${total}`
    : `bytes ${first}-${end - 1}/${total}`;
}
