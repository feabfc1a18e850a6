/**
 * node scripts/split-image.mjs image folder [part-bytes]: cuts a base image into parts for a host that knows no byte ranges.
 *
 * Writes `<name>.split.json`, the manifest (src/network/split-manifest.ts), and the parts into `folder`. Equal parts are one file, and those
 * that are there already are left alone, so the parts of an older version may stay for the disks that stand on it.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readSync, statSync, writeFileSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

const DEFAULT_PART_BYTES = 256 * 1024;
const SMALLEST = 64 * 1024;
const LARGEST = 4 * 1024 * 1024;

/**
 * @param {string} image path
 * @param {string} folder made if it is missing
 * @returns {{ manifest: string, parts: number, written: number }} the manifest's path, the parts, those that were new
 */
export function splitImage(image, folder, partBytes = DEFAULT_PART_BYTES) {
  if (!Number.isInteger(Math.log2(partBytes)) || partBytes < SMALLEST || partBytes > LARGEST) {
    throw new Error(`parts of ${partBytes} bytes: a power of two from ${SMALLEST} to ${LARGEST} is needed`);
  }
  const { size } = statSync(image);
  if (size === 0) throw new Error(`${image} is empty`);
  mkdirSync(folder, { recursive: true });
  const parts = [];
  let written = 0;
  const file = openSync(image, 'r');
  try {
    for (let at = 0; at < size; at += partBytes) {
      const bytes = readExactly(file, at, Math.min(partBytes, size - at));
      const digest = createHash('sha256').update(bytes).digest('hex');
      const path = join(folder, `${digest.slice(0, 32)}.part`);
      parts.push(digest);
      if (existsSync(path)) continue;
      writeFileSync(path, bytes);
      written++;
    }
  } finally {
    closeSync(file);
  }
  // The manifest comes last: what it names is there.
  const manifest = join(folder, `${basename(image, extname(image))}.split.json`);
  const fields = { format: 'qcow2-wasm split image', version: 1, size, partBytes, parts };
  writeFileSync(manifest, `${JSON.stringify(fields, null, 1)}\n`);
  return { manifest, parts: parts.length, written };
}

function readExactly(file, at, length) {
  const bytes = Buffer.alloc(length);
  for (let done = 0; done < length;) {
    const count = readSync(file, bytes, done, length - done, at + done);
    if (count === 0) throw new Error(`the image ended at ${at + done} bytes while it was read`);
    done += count;
  }
  return bytes;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [image, folder, partBytes] = process.argv.slice(2);
  if (image === undefined || folder === undefined) {
    console.error('usage: node scripts/split-image.mjs image folder [part-bytes]');
    process.exitCode = 1;
  } else {
    try {
      const { manifest, parts, written } = splitImage(
        image,
        folder,
        partBytes === undefined ? undefined : Number(partBytes),
      );
      console.log(`${manifest}: ${parts} parts, ${written} of them new`);
    } catch (error) {
      console.error(error instanceof Error ? error.message : error);
      process.exitCode = 1;
    }
  }
}
