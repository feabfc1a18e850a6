/** Small disks in the demo page, for tests that need no guest: their boot sector only waits. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { createImage } from '../../src/image/create.js';
import { openImage } from '../../src/image/open.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { qemuImg } from '../interop/qemu.js';
import { checkImage } from './guest-image.js';

/** The demo's folder in OPFS. */
export const FOLDER = 'qcow2-wasm-demo';

/** A disk whose boot sector only waits, and which is full of `text`. */
export function smallImage(text: string, size: number): Uint8Array {
  const storage = new MemoryStorage();
  createImage(storage, { size });
  const image = openImage(storage);
  const content = new Uint8Array(Buffer.alloc(size, text));
  // hlt; jmp back to it
  content.set([0xf4, 0xeb, 0xfd]);
  content.set([0x55, 0xaa], 510);
  image.write(0, content);
  image.close();
  return storage.toBytes();
}

/** Puts an image of the site's folder `/images` into the demo's folder in OPFS. */
export async function plantImage(page: Page, image: string, file: string): Promise<void> {
  await page.evaluate(
    async ({ from, into, name }) => {
      const root = await navigator.storage.getDirectory();
      const stored = await root.getDirectoryHandle(into, { create: true });
      const writable = await (await stored.getFileHandle(name, { create: true })).createWritable();
      await (await fetch(from)).body!.pipeTo(writable);
    },
    { from: `/images/${image}`, into: FOLDER, name: file },
  );
}

/** The files in the demo's folder in OPFS. */
export function storedNames(page: Page): Promise<string[]> {
  return page.evaluate(async (from) => {
    const root = await navigator.storage.getDirectory();
    const found: string[] = [];
    for await (const name of (await root.getDirectoryHandle(from)).keys()) found.push(name);
    return found.sort();
  }, FOLDER);
}

/** Throws unless a stored file is sound, and holds the same disk as `image`, to QEMU. */
export async function requireSame(stored: Uint8Array | undefined, image: Uint8Array): Promise<void> {
  if (!stored) throw new Error('there is no such file');
  const folder = await mkdtemp(join(tmpdir(), 'qcow2-wasm-same-'));
  try {
    const [one, other] = [join(folder, 'one.qcow2'), join(folder, 'other.qcow2')];
    await writeFile(one, stored);
    await writeFile(other, image);
    const { errors, leaks } = checkImage(one);
    if (errors + leaks > 0) throw new Error(`the stored image has ${errors} errors and ${leaks} leaks`);
    // Ends with an error for disks that differ.
    qemuImg('compare', one, other);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
