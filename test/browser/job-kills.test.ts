/**
 * A tab of real Chromium that is killed in the midst of a long job, at several moments. After each kill another tab opens everything:
 * - an export: the disk has what was flushed, the half-written file is swept, and the export is made anew and good;
 * - an import: the old disk is there, whole, and the half-written file is swept;
 * - a prefetch: the disk is there, and what had come of the base is not fetched again.
 *
 * A server that stops answering in the middle of the base, or a stream that stops, holds the job where the kill is to find it.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { exportedBytes, openFixture } from './fixture-page.js';
import { launchBrowser, PATIENCE, showConsoleOnFailure, type FolderServer, type TestBrowser } from './harness.js';
import { killTab } from './kill-tab.js';
import { temporaryNames } from './opfs-folder.js';
import { SiteServer } from './site-server.js';

const SIZE = 8 * 2 ** 20;
const MARK_AT = 3 * 2 ** 20;
const MARK_BYTES = 200_000;

const base = randomBytes(SIZE);
const expected = Buffer.from(base);
expected.fill(0x42, MARK_AT, MARK_AT + MARK_BYTES);

let site: SiteServer;
let server: FolderServer;
let browser: TestBrowser;
let scratch: string;
/** Lives through the kill of a test. */
let survivor: Page;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'qcow2-wasm-kills-'));
  writeFileSync(join(scratch, 'base.raw.qcow2'), base);
  const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
  site = new SiteServer({ '/images/': scratch, '/dist/': path('../../dist'), '/': path('fixture') });
  await site.start();
  server = { url: site.url, close: () => site.stop() };
  browser = await launchBrowser();
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(scratch, { recursive: true, force: true });
});
afterEach(() => survivor.close());
beforeEach(async () => {
  // What it exports stays for as long as it lives, so each test has its own.
  survivor = await openFixture(browser, server);
  await whenLetGo();
  site.fault = () => null;
  site.resetCounts();
  // Each test has a version of its own, and so a cache of its own.
  site.etag = `"${randomBytes(8).toString('hex')}"`;
});
showConsoleOnFailure(() => browser);

/** Opens an overlay over the base as `window.disk`. */
async function openOverlay(page: Page, name: string): Promise<void> {
  await page.evaluate(async (wanted) => {
    window.disk = await window.qcow2.openDisk({
      name: wanted,
      create: { backing: { name: 'base', format: 'raw' } },
      backing: [{ url: '/images/base.raw.qcow2', name: 'base' }],
    });
  }, name);
}

/** A new tab with a disk whose mark is flushed. The server goes silent after so many requests more. */
async function tabWithMark(name: string, requests: number): Promise<Page> {
  const page = await openFixture(browser, server);
  await openOverlay(page, name);
  await page.evaluate(
    async ({ at, length }) => {
      await window.disk.write(at, new Uint8Array(length).fill(0x42));
      await window.disk.flush();
    },
    { at: MARK_AT, length: MARK_BYTES },
  );
  const before = site.baseRequests;
  site.fault = (nth) => (nth > before + requests ? 'stall' : null);
  return page;
}

/** Resolves when the job of a tab waits for the server. */
async function whenStalled(): Promise<void> {
  await expect.poll(() => site.fault(site.baseRequests), PATIENCE).toBe('stall');
}

/** Nobody has a file any more that was being written: who was killed, or closed, has it for a moment yet. Opening a disk sweeps it then. */
async function whenLetGo(): Promise<void> {
  const held = () =>
    survivor.evaluate(async () => {
      const locks = (await navigator.locks.query()).held!;
      return locks.map(({ name }) => name!).filter((name) => name.includes('/.tmp-'));
    });
  await expect.poll(held, PATIENCE).toEqual([]);
}

/** The disk in the surviving tab, exported: QEMU finds nothing wrong with it, and it is the base with the mark. */
async function expectWhole(): Promise<void> {
  const image = join(scratch, 'export.img');
  writeFileSync(image, await exportedBytes(survivor));
  execFileSync('qemu-img', ['check', '-q', '-f', 'qcow2', image]);
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', image, `${image}.raw`]);
  expect(readFileSync(`${image}.raw`).equals(expected)).toBe(true);
}

describe('a tab that is killed while it exports', () => {
  for (const requests of [0, 3, 8]) {
    it(`has lost nothing after ${requests} requests for the base, and left nothing`, async () => {
      const name = `export-${requests}.qcow2`;
      const page = await tabWithMark(name, requests);
      await page.evaluate(() => void window.disk.exportImage().catch(() => undefined));
      await whenStalled();
      await killTab(page);
      expect(await temporaryNames(survivor), 'what the kill left').toHaveLength(1);
      site.fault = () => null;
      await whenLetGo();
      await openOverlay(survivor, name);
      expect(await temporaryNames(survivor)).toEqual([]);
      await expectWhole();
      await survivor.evaluate(() => window.disk.close());
    });
  }
});

describe('a tab that is killed while it imports', () => {
  for (const pieces of [1, 2, 5]) {
    it(`has the old disk after ${pieces} pieces of the new one, and left nothing`, async () => {
      const name = `import-${pieces}.qcow2`;
      const page = await tabWithMark(name, Infinity);
      await page.evaluate(() => window.disk.close());
      execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', join(scratch, 'new.img'), '16M']);
      execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 0x5a 0 8M', join(scratch, 'new.img')]);
      await page.evaluate(
        async ({ target, most }) => {
          const image = await (await fetch('/images/new.img')).blob();
          let sent = 0;
          // An image from a medium that stops answering.
          image.stream = () =>
            new ReadableStream({
              pull: async (controller) => {
                const piece = image.slice(sent * 100_000, (sent + 1) * 100_000);
                if (sent++ >= most) await new Promise(() => undefined);
                controller.enqueue(new Uint8Array(await piece.arrayBuffer()));
              },
            });
          let stored = 0;
          await new Promise<void>((resolve) => {
            const onProgress = (): void => void (++stored === most && resolve());
            void window.qcow2.importImage({ name: target }, image, { onProgress });
          });
        },
        { target: name, most: pieces },
      );
      await expect.poll(() => temporaryNames(survivor), PATIENCE).toHaveLength(1);
      await killTab(page);
      await whenLetGo();
      await openOverlay(survivor, name);
      expect(await temporaryNames(survivor)).toEqual([]);
      await expectWhole();
      await survivor.evaluate(() => window.disk.close());
    });
  }
});

describe('a tab that is killed while it makes its base available offline', () => {
  for (const requests of [1, 4]) {
    it(`goes on after the ${requests} requests that were answered, and needs no server at the end`, async () => {
      const name = `prefetch-${requests}.qcow2`;
      const page = await tabWithMark(name, requests);
      await page.evaluate(() => void window.disk.makeAvailableOffline().catch(() => undefined));
      await whenStalled();
      await expect
        .poll(() => page.evaluate(async () => (await window.disk.bases())[0]!.keptBytes), PATIENCE)
        .toBeGreaterThan(0);
      const kept = await page.evaluate(async () => (await window.disk.bases())[0]!.keptBytes);
      await killTab(page);
      site.fault = () => null;
      site.resetCounts();
      await openOverlay(survivor, name);
      await survivor.evaluate(() => window.disk.makeAvailableOffline());
      expect(site.baseBytes).toBeLessThanOrEqual(SIZE - kept);
      site.resetCounts();
      await expectWhole();
      expect(site.baseRequests).toBe(0);
      await survivor.evaluate(() => window.disk.close());
    });
  }
});
