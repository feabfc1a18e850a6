/**
 * The demo page in real Chromium, with its real guest: what is written is there after a reload and after the browser was
 * killed, what is downloaded is right to QEMU and to e2fsprogs, and a bad image changes nothing.
 *
 * One profile and one guest's life for all tests, in order; a boot takes up to a minute on a busy machine.
 */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createImage } from '../../src/image/create.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { checkImage, checkOverlay, fileFromGuestDisk } from './guest-image.js';
import { GuestPage } from './guest-page.js';
import { launchBrowser, serveFolder, showConsoleOnFailure, type FolderServer, type TestBrowser } from './harness.js';

const SUM = /\b[0-9a-f]{64}\b/;

let server: FolderServer;
let browser: TestBrowser;
let folder: string;
let page: Page;
let guest: GuestPage;
let sum: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qcow2-wasm-demo-'));
  server = await serveFolder('demo/dist', { '/guest': 'demo/guest' });
  browser = await launchBrowser();
});

afterAll(async () => {
  await browser?.close();
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});

showConsoleOnFailure(() => browser);

async function open(url: string): Promise<void> {
  guest = await GuestPage.open(browser, url);
  page = guest.page;
}

const state = () => guest.state();
const booted = () => guest.booted();
const run = (command: string) => guest.run(command);

/** Runs `start` in the page, which begins a download, and stores that under `name`. */
async function download(name: string, start: () => Promise<unknown>): Promise<string> {
  const [saved] = await Promise.all([page.waitForEvent('download'), start()]);
  const path = join(folder, name);
  await saved.saveAs(path);
  return path;
}

/** The names in the demo's folder in OPFS. */
function storedNames(): Promise<string[]> {
  return page.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    const stored = await root.getDirectoryHandle('qcow2-wasm-demo');
    const found: string[] = [];
    // The iterator of a directory is not in every version of the DOM's types.
    const keys = (stored as unknown as { keys(): AsyncIterable<string> }).keys();
    for await (const name of keys) found.push(name);
    return found;
  });
}

/** Puts an empty file into the demo's folder. */
async function plantFile(name: string): Promise<void> {
  await page.evaluate(async (planted) => {
    const root = await navigator.storage.getDirectory();
    await (await root.getDirectoryHandle('qcow2-wasm-demo')).getFileHandle(planted, { create: true });
  }, name);
}

/** Copies the demo's files in OPFS to `folder`. */
async function copyStoredFiles(): Promise<string[]> {
  const names = await storedNames();
  for (const name of names) {
    const bytes = await page.evaluate(readStoredFile, name);
    await writeFile(join(folder, name), Buffer.from(bytes, 'base64'));
  }
  return names;
}

/** Gives the page an image; the error it is refused with, or null. */
function openImage(image: Uint8Array): Promise<{ code: string; message: string } | null> {
  return page.evaluate(async (base64) => {
    const bytes = await (await fetch(`data:application/octet-stream;base64,${base64}`)).blob();
    return window.demo.openImage(bytes).then(
      () => null,
      (error: { code: string; message: string }) => ({ code: error.code, message: error.message }),
    );
  }, Buffer.from(image).toString('base64'));
}

function emptyImage(size: number): Uint8Array {
  const storage = new MemoryStorage();
  createImage(storage, { size });
  return storage.toBytes();
}

async function readStoredFile(name: string): Promise<string> {
  const root = await navigator.storage.getDirectory();
  const stored = await root.getDirectoryHandle('qcow2-wasm-demo');
  const file = await (await stored.getFileHandle(name)).getFile();
  const url = await new Promise<string>((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener('load', () => resolve(String(reader.result)));
    reader.addEventListener('error', () => reject(reader.error ?? new Error(`${name} could not be read`)));
    reader.readAsDataURL(file);
  });
  return url.slice(url.indexOf(',') + 1);
}

