/** What the demo has stored for an origin, looked at while no page of the demo has it open. */
import type { Page } from 'playwright-core';
import { expect } from 'vitest';
import { PATIENCE, type TestBrowser } from './harness.js';

const DEMO_FOLDER = 'qcow2-wasm-demo';
const BASES_FOLDER = 'qcow2-wasm-bases';

/** Runs `job` in a page of the origin that is not the demo. */
async function besideDemo<T>(browser: TestBrowser, origin: string, job: (page: Page) => Promise<T>): Promise<T> {
  const page = await browser.open(`${origin}/favicon.svg`);
  try {
    return await job(page);
  } finally {
    await page.close();
  }
}

/** Deletes a folder in OPFS, or a file in it. The worker of a page that was just closed may have its files for a moment yet. */
async function remove(page: Page, ...path: [folder: string, file?: string]): Promise<void> {
  const attempt = (): Promise<string> =>
    page.evaluate(async ([folder, file]) => {
      try {
        const root = await navigator.storage.getDirectory();
        if (file === undefined) await root.removeEntry(folder, { recursive: true });
        else await (await root.getDirectoryHandle(folder)).removeEntry(file);
        return 'gone';
      } catch (error) {
        const { name } = error as DOMException;
        return name === 'NotFoundError' ? 'gone' : name;
      }
    }, path);
  await expect.poll(attempt, PATIENCE).toBe('gone');
}

/** Nothing of earlier tests is stored, and the demo misses nothing of it. */
export function forgetAll(browser: TestBrowser, origin: string): Promise<void> {
  return besideDemo(browser, origin, async (page) => {
    await remove(page, DEMO_FOLDER);
    await remove(page, BASES_FOLDER);
    await page.evaluate(() => localStorage.clear());
  });
}

/** What was kept of base images is gone, as after an eviction; the disk stays. */
export function forgetBases(browser: TestBrowser, origin: string): Promise<void> {
  return besideDemo(browser, origin, (page) => remove(page, BASES_FOLDER));
}

/** A file of the demo is gone, as after an eviction. */
export function forgetFile(browser: TestBrowser, origin: string, file: string): Promise<void> {
  return besideDemo(browser, origin, (page) => remove(page, DEMO_FOLDER, file));
}

/** The demo's files by name. Nobody may have one open; the worker of a page that was just closed may for a moment yet. */
export async function storedFiles(browser: TestBrowser, origin: string): Promise<Map<string, Buffer>> {
  const found = await besideDemo(browser, origin, (page) =>
    page.evaluate(async (name) => {
      const root = await navigator.storage.getDirectory();
      const stored = await root.getDirectoryHandle(name);
      // The iterator of a directory is not in every version of the DOM's types.
      const entries = (stored as unknown as { values(): AsyncIterable<FileSystemFileHandle> }).values();
      const files: [name: string, base64: string][] = [];
      for await (const handle of entries) {
        const read = async (): Promise<Uint8Array> => new Uint8Array(await (await handle.getFile()).arrayBuffer());
        const bytes = await navigator.locks.request(`qcow2-wasm:${name}/${handle.name}`, read);
        let binary = '';
        for (let at = 0; at < bytes.length; at += 0x8000)
          binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
        files.push([handle.name, btoa(binary)]);
      }
      return files;
    }, DEMO_FOLDER),
  );
  return new Map(found.map(([name, text]) => [name, Buffer.from(text, 'base64')]));
}
