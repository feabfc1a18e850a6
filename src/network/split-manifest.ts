/**
 * The manifest of a split image: a base image cut into files of one size, for hosts that know no byte ranges.
 *
 *   {
 *     "format": "qcow2-wasm split image", "version": 1,
 *     "size": 10878976,                    bytes of the image
 *     "partBytes": 262144,                 of each part but the last: a power of two from 64 KiB to 4 MiB
 *     "parts": ["9f86d081...", ...]        the SHA-256 of each part, in order
 *   }
 *
 * A part is called by its digest, `<first 32 digits>.part`, beside the manifest: equal parts are one file, also those of several images in one
 * folder. So each part is known to be right when it arrives, whoever sent it. A disk stands on one manifest: a new version of the image is
 * to have another name, or the disks over the old one get no further than what they have.
 */
import { reasonOf } from '../util/reason-of.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { Qcow2Error } from '../errors.js';
import { ChunkGeometry } from './chunk-geometry.js';

const FORMAT = 'qcow2-wasm split image';
const VERSION = 1;

/** 4 MiB of text: 64,000 parts. */
export const LONGEST_MANIFEST_BYTES = 4 * 1024 * 1024;

export interface SplitManifest {
  readonly geometry: ChunkGeometry;
  /** SHA-256 in hexadecimal digits. */
  readonly parts: readonly string[];
}

/** @throws Qcow2Error `BAD_IMAGE` for what is no manifest; the field is named. */
export function parseManifest(text: string, url: string): SplitManifest {
  const fields = parseObject(text, url);
  if (fields['format'] !== FORMAT) throw bad(url, `"format" is ${told(fields['format'])}, not ${told(FORMAT)}`);
  if (fields['version'] !== VERSION)
    throw bad(url, `"version" is ${told(fields['version'])}; this build reads ${VERSION}`);
  const { size, partBytes, parts } = fields;
  if (typeof size !== 'number' || typeof partBytes !== 'number')
    throw bad(url, '"size" and "partBytes" must be numbers');
  const geometry = geometryOf(size, partBytes, url);
  if (!Array.isArray(parts) || parts.length !== geometry.count) {
    const count = Array.isArray(parts) ? parts.length : told(parts);
    throw bad(url, `"parts" has ${count} entries; ${size} bytes in parts of ${partBytes} are ${geometry.count}`);
  }
  const wrong = parts.findIndex((part) => typeof part !== 'string' || !/^[0-9a-f]{64}$/.test(part));
  if (wrong !== -1) throw bad(url, `"parts"[${wrong}] is ${told(parts[wrong])}, no SHA-256 of 64 digits`);
  return { geometry, parts: parts as string[] };
}

/** The text of the manifest of an image. @param parts the digest of each part. */
export function manifestText(size: number, partBytes: number, parts: readonly string[]): string {
  return `${JSON.stringify({ format: FORMAT, version: VERSION, size, partBytes, parts }, null, 1)}\n`;
}

/** Which version of the image it is: one digest of all parts and of the size. */
export function manifestIdentity({ geometry, parts }: SplitManifest): string {
  return `sha256:${digestText(new TextEncoder().encode(`${geometry.size}\n${parts.join('\n')}\n`))}`;
}

export function partName(digest: string): string {
  return `${digest.slice(0, 32)}.part`;
}

/** SHA-256 in hexadecimal digits. */
export function digestText(bytes: Uint8Array): string {
  return hexDigits(sha256(bytes));
}

export function hexDigits(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function geometryOf(size: number, partBytes: number, url: string): ChunkGeometry {
  try {
    return new ChunkGeometry(size, partBytes);
  } catch (cause) {
    throw bad(url, reasonOf(cause));
  }
}

function parseObject(text: string, url: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // Told below, as for any other text.
  }
  throw bad(url, 'it is no JSON object');
}

function bad(url: string, problem: string): Qcow2Error {
  return new Qcow2Error('BAD_IMAGE', `${url} is no manifest of a split image: ${problem}`);
}

/** Of a file that anyone may have written: short. */
function told(value: unknown): string {
  return (JSON.stringify(value) ?? 'missing').slice(0, 80);
}
