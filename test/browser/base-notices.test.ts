/**
 * What the demo says, and does not do, where a base image can't be had, in real Chromium. The disks are empty: no guest boots, and none is needed.
 * They prove:
 * - each reason has its own name and remedy, and none of them ends in an offer to throw the visitor's disk away;
 * - `?base=` is for a fresh disk: one that is there goes on with its own base;
 * - a reset that can't make a fresh disk leaves the one there is, and its machine runs on.
 * - a browser that has little room left is said to have.
 */
import { copyFile, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createImage } from '../../src/image/create.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { launchBrowser, PATIENCE, showConsoleOnFailure, type TestBrowser } from './harness.js';
import { SiteServer } from './site-server.js';
import { forgetAll, forgetBases, storedFiles } from './stored-files.js';

let browser: TestBrowser;
let folder: string;
let site: SiteServer;
/** The base of the page's own server. */
let base: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qcow2-wasm-notices-'));
  await mkdir(join(folder, 'guest'));
  base = join(folder, 'guest/linux.qcow2');
  await writeFile(base, emptyImage());
  await copyFile(base, join(folder, 'other.qcow2'));
  await writeFile(join(folder, 'note.qcow2'), 'This is no image at all.');
  site = new SiteServer({
    '/images/': folder,
    '/guest/bios/': 'demo/guest/bios',
    '/guest/': join(folder, 'guest'),
    '/': 'demo/dist',
  });
  await site.start();
  browser = await launchBrowser();
});

afterAll(async () => {
  await browser?.close();
  await site?.stop();
  await rm(folder, { recursive: true, force: true });
});

afterEach(() => {
  site.knowsRanges = true;
});

showConsoleOnFailure(() => browser);

function emptyImage(): Uint8Array {
  const image = new MemoryStorage();
  createImage(image, { size: 2 ** 20 });
  const bytes = new Uint8Array(image.size);
  image.read(0, bytes);
  return bytes;
}

const open = (query = ''): Promise<Page> => browser.open(`${site.url}/${query}`);

async function whenState(page: Page, state: string): Promise<void> {
  await page.waitForFunction((wanted) => document.documentElement.dataset['state'] === wanted, state, PATIENCE);
}

async function noticeOf(page: Page): Promise<{ text: string; actions: string[] }> {
  await page.locator('#notice').waitFor({ state: 'visible', ...PATIENCE });
  const actions = await page.locator('#notice button').allInnerTexts();
  return { text: await page.locator('#notice').innerText(), actions };
}

/** The notice of a page that could not start. */
async function noticeOfFailure(query = ''): Promise<{ text: string; actions: string[] }> {
  const page = await open(query);
  await whenState(page, 'error');
  const notice = await noticeOf(page);
  await page.close();
  return notice;
}

/** The stored disk, which must be the only file. */
async function storedDisk(): Promise<Buffer> {
  const files = await storedFiles(browser, site.url);
  expect([...files.keys()]).toEqual(['disk.qcow2']);
  return files.get('disk.qcow2')!;
}

/** Runs `job` while the server has no base. */
async function withoutBase<T>(job: () => Promise<T>): Promise<T> {
  await rename(base, `${base}.away`);
  try {
    return await job();
  } finally {
    await rename(`${base}.away`, base);
  }
}

describe('a visitor without a disk', () => {
  it('is told of a base that is not on the server, and gets on without it', async () => {
    const page = await open('?base=images/none.qcow2');
    await whenState(page, 'error');
    const { text, actions } = await noticeOf(page);
    expect(text).toContain('The base image is not on the server');
    expect(text).toContain('/images/none.qcow2');
    expect(actions).toEqual(['Try again', 'Open without it']);
    await page.click('#notice button:last-child');
    await whenState(page, 'booting');
    await page.close();
    await forgetAll(browser, site.url);
  });

  it('is told of a file that is no image, and of an address of another site', async () => {
    const note = await noticeOfFailure('?base=images/note.qcow2');
    expect(note.text).toContain('The base image can’t be used');
    expect(note.text).toContain('/images/note.qcow2 is no base image');
    expect(note.actions).toEqual(['Try again', 'Open without it']);
    const foreign = await noticeOfFailure('?base=https://images.example/linux.qcow2');
    expect(foreign.text).toContain('names an image of another site');
    expect(foreign.actions).toEqual(['Open without it']);
  });

  it('is told of a server without ranges, and what such a server needs', async () => {
    site.knowsRanges = false;
    const { text, actions } = await noticeOfFailure();
    expect(text).toContain('The server can’t send the base image in parts');
    expect(text).toContain('a split image works on such a host');
    expect(actions).toEqual(['Try again']);
  });
});

