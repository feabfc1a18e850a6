/**
 * One base image on a server, and several tabs of real Chromium. They prove:
 * - two tabs that stand on one base fetch each chunk once, together, and read what the server has;
 * - what was kept when the browser was killed is right, and the rest is fetched;
 * - without room the disk goes on, the page is told before all is fetched in vain, and nothing is damaged;
 * - what is kept is listed, also while it grows, and deleted when nobody has it open.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { FolderServer, TestBrowser } from './harness.js';
import { launchBrowser, PATIENCE, showConsoleOnFailure } from './harness.js';
import { openFixture } from './fixture-page.js';
import { SiteServer } from './site-server.js';

const SIZE = 12 * 2 ** 20;
const CHUNK = 256 * 1024;
const content = randomBytes(SIZE);
const SUM = createHash('sha256').update(content).digest('hex');

let site: SiteServer;
let server: FolderServer;
let browser: TestBrowser;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qcow2-wasm-shared-'));
  await writeFile(join(folder, 'base.raw.qcow2'), content);
  const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
  site = new SiteServer({ '/images/': folder, '/dist/': path('../../dist'), '/': path('fixture') });
  await site.start();
  server = { url: site.url, close: () => site.stop() };
  browser = await launchBrowser();
});

afterAll(async () => {
  await browser?.close();
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});

beforeEach(() => {
  site.resetCounts();
  site.fault = () => null;
  // Each test has a version of its own, and so a cache of its own.
  site.etag = `"${randomBytes(8).toString('hex')}"`;
});

showConsoleOnFailure(() => browser);

interface OpenOptions {
  readonly name: string;
  readonly throwAway?: boolean;
}

/** Opens an overlay over the base as `window.disk`. */
async function openOverlay(page: Page, options: OpenOptions): Promise<void> {
  await page.evaluate(async (given) => {
    window.disk = await window.qcow2.openDisk({
      ...given,
      create: { backing: { name: 'base', format: 'raw' } },
      backing: [{ url: '/images/base.raw.qcow2', name: 'base' }],
    });
  }, options);
}

/** Reads all of `window.disk` in steps, from the start or from the end; its SHA-256. */
function sumOfDisk(page: Page, backwards = false): Promise<string> {
  return page.evaluate(async (reverse) => {
    const { size } = window.disk.info;
    const step = 100_000;
    const all = new Uint8Array(size);
    const offsets = Array.from({ length: Math.ceil(size / step) }, (_, index) => index * step);
    for (const offset of reverse ? offsets.toReversed() : offsets) {
      all.set(await window.disk.read(offset, Math.min(step, size - offset)), offset);
    }
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', all));
    return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  }, backwards);
}

describe('several tabs on one base', () => {
  it('fetch each chunk once, together', async () => {
    const [one, other] = [await openFixture(browser, server), await openFixture(browser, server)];
    await openOverlay(one, { name: 'one.qcow2' });
    await openOverlay(other, { name: 'other.qcow2' });
    const sums = await Promise.all([sumOfDisk(one), sumOfDisk(other, true)]);
    expect(sums).toEqual([SUM, SUM]);
    // Opening a disk for the first time asks for the first chunk, to learn what the base is.
    expect(site.baseBytes).toBeLessThanOrEqual(SIZE + CHUNK);
    const statuses = await Promise.all([one, other].map((page) => page.evaluate(() => window.disk.bases())));
    for (const [base] of statuses) expect(base).toMatchObject({ keptBytes: SIZE, notKept: null });
    await Promise.all([one, other].map((page) => page.close()));
  });

  it('have a throw-away disk beside the one that is kept', async () => {
    const [one, other] = [await openFixture(browser, server), await openFixture(browser, server)];
    await openOverlay(one, { name: 'kept.qcow2' });
    await openOverlay(other, { name: 'kept.qcow2', throwAway: true });
    const first = await other.evaluate(async () => {
      await window.disk.write(0, new Uint8Array(512).fill(9));
      return (await window.disk.read(0, 1))[0];
    });
    expect(first).toBe(9);
    expect(await sumOfDisk(one)).toBe(SUM);
    await Promise.all([one, other].map((page) => page.close()));
  });
});

