/**
 * The demo in two tabs of real Chromium, and on a site that loses its storage. They prove:
 * - a second tab is offered the disk of the first, or a guest of its own; taking over keeps what the guest had synced, and can be undone;
 * - a guest without room gets I/O errors, the page says so and why, and the disk is good;
 * - what the browser has cleared is told on the next visit: the disk with its time, the base in passing.
 *
 * One profile for all, in order. Guests boot to their end only where something is asked of them.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkOverlay } from './guest-image.js';
import { GuestPage } from './guest-page.js';
import {
  launchBrowser,
  PATIENCE,
  serveFolder,
  showConsoleOnFailure,
  type FolderServer,
  type TestBrowser,
} from './harness.js';
import { forgetBases, forgetFile, storedFiles } from './stored-files.js';

const MIB = 1 << 20;

let server: FolderServer;
let browser: TestBrowser;
let folder: string;
let first: GuestPage;
let second: GuestPage;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qcow2-wasm-tabs-'));
  server = await serveFolder('demo/dist', { '/guest': 'demo/guest' });
  browser = await launchBrowser();
  first = await GuestPage.open(browser, `${server.url}/`);
  await first.booted();
  await first.run('echo kept > /root/kept; sync');
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});
showConsoleOnFailure(() => browser);

const notice = (page: Page): Promise<string> => page.locator('#notice').innerText();

const choose = (page: Page, label: string): Promise<void> => page.getByRole('button', { name: label }).click();

async function whenNoticeSays(page: Page, words: string): Promise<void> {
  await page.waitForFunction((wanted) => document.getElementById('notice')!.innerText.includes(wanted), words);
}

/** The rows of the part on what is stored, as text. In one step: they are put in anew at each look, and one that is gone has no lines. */
function storedRows(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const rows = document.querySelectorAll<HTMLElement>('#storage-rows li');
    return Array.from(rows, (row) => row.innerText);
  });
}

/** The stored disk, as `qemu-img check` sees it. */
async function checkStoredDisk(): Promise<{ errors: number }> {
  const path = join(folder, 'stored.qcow2');
  await writeFile(path, (await storedFiles(browser, server.url)).get('disk.qcow2')!);
  return checkOverlay(path);
}

describe('two tabs', () => {
  it('hand the disk over, with what the guest had synced, and the first says where it went', async () => {
    second = await GuestPage.open(browser, `${server.url}/`);
    await whenNoticeSays(second.page, 'in use in another tab');
    await choose(second.page, 'Take it over');
    await second.booted();
    expect(await second.run('cat /root/kept')).toBe('kept');
    expect(await notice(first.page)).toContain('This disk went to another tab');
    expect(await first.state()).toBe('stopped');
  });

  it('run a guest beside it whose disk is thrown away, and say so', async () => {
    const { page } = first;
    await choose(page, 'Run a throw-away guest');
    await first.whenState('booting', 'ready');
    expect(await page.locator('#throw-away').innerText()).toContain('nothing that it writes is kept');
    expect(await page.locator('#location').innerText()).toBe('the memory of this tab');
    expect(await page.locator('#reset').isVisible()).toBe(false);
    expect(await second.run('echo alive')).toBe('alive');
  });

  it('see what is stored: the disk, the base, and that the disk stands on it', async () => {
    const { page } = second;
    await page.locator('#storage').scrollIntoViewIfNeeded();
    await expect.poll(() => storedRows(page), PATIENCE).toHaveLength(3);
    const [disk, base, rest] = await storedRows(page);
    expect(disk).toMatch(/^disk\b/);
    expect(base).toMatch(/linux\.qcow2.*here/s);
    expect(base).not.toContain('no disk stands on it');
    expect(rest).toContain('everything else');
    expect(await page.locator('#storage-text').innerText()).toMatch(/^[\d.]+ MiB of [\d.]+ GiB used$/);
    await page.click('#storage-keep');
    await page.waitForFunction(() => document.getElementById('storage-kept')!.innerText.includes('did not promise'));
  });

  it('take the disk back', async () => {
    await choose(first.page, 'Back to the disk');
    await whenNoticeSays(first.page, 'in use in another tab');
    expect(await first.page.locator('#throw-away').isVisible()).toBe(false);
    await choose(first.page, 'Take it over');
    await first.whenState('booting', 'ready');
    await whenNoticeSays(second.page, 'This disk went to another tab');
    await second.page.close();
  });
});

describe('a guest without room', () => {
  it('gets I/O errors, the page says why, and the disk is good', async () => {
    const { page } = first;
    await first.booted();
    const session = await page.context().newCDPSession(page);
    const { usage } = await page.evaluate(() => navigator.storage.estimate());
    await session.send('Storage.overrideQuotaForOrigin', { origin: server.url, quotaSize: (usage ?? 0) + MIB });
    await page.evaluate(() => window.demo.send('dd if=/dev/urandom of=/root/fill bs=64k count=64 conv=fsync\n'));
    await whenNoticeSays(page, 'no room left for the disk');
    expect(await notice(page)).toContain('NO_SPACE');
    // Which of the two depends on what finds no room, the file's data or the journal. Linux tries a write several times over.
    await page.waitForFunction(() => /I\/O error|Input\/output error|read-only/i.test(window.demo.output()));
    expect(await notice(page), 'what comes after does not hide the cause').toContain('NO_SPACE');
    await choose(page, 'See what is stored');
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('storage-keep');
    await page.close();
    expect((await checkStoredDisk()).errors).toBe(0);
  });
});

describe('a site of which the browser has cleared', () => {
  // Nobody has the disk open.
  beforeAll(() => first.page.close());

  it('the base alone: it boots, and says so in passing', async () => {
    await forgetBases(browser, server.url);
    const guest = await GuestPage.open(browser, `${server.url}/`);
    await guest.started();
    await expect.poll(() => storedRows(guest.page).then(String), PATIENCE).toContain('the browser had cleared it');
    expect(await guest.page.locator('#notice').isVisible()).toBe(false);
    await guest.page.close();
  });

  it('the disk: it says which, and when it was last there, and boots a fresh one', async () => {
    await forgetFile(browser, server.url, 'disk.qcow2');
    const guest = await GuestPage.open(browser, `${server.url}/`);
    await guest.whenState('booting', 'ready');
    await whenNoticeSays(guest.page, 'The browser has cleared your disk');
    expect(await notice(guest.page)).toMatch(/disk, [\d.]+ [KM]iB, last here (just now|\d+ s ago|\d+ min ago)/);
    await guest.page.reload();
    await guest.started();
    expect(await guest.page.locator('#notice').isVisible(), 'it is said once').toBe(false);
    await guest.page.evaluate(() => window.demo.reset());
    await guest.page.reload();
    await guest.started();
    expect(await guest.page.locator('#notice').isVisible(), 'what the page deletes itself is not missed').toBe(false);
    await guest.page.close();
  });
});