describe('a visitor with a disk', () => {
  let before: Buffer;

  beforeAll(async () => {
    const page = await open();
    await whenState(page, 'booting');
    await page.close();
    before = await storedDisk();
  });

  it('goes on with its base when the address names another, and is told so', async () => {
    const page = await open('?base=images/other.qcow2');
    await whenState(page, 'booting');
    const { text, actions } = await noticeOf(page);
    expect(text).toContain('The address names another base image');
    expect(text).toContain('goes on with linux.qcow2');
    expect(actions).toEqual(['Dismiss']);
    expect(await page.locator('#base').innerText()).toBe('linux.qcow2');
    await page.close();
  });

  it('keeps it when the base is gone from the server, or comes from one without ranges', async () => {
    await forgetBases(browser, site.url);
    const gone = await withoutBase(() => noticeOfFailure());
    expect(gone.text).toContain('The base image is not on the server');
    expect(gone.text).toContain('/guest/linux.qcow2');
    expect(gone.actions).toEqual(['Try again']);
    site.knowsRanges = false;
    const whole = await noticeOfFailure();
    expect(whole.text).toContain('The server can’t send the base image in parts');
    expect(whole.actions).toEqual(['Try again']);
    expect(Buffer.compare(await storedDisk(), before)).toBe(0);
  });

  it('keeps it, and its machine, when a reset finds no base to stand on, or no room', async () => {
    const page = await open();
    await whenState(page, 'booting');
    const reset = (): Promise<string> =>
      page.evaluate(() =>
        window.demo.reset().then(
          () => 'done',
          (error: { code: string }) => error.code,
        ),
      );
    expect(await withoutBase(reset)).toBe('NOT_FOUND');
    const gone = await noticeOf(page);
    expect(gone.text).toContain('A fresh disk could not be made');
    expect(gone.text).toContain('has not been touched');
    const session = await page.context().newCDPSession(page);
    const { usage } = await page.evaluate(() => navigator.storage.estimate());
    await session.send('Storage.overrideQuotaForOrigin', { origin: site.url, quotaSize: (usage ?? 0) + 65_536 });
    expect(await reset()).toBe('NO_SPACE');
    expect((await noticeOf(page)).text).toContain('Free some space');
    await session.send('Storage.overrideQuotaForOrigin', { origin: site.url });
    await whenState(page, 'booting');
    expect((await page.evaluate(() => window.demo.stats())).backingFile).toContain('linux.qcow2');
    await page.close();
    expect(Buffer.compare(await storedDisk(), before)).toBe(0);
  });

  it('gets a fresh one in one step, also over another base', async () => {
    const page = await open('?base=images/other.qcow2');
    await whenState(page, 'booting');
    await page.evaluate(() => window.demo.reset());
    expect(await page.locator('#base').innerText()).toBe('images/other.qcow2');
    expect(await page.locator('#notice').isVisible()).toBe(false);
    await page.close();
    expect(Buffer.compare(await storedDisk(), before)).not.toBe(0);
    const { text, actions } = await noticeOfFailure();
    expect(text).toContain('a base image that this page does not know');
    expect(text).toContain('"images/other.qcow2');
    expect(actions).toEqual(['Try again']);
  });
});

describe('a browser that has little room left', () => {
  it('is said to, once it tells so, and not before', async () => {
    await forgetAll(browser, site.url);
    const page = await open('favicon.svg');
    // No quota that tests can set shows in what Chromium estimates.
    await page.addInitScript(() => {
      let used = 0.89;
      Object.assign(window, { useRoom: (share: number) => (used = share) });
      navigator.storage.estimate = () => Promise.resolve({ quota: 2 ** 30, usage: used * 2 ** 30 });
    });
    await page.goto(`${site.url}/`);
    await whenState(page, 'booting');
    const warning = page.locator('#storage-full');
    await page.locator('#storage').scrollIntoViewIfNeeded();
    await expect.poll(() => page.locator('#storage-text').innerText(), PATIENCE).toBe('911 MiB of 1.0 GiB used');
    expect(await warning.isVisible()).toBe(false);
    await page.evaluate(() => (window as unknown as { useRoom(share: number): void }).useRoom(0.95));
    // The panel looks now and then, while it is in sight.
    await warning.waitFor({ state: 'visible', ...PATIENCE });
    expect(await warning.innerText()).toContain('little room left');
    await page.close();
  });
});