/** Downloads the whole disk as a visitor does whose browser has no picker for files. */
async function downloadDisk(): Promise<void> {
  await page.evaluate(() => Reflect.deleteProperty(window, 'showSaveFilePicker'));
  await guest.openDownload();
  await page.click('#download-dialog button.main');
}

async function sha256(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}

describe('the demo page', () => {
  it('boots the guest from the served base with a fresh overlay in OPFS', async () => {
    // Until the browser is killed, without timers: what is stable then, the guest has made so.
    await open(`${server.url}/?flush=guest`);
    await booted();
    const stats = await page.evaluate(() => window.demo.stats());
    expect(stats).toMatchObject({ path: '/qcow2-wasm-demo/disk.qcow2', seam: 'flush-hook' });
    expect(stats.backingFile).toMatch(/^linux\.qcow2#identity=/);
    expect(stats.guest.readBytes).toBeGreaterThan(1e6);
    expect(stats.disk.cacheHits).toBeGreaterThan(0);
    await mkdir('.tmp', { recursive: true });
    await page.screenshot({ path: '.tmp/demo-1280.png', timeout: 30_000 }).catch(() => undefined);
    const size = page.viewportSize();
    await page.setViewportSize({ width: 390, height: 844 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(390);
    await page.screenshot({ path: '.tmp/demo-390.png', timeout: 30_000 }).catch(() => undefined);
    if (size) await page.setViewportSize(size);
  });

  it('takes a file of 4 MiB, which is there from then on', async () => {
    const written = await run('dd if=/dev/urandom of=/root/random bs=64k count=64; sha256sum /root/random; sync');
    sum = SUM.exec(written)?.[0] ?? '';
    expect(sum, written).not.toBe('');
  });

  it('downloads a whole qcow2 that QEMU finds nothing wrong with, and the file is in the ext4 inside', async () => {
    await run('sync');
    // A guest that always has something to say, and something to write.
    await run('(while true; do echo tick; usleep 20000; done) & ticker=$!');
    await run(
      '(while true; do dd if=/dev/zero of=/root/zeroes bs=64k count=2 conv=fsync; done) 2>/dev/null & writer=$!',
    );
    const image = await download('download.qcow2', downloadDisk);
    const printed = await page.evaluate(() => window.demo.output().length);
    await page.waitForFunction((length) => window.demo.output().length > length + 100, printed);
    await run('kill $ticker $writer; rm -f /root/zeroes');
    expect(checkImage(image)).toMatchObject({ errors: 0, leaks: 0, backingFile: null });
    const file = await fileFromGuestDisk({ image, path: '/root/random', folder });
    expect(await sha256(file)).toBe(sum);
    expect(await run('dmesg | grep -ci "ata.*\\(timeout\\|exception\\|failed\\)"')).toBe('0');
  });

  it('downloads the beginning of a series of backups, and then what is new: QEMU reads both as the disk', async () => {
    const series = join(folder, 'series');
    await mkdir(series);
    await guest.openDownload();
    await page.locator('#download-series').check();
    const whole = await download('series/disk.qcow2', () => page.click('#download-dialog button.main'));
    const written = await run('dd if=/dev/urandom of=/root/later bs=64k count=16; sha256sum /root/later; sync');
    await guest.openDownload();
    expect(await page.locator('#download-increment-text').innerText()).toMatch(/^[\d.]+ MiB; goes over “disk\.qcow2”$/);
    await page.locator('#download-increment').check();
    const increment = await download('series/disk 1.qcow2', () => page.click('#download-dialog button.main'));
    expect((await stat(increment)).size).toBeLessThan((await stat(whole)).size / 2);
    expect(checkImage(whole)).toMatchObject({ errors: 0, leaks: 0 });
    expect(checkImage(increment)).toMatchObject({ errors: 0, leaks: 0, backingFile: 'disk.qcow2' });
    const file = await fileFromGuestDisk({ image: increment, path: '/root/later', folder });
    expect(await sha256(file)).toBe(SUM.exec(written)?.[0]);
    await guest.openDownload();
    expect(await page.locator('#download-increment-text').innerText()).toContain('goes over “disk 1.qcow2”');
    await page.locator('#download-dialog button.cancel').click();
  });

  it('refuses an image that is none, and the guest runs on', async () => {
    expect(await openImage(new TextEncoder().encode('no image'))).toMatchObject({ code: 'NOT_QCOW2' });
    expect(await state()).toBe('ready');
    expect(await run('echo still-$((40 + 2))')).toContain('still-42');
  });

  it('refuses an image of a size that v86 cannot take, keeps the disk, and the guest runs on', async () => {
    expect(await openImage(emptyImage(0))).toEqual({
      code: 'BAD_ARGUMENT',
      message: 'the image holds a disk of 0 bytes; v86 takes 512 to 2199023255040',
    });
    expect(await openImage(emptyImage(3 * 2 ** 40))).toEqual({
      code: 'LIMIT',
      message: 'the image holds a disk of 3298534883328 bytes; v86 takes 512 to 2199023255040',
    });
    expect(await state()).toBe('ready');
    expect(await storedNames()).not.toContain('incoming.qcow2');
    expect(SUM.exec(await run('echo 3 > /proc/sys/vm/drop_caches; sha256sum /root/random'))?.[0]).toBe(sum);
  });

  it('tells a second tab that the disk is in use', async () => {
    const second = await browser.open(`${server.url}/`);
    await second.waitForFunction(() => document.documentElement.dataset['state'] === 'error');
    expect(await second.locator('#notice').innerText()).toContain('in use in another tab');
    await second.close();
    expect(await run('echo alive')).toContain('alive');
  });

  it('has what was synced when the browser is killed right after sync returned', async () => {
    const written = await run('dd if=/dev/urandom of=/root/late bs=64k count=64; sha256sum /root/late; sync');
    // This page has no timers (see the first test) and no chance to say goodbye: the guest's own flush alone can do it.
    await browser.kill();
    const late = SUM.exec(written)?.[0];
    expect(late, written).toBeDefined();
    await browser.relaunch();
    await open(`${server.url}/favicon.svg`);
    expect(await copyStoredFiles()).toContain('disk.qcow2');
    expect(checkOverlay(join(folder, 'disk.qcow2'))).toMatchObject({ errors: 0 });
    await plantFile('incoming.qcow2');
    await page.goto(`${server.url}/`);
    await booted();
    expect(await storedNames(), 'what a crash left behind').not.toContain('incoming.qcow2');
    const sums = await run('sha256sum /root/late /root/random');
    expect(sums).toContain(late);
    expect(sums).toContain(sum);
    const image = await download('after-kill.qcow2', () =>
      page.evaluate(async () => {
        const link = document.createElement('a');
        link.href = URL.createObjectURL(await window.demo.exportDisk());
        link.download = 'after-kill.qcow2';
        link.click();
      }),
    );
    expect(checkImage(image)).toMatchObject({ errors: 0, leaks: 0 });
  });

  it('boots from an image of the visitor, which is the disk from then on', async () => {
    await run('sync');
    await page.evaluate(async () => window.demo.openImage(await window.demo.exportDisk()));
    await booted();
    expect(SUM.exec(await run('sha256sum /root/random'))?.[0]).toBe(sum);
    expect((await page.evaluate(() => window.demo.stats())).backingFile).toBeNull();
  });

  it('gives a pristine disk on reset, also where an old base cannot be cleared away', async () => {
    await plantFile('base-old.qcow2');
    // As a tab that reads it would.
    await page.evaluate(() => {
      const forever = () => new Promise<void>(() => undefined);
      void navigator.locks.request('qcow2-wasm:qcow2-wasm-demo/base-old.qcow2', { mode: 'shared' }, forever);
    });
    await page.evaluate(() => window.demo.reset());
    await booted();
    expect(await run('ls /root')).not.toContain('random');
    expect((await page.evaluate(() => window.demo.stats())).backingFile).toMatch(/^linux\.qcow2#identity=/);
    expect(await storedNames()).toContain('base-old.qcow2');
  });
});
