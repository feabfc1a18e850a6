/**
 * Cuts a base image into the files of a split image (`network/split-manifest.ts`).
 *
 * Invariant: whatever ends it, no file has a name that it does not deserve. A file is written under another name and renamed; the manifest comes
 * last, in one step, so what it names is there, and the one of before is whole until then. A part that is there already is read: one
 * of other bytes, which something else has left, is written anew.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, extname, join } from 'node:path';
import { ChunkGeometry } from '../../network/chunk-geometry.js';
import { manifestText, partName } from '../../network/split-manifest.js';
import { CliError, withPrefix } from '../text/messages.js';

/** One request brings one part: larger than a chunk of a server with ranges, which brings several at a time. */
export const DEFAULT_PART_BYTES = 256 * 1024;

export interface SplitImage {
  /** Path. */
  readonly manifest: string;
  readonly parts: number;
  /** Parts that were written; the others were there. */
  readonly written: number;
}

/**
 * @param folder made if it is missing. @param partBytes a power of two from 64 KiB to 4 MiB.
 * @throws CliError, Qcow2Error `BAD_ARGUMENT`, `LIMIT`.
 */
export function splitImage(image: string, folder: string, partBytes: number): SplitImage {
  const file = withName(image, () => openSync(image, 'r'));
  try {
    const { size } = statSync(image);
    if (size === 0) throw new CliError(`${image}: the image is empty`);
    const geometry = new ChunkGeometry(size, partBytes);
    withName(folder, () => mkdirSync(folder, { recursive: true }));
    const digests: string[] = [];
    let written = 0;
    for (let index = 0; index < geometry.count; index++) {
      const bytes = readExactly(file, geometry.start(index), geometry.length(index));
      const digest = digestOf(bytes);
      if (writePart(join(folder, partName(digest)), bytes, digest)) written++;
      digests.push(digest);
    }
    const manifest = join(folder, `${basename(image, extname(image))}.split.json`);
    replaceFile(manifest, manifestText(size, partBytes, digests));
    return { manifest, parts: geometry.count, written };
  } finally {
    closeSync(file);
  }
}

/** Whether it was to be written: it was not there, or something else was. */
function writePart(path: string, bytes: Uint8Array, digest: string): boolean {
  const known = statSync(path, { throwIfNoEntry: false });
  if (known?.isFile() === true && known.size === bytes.length && digestOf(readFileSync(path)) === digest) return false;
  replaceFile(path, bytes);
  return true;
}

function replaceFile(path: string, content: Uint8Array | string): void {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  withName(path, () => {
    try {
      writeFileSync(temporary, content);
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
  });
}

function readExactly(file: number, position: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const count = readSync(file, bytes, done, length - done, position + done);
    if (count === 0) throw new CliError(`the image ended at ${position + done} bytes while it was read`);
    done += count;
  }
  return bytes;
}

/** By Node, which is faster than the library that pages have. */
function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** What the host says of a file, with its name. */
function withName<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw withPrefix(`${path}: `, error);
  }
}
