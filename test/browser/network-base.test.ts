/**
 * The demo over a base image that its server keeps, in real Chromium with the real guest. They prove:
 * - the first boot fetches little more than it reads, the second one nothing at all, and the server may be gone then;
 * - a server without ranges serves as well, in parts;
 * - a server that fails, stalls, cuts short or changes its file costs time or a message, and never a disk.
 *
 * A boot takes 10 to 40 s, so each serves for all that can be asked of it, and the tests of a `describe` build on one another.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { checkOverlay } from './guest-image.js';
import { GuestPage } from './guest-page.js';
import { launchBrowser, PATIENCE, showConsoleOnFailure, type TestBrowser } from './harness.js';
import { SiteServer } from './site-server.js';
import { forgetAll, storedFiles } from './stored-files.js';

/** A boot reads nearly all of the demo's image, so there is more behind its end, which nothing refers to. */
const UNREAD_BYTES = 8 * 2 ** 20;
const PAGE = '?base=images/linux.qcow2&profile=images/linux.qcow2.profile.json';

let site: SiteServer;
let browser: TestBrowser;
let folder: string;
/** What a test that failed has left open, the next one must not find in use. */
const opened: GuestPage[] = [];
/** Of the image that a boot has a use for. */
let guestBytes: number;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qcow2-wasm-network-'));
  const image = join(folder, 'linux.qcow2');
  const content = await readFile('demo/guest/linux.qcow2');
  guestBytes = content.length;
  await writeFile(image, Buffer.concat([content, randomBytes(UNREAD_BYTES)]));
  const format = { format: 'qcow2-wasm boot profile', version: 1, size: guestBytes + UNREAD_BYTES };
  await writeFile(`${image}.profile.json`, JSON.stringify({ ...format, touched: [[0, guestBytes]] }));
  execFileSync(process.execPath, ['dist/cli/qcow2-split.js', image, folder]);
  site = new SiteServer({ '/images/': folder, '/guest/': 'demo/guest', '/': 'demo/dist' });
  await site.start();
  browser = await launchBrowser();
});

afterAll(async () => {
  await browser?.close();
  await site?.stop();
  await rm(folder, { recursive: true, force: true });
});

beforeEach(() => {
  site.resetCounts();
  site.fault = () => null;
  site.knowsRanges = true;
  site.etag = '"first"';
});

afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ page }) => page.close()));
});

showConsoleOnFailure(() => browser);

/** Bytes of the base that the guest has read, in units of 64 KiB. */
async function bytesRead(page: Page): Promise<number> {
  const { touched } = await page.evaluate(() => window.demo.bootProfile());
  return touched.reduce((sum, [, length]) => sum + length, 0);
}

async function open(query: string): Promise<GuestPage> {
  const guest = await GuestPage.open(browser, `${site.url}/${query}`);
  opened.push(guest);
  return guest;
}

/** Boots to the shell. */
async function boot(query: string): Promise<GuestPage> {
  const guest = await open(query);
  await guest.booted();
  return guest;
}

/** Resolves when `bytes` of the base are kept, and nothing more is on its way. */
async function whenKept(page: Page, bytes: number): Promise<void> {
  const kept = () => page.evaluate(async () => (await window.demo.bases())[0]!.keptBytes);
  await expect.poll(kept, PATIENCE).toBeGreaterThanOrEqual(bytes);
  await expect.poll(() => site.openAnswers, PATIENCE).toBe(0);
}

/** Presses the button, and resolves when there is nothing left to be pressed for. */
async function makeAvailableOffline({ page }: GuestPage): Promise<void> {
  await page.click('#offline');
  await page.locator('#offline').waitFor({ state: 'hidden' });
  expect(await page.locator('#base-here').innerText()).toMatch(/^all /);
}

/** Stops the server, reloads the page, and boots from what is here. */
async function rebootWithoutServer(guest: GuestPage): Promise<void> {
  await site.stop();
  try {
    await guest.page.reload();
    await guest.booted();
    expect(await guest.run('cat /root/kept')).toBe('kept');
  } finally {
    await site.start();
  }
}

/** The file of the stored disk, which must not be open, as `qemu-img check` sees it. */
async function checkStoredDisk(): Promise<{ errors: number; leaks: number }> {
  const path = join(folder, 'stored.qcow2');
  await writeFile(path, (await storedFiles(browser, site.url)).get('disk.qcow2')!);
  return checkOverlay(path);
}

describe('a site whose server knows ranges', () => {
  it('boots on little more than what the boot reads', async () => {
    const guest = await boot(PAGE);
    const read = await bytesRead(guest.page);
    const { guest: activity } = await guest.page.evaluate(() => window.demo.stats());
    expect(site.baseBytes).toBeLessThan(1.3 * read);
    expect(site.baseBytes).toBeLessThan(1.3 * activity.readBytes);
    await guest.run('echo kept > /root/kept; sync');
    await whenKept(guest.page, guestBytes);
    await guest.page.close();
  });

  it('boots again without a byte or a question, and without a server once it was made available offline', async () => {
    const guest = await boot(PAGE);
    expect(site.baseRequests).toBe(0);
    expect(site.profileRequests).toBe(0);
    expect(await guest.run('cat /root/kept')).toBe('kept');
    await makeAvailableOffline(guest);
    expect(site.baseBytes).toBeGreaterThan(UNREAD_BYTES / 2);
    await rebootWithoutServer(guest);
    await guest.page.close();
    expect((await checkStoredDisk()).errors).toBe(0);
  });
});

describe('a site whose server knows no ranges', () => {
  it('boots from the parts of a split image, and without the server once they are all here', async () => {
    await forgetAll(browser, site.url);
    site.knowsRanges = false;
    const guest = await boot('?base=images/linux.split.json');
    expect(site.baseBytes).toBeLessThan(1.3 * (await bytesRead(guest.page)));
    await guest.run('echo kept > /root/kept; sync');
    await makeAvailableOffline(guest);
    await rebootWithoutServer(guest);
    await guest.page.close();
    expect((await checkStoredDisk()).errors).toBe(0);
  });
});

describe('a site whose server is unwell', () => {
  it('boots all the same where every fifth request fails, stalls, or is cut short', async () => {
    await forgetAll(browser, site.url);
    const kinds = ['refuse', 'truncate', 'stall'] as const;
    let faults = 0;
    site.fault = (nth) => (nth % 5 === 0 ? kinds[faults++ % kinds.length]! : null);
    const guest = await boot(PAGE);
    expect(faults).toBeGreaterThanOrEqual(kinds.length);
    await guest.run('echo unwell > /root/kept; sync');
    await guest.page.close();
    expect((await checkStoredDisk()).errors).toBe(0);
  });

  it('stops with a message where the image changes in the middle of a boot, and the disk is good', async () => {
    await forgetAll(browser, site.url);
    site.fault = (nth) => {
      if (nth === 6) site.etag = '"second"';
      return null;
    };
    const { page } = await open(PAGE);
    const notice = page.locator('#notice');
    await notice.filter({ hasText: 'BASE_CHANGED' }).waitFor();
    const words = await notice.innerText();
    expect(words).toContain('The disk could not carry out a read');
    expect(words).toContain('"first"');
    expect(words).toContain('"second"');
    expect(words).toContain('What was written is safe in its file');
    await page.close();
    expect((await checkStoredDisk()).errors).toBe(0);
  });
});
