/**
 * What tells one version of a base image from the next, as a text:
 *
 *   etag:"5f-61a"                               a strong ETag of its server
 *   modified:10878976,Tue, 11 Nov 2025 ...      size and Last-Modified, where there is no strong ETag
 *   sha256:<64 digits>                          a digest that the author gives, or that of a split image's list of parts
 *
 * An overlay is of use over one version alone. So the version is pinned in the name by which it records its base, behind the URL, where
 * HTTP never looks (RFC 3986, 3.5): `https://host/base.qcow2#identity=etag:%22...%22`. QEMU opens such a name as well.
 */
import { Qcow2Error } from '../errors.js';

const PIN = '#identity=';

/** A backing file's name has 1023 bytes at most; the URL needs its share. */
const LONGEST_IDENTITY = 300;

/** A name that an image records for its base, taken apart. */
export interface PinnedName {
  /** The URL, or whatever else the base is called. */
  readonly name: string;
  readonly identity: string | null;
}

export function pinnedName(name: string, identity: string): string {
  return `${name}${PIN}${encodeURIComponent(identity)}`;
}

/** Takes a name apart that an image records; it may be any text. */
export function parsePinnedName(recorded: string): PinnedName {
  const at = recorded.indexOf(PIN);
  if (at === -1) return { name: recorded, identity: null };
  try {
    return { name: recorded.slice(0, at), identity: decodeURIComponent(recorded.slice(at + PIN.length)) };
  } catch (cause) {
    throw new Qcow2Error('BAD_IMAGE', `the backing file's name ${JSON.stringify(recorded)} ends in no identity`, {
      cause,
    });
  }
}

/** @throws Qcow2Error `BAD_ARGUMENT` unless it is 64 hexadecimal digits. */
export function digestIdentity(digest: string): string {
  if (/^[0-9a-f]{64}$/i.test(digest)) return `sha256:${digest.toLowerCase()}`;
  throw new Qcow2Error('BAD_ARGUMENT', `the digest ${JSON.stringify(digest)} is no SHA-256 of 64 hexadecimal digits`);
}

/** The digits of an identity that is a digest; null of another. */
export function digestOf(identity: string): string | null {
  return identity.startsWith('sha256:') ? identity.slice('sha256:'.length) : null;
}

/** From the headers of an answer; null where they tell one version from another in no way that can be trusted. */
export function identityOf(headers: Headers, size: number): string | null {
  const etag = strongEtag(headers);
  if (etag !== null && etag.length <= LONGEST_IDENTITY) return `etag:${etag}`;
  const modified = headers.get('last-modified');
  return modified === null || modified.length > LONGEST_IDENTITY ? null : `modified:${size},${modified}`;
}

/** What `If-Range` takes, so that a server sends a part of this version or none; null where the identity is a digest. */
export function validatorOf(identity: string): string | null {
  if (identity.startsWith('etag:')) return identity.slice('etag:'.length);
  return identity.startsWith('modified:') ? identity.slice(identity.indexOf(',') + 1) : null;
}

/**
 * How an answer shows that it is of another version, in words; null where it does not. Of an ETag the tag alone counts: a weak one that is another
 * tells of another file as a strong one does. A header that is missing says nothing here (`range-answer.ts`).
 */
export function differenceFrom(identity: string, headers: Headers): string | null {
  if (identity.startsWith('etag:')) {
    const etag = headers.get('etag');
    return etag === null || `etag:${etag.replace(/^W\//, '')}` === identity ? null : `etag:${etag}`;
  }
  const modified = headers.get('last-modified');
  const known = identity.startsWith('modified:') ? validatorOf(identity) : null;
  return known === null || modified === null || modified === known ? null : `modified ${modified}`;
}

/** Says which version was wanted and which one is there. */
export function baseChanged(url: string, expected: string, found: string): Qcow2Error {
  return new Qcow2Error(
    'BASE_CHANGED',
    `${url} is another file by now: the disk stands on the one of ${expected}, the server has ${found}`,
  );
}

function strongEtag(headers: Headers): string | null {
  const etag = headers.get('etag');
  return etag !== null && /^"[^"]*"$/.test(etag) ? etag : null;
}
