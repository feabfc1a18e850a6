/**
 * The demo over a base image that its server keeps, in real Chromium with the real guest. They prove:
 * - the first boot fetches little more than it reads, the second one nothing, and the server may be gone then;
 * - a server without ranges serves as well, in parts;
 * - a server that fails, stalls, cuts short or changes its file costs time or a message, and never a disk.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { checkOverlay } from './guest-image.js';
import { GuestPage } from './guest-page.js';
import { launchBrowser, showConsoleOnFailure, type TestBrowser } from './harness.js';
import { SiteServer } from './site-server.js';

/** A boot reads nearly all of the demo's image, so there is more behind its end, which nothing refers to. */
const UNREAD_BYTES = 8 * 2 ** 20;
const PAGE = '?base=images/linux.qcow2';

let site: SiteServer;
let browser: TestBrowser;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qcow2-wasm-network-'));
  const image = join(folder, 'linux.qcow2');
  await writeFile(image, Buffer.concat([await readFile('demo/guest/linux.qcow2'), randomBytes(UNREAD_BYTES)]));
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
});

showConsoleOnFailure(() => browser);

/** Bytes of the base that the guest has read, in units of 64 KiB. */
async function bytesRead(page: Page): Promise<number> {
  const { touched } = await page.evaluate(() => window.demo.bootProfile());
  return touched.reduce((sum, [, length]) => sum + length, 0);
}

/** The same when nothing is on its way any more: what is fetched ahead of a read comes after it. */
async function bytesReadInPeace(page: Page): Promise<number> {
  let before = -1;
  await expect
    .poll(
      async () => {
        const [base] = await page.evaluate(() => window.demo.bases());
        const isStill = base!.fetchedBytes === before;
        before = base!.fetchedBytes;
        return isStill;
      },
      { interval: 500, timeout: 30_000 },
    )
    .toBe(true);
  return bytesRead(page);
}

/** Nothing of earlier tests is in OPFS. */
async function forgetAll(): Promise<void> {
  const page = await browser.open(`${site.url}/favicon.svg`);
  await page.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    for (const name of ['qcow2-wasm-demo', 'qcow2-wasm-bases']) {
      await root.removeEntry(name, { recursive: true }).catch(() => undefined);
    }
  });
  await page.close();
}

/** The file of the stored disk, which must not be open, as `qemu-img check` sees it. */
async function checkStoredDisk(): Promise<{ errors: number; leaks: number }> {
  const page = await browser.open(`${site.url}/favicon.svg`);
  const text = await page.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    const file = await (await (await root.getDirectoryHandle('qcow2-wasm-demo')).getFileHandle('disk.qcow2')).getFile();
    const bytes = new Uint8Array(await file.arrayBuffer());
    let binary = '';
    for (let at = 0; at < bytes.length; at += 0x8000) binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
    return btoa(binary);
  });
  await page.close();
  const path = join(folder, 'stored.qcow2');
  await writeFile(path, Buffer.from(text, 'base64'));
  return checkOverlay(path);
}

describe('a site whose server knows ranges', () => {
  it('boots on little more than what the boot reads', async () => {
    const guest = await GuestPage.open(browser, `${site.url}/${PAGE}`);
    await guest.booted();
    const read = await bytesReadInPeace(guest.page);
    const { guest: activity } = await guest.page.evaluate(() => window.demo.stats());
    expect(site.baseBytes).toBeLessThan(1.3 * read);
    expect(site.baseBytes).toBeLessThan(1.3 * activity.readBytes);
    await guest.run('echo kept > /root/kept; sync');
    await guest.page.close();
  });

  it('boots again without a byte or a question, has its files, and is made available offline', async () => {
    const guest = await GuestPage.open(browser, `${site.url}/${PAGE}`);
    await guest.booted();
    expect(site.baseRequests).toBe(0);
    expect(await guest.run('cat /root/kept')).toBe('kept');
    await guest.page.click('#offline');
    await guest.page.waitForFunction(() => document.getElementById('base-here')!.textContent.startsWith('all'));
    const [base] = await guest.page.evaluate(() => window.demo.bases());
    expect(base!.keptBytes).toBe(base!.size);
    expect(site.baseBytes).toBeGreaterThan(UNREAD_BYTES / 2);
    await guest.page.close();
    expect((await checkStoredDisk()).errors).toBe(0);
  });
});

describe('a site whose server is gone', () => {
  it('opens, boots, and has its files, once it was made available offline', async () => {
    const page = await browser.open(`${site.url}/${PAGE}`);
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
    await page.close();
    await site.stop();
    try {
      const guest = await GuestPage.open(browser, `${site.url}/${PAGE}`);
      await guest.booted();
      expect(await guest.run('cat /root/kept')).toBe('kept');
      await guest.page.reload();
      await guest.booted();
      expect(await guest.run('cat /root/kept')).toBe('kept');
      await guest.page.close();
    } finally {
      await site.start();
    }
  });
});

describe('a site whose server is unwell', () => {
  it('boots all the same where every fifth request fails, stalls, or is cut short', async () => {
    await forgetAll();
    const kinds = ['refuse', 'truncate', 'stall'] as const;
    let faults = 0;
    site.fault = (nth) => (nth % 5 === 0 ? kinds[faults++ % kinds.length]! : null);
    const guest = await GuestPage.open(browser, `${site.url}/${PAGE}`);
    await guest.booted();
    expect(faults).toBeGreaterThanOrEqual(2);
    await guest.run('echo unwell > /root/kept; sync');
    await guest.page.close();
    expect((await checkStoredDisk()).errors).toBe(0);
  });

  it('stops with a message where the image changes in the middle of a boot, and the disk is good', async () => {
    await forgetAll();
    site.fault = (nth) => {
      if (nth === 6) site.etag = '"second"';
      return null;
    };
    const guest = await GuestPage.open(browser, `${site.url}/${PAGE}`);
    await guest.page.waitForFunction(
      () => document.getElementById('notice')!.innerText.includes('BASE_CHANGED'),
      null,
      {
        timeout: 120_000,
      },
    );
    const notice = await guest.page.locator('#notice').innerText();
    expect(notice).toContain('"first"');
    expect(notice).toContain('"second"');
    await guest.page.close();
    site.etag = '"first"';
    expect((await checkStoredDisk()).errors).toBe(0);
  });

  it('says that it knows no ranges, and boots from a split image', async () => {
    await forgetAll();
    site.knowsRanges = false;
    const refused = await browser.open(`${site.url}/${PAGE}`);
    await refused.waitForFunction(() => document.documentElement.dataset['state'] === 'error');
    expect(await refused.locator('#notice').innerText()).toContain('a split image works on such a host');
    await refused.close();
    site.resetCounts();
    const guest = await GuestPage.open(browser, `${site.url}/?base=images/linux.split.json`);
    await guest.booted();
    const read = await bytesReadInPeace(guest.page);
    expect(site.baseBytes).toBeLessThan(1.3 * read);
    await guest.page.close();
    expect((await checkStoredDisk()).errors).toBe(0);
  });
});
