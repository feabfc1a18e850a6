/**
 * What an answer to a range request must be (RFC 9110, sections 13.1.5, 14 and 15.3.7), and what each other answer means.
 *
 *   206  the range, of the version that was asked for; every header that is there must say so
 *   200  the whole file: `If-Range` did not hold, so it is another version; or the server knows no ranges
 *   416  the file is shorter than the range
 */
import { baseChanged, differenceFrom } from './base-identity.js';
import { lasting, passing } from './fetch-failure.js';
import type { HttpAnswer } from './http.js';

/** Bytes; `last` is included, as in HTTP. */
export interface ByteRange {
  readonly first: number;
  readonly last: number;
}

export interface ContentRange extends ByteRange {
  /** Null where the server does not say (`*`). */
  readonly total: number | null;
}

export interface ExpectedRange extends ByteRange {
  readonly url: string;
  /** Null before the first answer. */
  readonly size: number | null;
  readonly identity: string | null;
}

/**
 * @returns the range that comes, which may end before the one asked for; null where the server does not let us see it.
 * @throws FetchFailure, Qcow2Error `BASE_CHANGED`.
 */
export function checkRangeAnswer(answer: HttpAnswer, expected: ExpectedRange): ContentRange | null {
  const { url, identity, size } = expected;
  if (answer.status !== 206) throw refusal(answer, expected);
  const encoding = answer.headers.get('content-encoding');
  if (encoding !== null && encoding !== 'identity') {
    throw lasting(
      'UNSUPPORTED',
      `${url}: the server compresses its answers (Content-Encoding: ${encoding}), so ranges are of no use`,
    );
  }
  const difference = identity === null ? null : differenceFrom(identity, answer.headers);
  if (identity !== null && difference !== null) throw baseChanged(url, identity, difference);
  // A server that has sent one must send it with each part (RFC 9110, 15.3.7), but for what it does not expose to other origins.
  if (identity?.startsWith('etag:') === true && !answer.headers.has('etag') && !answer.isForeign) {
    throw passing(`${url}: the server sent a part of the file without the ETag that tells of which version it is`);
  }
  checkLength(answer, expected);
  const text = answer.headers.get('content-range');
  if (text === null) {
    if (answer.isForeign) return null;
    throw passing(`${url}: the server sent a part of the file (206) and no Content-Range to say which`);
  }
  const range = parseContentRange(text);
  if (range === null) throw passing(`${url}: the server sent Content-Range: ${text}, which is no range of bytes`);
  if (size !== null && range.total !== null && range.total !== size) {
    throw baseChanged(url, `${size} bytes`, `${range.total} bytes`);
  }
  if (range.first !== expected.first || range.last > expected.last || range.last < range.first) {
    throw passing(
      `${url}: bytes ${expected.first}-${expected.last} were asked for, and the server sent Content-Range: ${text}`,
    );
  }
  return range;
}

/** An answer from another origin may show nothing else of what it holds. */
function checkLength({ headers }: HttpAnswer, { url, first, last }: ExpectedRange): void {
  const text = headers.get('content-length');
  const asked = last + 1 - first;
  if (text === null || Number(text) <= asked) return;
  throw passing(`${url}: ${asked} bytes were asked for, and the server sends ${text}`);
}

/** Null for what is no Content-Range of bytes. */
export function parseContentRange(text: string): ContentRange | null {
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(text.trim());
  if (match === null) return null;
  const [, first, last, total] = match;
  return { first: Number(first), last: Number(last), total: total === '*' ? null : Number(total) };
}

/** Why an answer that is not the wanted one is none; common to ranges and to whole files. */
export function statusFailure(url: string, status: number): Error {
  if (status === 404 || status === 410)
    return lasting('NOT_FOUND', `${url}: the server has no such file (status ${status})`);
  if (status === 401 || status === 403) {
    return lasting('NETWORK', `${url}: the server does not give this file to this page (status ${status})`);
  }
  const message = `${url}: the server answered with status ${status}`;
  return status === 408 || status === 425 || status === 429 || status >= 500
    ? passing(message)
    : lasting('NETWORK', message);
}

function refusal(answer: HttpAnswer, { url, first, size, identity }: ExpectedRange): Error {
  const { status, headers } = answer;
  if (status === 416) {
    const total = /^bytes \*\/(\d+)$/.exec(headers.get('content-range') ?? '')?.[1] ?? 'fewer';
    return size === null
      ? lasting(
          'NETWORK',
          `${url}: the server has no byte ${first} of this file (status 416), which has ${total} bytes`,
        )
      : baseChanged(url, `${size} bytes`, `${total} bytes`);
  }
  if (status !== 200) return statusFailure(url, status);
  const difference = identity === null ? null : differenceFrom(identity, headers);
  if (identity !== null && difference !== null) return baseChanged(url, identity, difference);
  return lasting(
    'UNSUPPORTED',
    `${url}: the server sends the whole file where a part of it was asked for (no Range): a split image works on such a host`,
  );
}