describe('a browser that is killed while it fetches', () => {
  it('has lost nothing that it kept, and fetches the rest', async () => {
    const page = await openFixture(browser, server);
    await openOverlay(page, { name: 'killed.qcow2' });
    site.fault = (nth) => (nth > 8 ? 'stall' : null);
    await page.evaluate(() => {
      window.disk.makeAvailableOffline().catch(() => undefined);
    });
    await expect
      .poll(() => page.evaluate(async () => (await window.disk.bases())[0]!.keptBytes), PATIENCE)
      .toBeGreaterThan(2 * 2 ** 20);
    await browser.kill();
    await browser.relaunch();
    site.fault = () => null;
    site.resetCounts();
    const after = await openFixture(browser, server);
    await openOverlay(after, { name: 'killed.qcow2' });
    expect(await sumOfDisk(after)).toBe(SUM);
    expect(site.baseBytes).toBeLessThan(SIZE - 2 * 2 ** 20);
    await after.evaluate(() => window.disk.makeAvailableOffline());
    await after.close();
  });
});

describe('a site without room', () => {
  it('reads all the same, says that nothing more is kept, and damages nothing', async () => {
    const page = await openFixture(browser, server);
    await openOverlay(page, { name: 'full.qcow2' });
    const session = await page.context().newCDPSession(page);
    const { usage } = await page.evaluate(() => navigator.storage.estimate());
    await session.send('Storage.overrideQuotaForOrigin', { origin: site.url, quotaSize: (usage ?? 0) + 4 * 2 ** 20 });
    const code = await page.evaluate(() =>
      window.disk.makeAvailableOffline().then(
        () => 'none',
        (error: { code: string }) => error.code,
      ),
    );
    expect(code).toBe('NO_SPACE');
    // Chromium does not tell a page its true quota: what was under way when the first chunk did not fit has come.
    expect(site.baseBytes).toBeLessThan(SIZE - 4 * 2 ** 20);
    expect(await sumOfDisk(page)).toBe(SUM);
    const [full] = await page.evaluate(() => window.disk.bases());
    expect(full!.notKept).toContain('not kept here');
    await session.send('Storage.overrideQuotaForOrigin', { origin: site.url });
    // The same disk goes on as soon as there is room.
    await page.evaluate(() => window.disk.makeAvailableOffline());
    expect(await sumOfDisk(page)).toBe(SUM);
    await page.close();
  });
});

describe('the bases of a site', () => {
  it('are listed while one of them grows, and deleted when no tab has them open', async () => {
    const [one, other] = [await openFixture(browser, server), await openFixture(browser, server)];
    await openOverlay(one, { name: 'listed.qcow2' });
    const identity = await one.evaluate(async () => (await window.disk.bases())[0]!.identity);
    const filling = one.evaluate(() => window.disk.makeAvailableOffline());
    const seen = await other.evaluate(async (wanted) => {
      const present: number[] = [];
      while (present.at(-1) !== 12 * 2 ** 20) {
        const base = (await window.qcow2.listBases()).find((candidate) => candidate.identity === wanted);
        if (base?.inUse !== true || base.lastUsed === null || base.bytes < base.presentBytes)
          throw new Error('not told');
        present.push(base.presentBytes);
      }
      return present;
    }, identity);
    await filling;
    expect(seen).toEqual(seen.toSorted((first, second) => first - second));
    const removal = (page: Page): Promise<string> =>
      page.evaluate(async (wanted) => {
        const base = (await window.qcow2.listBases()).find((candidate) => candidate.identity === wanted);
        return window.qcow2.removeBase(base!).then(
          () => 'gone',
          (error: { code: string }) => error.code,
        );
      }, identity);
    expect(await removal(other)).toBe('IN_USE');
    await one.evaluate(() => window.disk.close());
    expect(await removal(other)).toBe('gone');
    const left = await other.evaluate(() => window.qcow2.listBases());
    expect(left.map((base) => base.identity)).not.toContain(identity);
    await Promise.all([one, other].map((page) => page.close()));
  });
});
