/**
 * What is asked of a disk in the demo page, and has to wait, while another disk takes its place. In real Chromium, on small disks without a
 * guest. Proven here:
 * - what waits behind an export, or for an image on its way in, is done to the disk that it was asked for, or to none;
 * - a disk that goes to another tab takes no machine of another disk with it;
 * - a disk that is missed is made, and takes the place of none; which of several disks the browser has cleared is told.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GuestPage } from './guest-page.js';
import { launchBrowser, serveFolder, showConsoleOnFailure, type FolderServer, type TestBrowser } from './harness.js';
import { FOLDER, plantImage, requireSame, smallImage, storedNames } from './small-disks.js';
import { forgetFile, storedFiles } from './stored-files.js';

const IMAGES = { A: smallImage('one disk', 1 << 20), B: smallImage('another', 1 << 20) } as const;

let server: FolderServer;
let browser: TestBrowser;
let folder: string;
let page: Page;
let guest: GuestPage;

/** What a page has for these tests beside the demo. */
interface Held {
  release?: () => void;
  outcome?: Promise<Outcome>;
}

type Outcome = 'done' | { readonly code: string };

declare global {
  interface Window {
    held?: Held;
  }
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qcow2-wasm-waiting-'));
  for (const [name, image] of Object.entries(IMAGES)) await writeFile(join(folder, `${name}.qcow2`), image);
  server = await serveFolder('demo/dist', { '/guest': 'demo/guest', '/images': folder });
  browser = await launchBrowser();
  page = await browser.open(`${server.url}/favicon.svg`);
  await plantImage(page, 'A.qcow2', 'disk-A.qcow2');
  await plantImage(page, 'B.qcow2', 'disk-B.qcow2');
  guest = new GuestPage(page);
  await visit('A');
});

afterAll(async () => {
  await browser?.close();
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});

showConsoleOnFailure(() => browser);

async function visit(disk: string): Promise<void> {
  await page.goto(`${server.url}/?disk=${disk}`);
  await guest.whenState('booting');
}

/** No page of the demo has a disk open. */
async function leave(): Promise<void> {
  await page.goto(`${server.url}/favicon.svg`);
}

function notice(): Promise<string> {
  return page.locator('#notice').innerText();
}

async function whenNoticeSays(words: string, where = page): Promise<void> {
  await where.waitForFunction((wanted) => {
    const panel = document.getElementById('notice')!;
    return !panel.hidden && panel.innerText.includes(wanted);
  }, words);
}

async function openHere(): Promise<string | undefined> {
  const disks = await page.evaluate(() => window.demo.disks());
  return disks.find(({ open }) => open === 'here')?.name;
}

/** The file of an export stays until the folder is opened next. */
function isNamed(file: string): boolean {
  return !file.startsWith('.tmp-');
}

/** The page has noted these disks, and no others. */
async function whenNoted(...files: string[]): Promise<void> {
  await page.waitForFunction((wanted) => {
    const ledger = JSON.parse(localStorage.getItem('qcow2-wasm-demo storage seen') ?? '{"disks":[]}') as {
      disks: { name: string }[];
    };
    return JSON.stringify(ledger.disks.map(({ name }) => name).sort()) === JSON.stringify(wanted);
  }, files);
}

/** Both disks are what they were, to QEMU, and there is nothing else. */
async function requireUntouched(): Promise<void> {
  await leave();
  const files = await storedFiles(browser, server.url);
  expect([...files.keys()].filter(isNamed).sort()).toEqual(['disk-A.qcow2', 'disk-B.qcow2']);
  for (const [name, image] of Object.entries(IMAGES)) await requireSame(files.get(`disk-${name}.qcow2`), image);
}

describe('what waits while another disk is started', () => {
  it('is refused, each part of it, and both disks are what they were', async () => {
    const outcomes = await page.evaluate(async () => {
      const { demo } = window;
      const outcome = (asked: Promise<unknown>): Promise<Outcome> =>
        asked.then(
          () => 'done' as const,
          (error: { code: string }) => ({ code: error.code }),
        );
      // All of it before the first has begun: the page shows "A".
      return Promise.all(
        [
          demo.exportDisk(),
          demo.startDisk('B'),
          demo.renameDisk('A', 'A2'),
          demo.duplicateDisk('A', 'A copy'),
          demo.exportDisk(),
          demo.saveSnapshot('moment'),
          demo.deleteSnapshot('moment'),
          demo.loadSnapshot('moment'),
          demo.changePassphrase('old', 'new'),
          demo.reset(),
          demo.protect('several long words'),
        ].map(outcome),
      );
    });
    expect(outcomes).toEqual(['done', 'done', ...Array.from({ length: 9 }, () => ({ code: 'IN_USE' }))]);
    expect(await openHere()).toBe('B');
    expect(await guest.state()).toBe('booting');
    expect(await notice()).toContain('another disk has been started meanwhile');
    await requireUntouched();
  });

  it('is done to the disk under its new name, where it was only renamed', async () => {
    await visit('A');
    await page.evaluate(async () => {
      const { demo } = window;
      await Promise.all([demo.renameDisk('A', 'A2'), demo.duplicateDisk('A', 'A copy'), demo.renameDisk('A', 'A')]);
    });
    expect(await openHere()).toBe('A');
    await leave();
    const files = await storedFiles(browser, server.url);
    await requireSame(files.get('disk-A copy.qcow2'), IMAGES.A);
    await visit('A');
    // By the page itself, which misses what somebody else has deleted.
    await page.evaluate(() => window.demo.deleteDisk('A copy'));
    await requireUntouched();
  });

  it('waits for an image on its way in with a word, and is refused when that is a disk and runs', async () => {
    await visit('A');
    await page.evaluate(async () => {
      const held: Held = (window.held = {});
      const { locks } = navigator;
      await new Promise<void>((resolve) => {
        void locks.request('qcow2-wasm-demo incoming', () => {
          resolve();
          return new Promise<void>((release) => (held.release = release));
        });
      });
      held.outcome = window.demo.reset().then(
        () => 'done' as const,
        (error: { code: string }) => ({ code: error.code }),
      );
    });
    await whenNoticeSays('waits for another image to come in');
    await page.evaluate(() => window.demo.startDisk('B'));
    await page.evaluate(() => window.held!.release!());
    expect(await page.evaluate(() => window.held!.outcome)).toEqual({ code: 'IN_USE' });
    expect(await notice()).toContain('The disk that there is has not been touched');
    expect(await openHere()).toBe('B');
    await requireUntouched();
  });
});

describe('a disk that another tab asks for', () => {
  it('goes there when this one has started another, whose machine runs on', async () => {
    await visit('A');
    // The start of "B" stands still in its turn, with "A" open.
    await page.evaluate((lock) => {
      const held: Held = (window.held = {});
      const query = navigator.locks.query.bind(navigator.locks);
      const released = new Promise<void>((resolve) => (held.release = resolve));
      navigator.locks.query = () => released.then(query);
      held.outcome = window.demo.startDisk('B').then(
        () => 'done' as const,
        (error: { code: string }) => ({ code: error.code }),
      );
      const channel = new BroadcastChannel(lock);
      channel.addEventListener('message', ({ data }: MessageEvent<{ state?: string }>) => {
        if (data.state === 'heard') document.documentElement.dataset['asked'] = 'yes';
      });
    }, `qcow2-wasm:${FOLDER}/disk-A.qcow2`);
    const second = await browser.open(`${server.url}/?disk=A`);
    await whenNoticeSays('in use in another tab', second);
    await second.getByRole('button', { name: 'Take it over' }).click();
    await page.waitForFunction(() => document.documentElement.dataset['asked'] === 'yes');
    await page.evaluate(() => window.held!.release!());
    expect(await page.evaluate(() => window.held!.outcome)).toBe('done');
    await new GuestPage(second).whenState('booting');
    // What the question waited for has had its turn.
    await page.evaluate(() => window.demo.exportDisk());
    expect(await openHere()).toBe('B');
    expect(await guest.state(), 'its machine is none of the question’s business').toBe('booting');
    await second.close();
    await requireUntouched();
  });
});

describe('a disk that is not there', () => {
  it('is not made in the place of one that another tab has made meanwhile', async () => {
    await page.goto(`${server.url}/?disk=work`);
    await whenNoticeSays('There is no disk “work”');
    await plantImage(page, 'A.qcow2', 'disk-work.qcow2');
    await page.click('#notice button:has-text("Make “work”")');
    await whenNoticeSays('There is a disk “work” by now');
    const refused = page.evaluate(() => window.demo.reset().catch((error: { code: string }) => error.code));
    expect(await refused, 'nor is it reset, unseen').toBe('BAD_ARGUMENT');
    await page.click('#notice button:has-text("Try again")');
    await guest.whenState('booting');
    expect(await openHere()).toBe('work');
    await leave();
    await requireSame((await storedFiles(browser, server.url)).get('disk-work.qcow2'), IMAGES.A);
  });

  it('is said to be cleared where the browser has cleared it, also beside others, and with them', async () => {
    await visit('A');
    await whenNoted('disk-A.qcow2', 'disk-B.qcow2', 'disk-work.qcow2');
    await leave();
    await forgetFile(browser, server.url, 'disk-work.qcow2');
    await page.goto(`${server.url}/?disk=work`);
    await whenNoticeSays('The browser has cleared the disk “work”');
    await visit('A');
    await whenNoted('disk-A.qcow2', 'disk-B.qcow2');
    await leave();
    await forgetFile(browser, server.url, 'disk-B.qcow2');
    await visit('A');
    await whenNoticeSays('The browser has cleared your disk');
    expect(await notice()).toMatch(/B, [\d.]+ MiB, last here/);
    await page.reload();
    await guest.started();
    expect(await page.locator('#notice').isVisible(), 'it is said once').toBe(false);
    expect((await storedNames(page)).filter(isNamed)).toEqual(['disk-A.qcow2']);
  });

  it('is said to be cleared only when what went wrong meanwhile has been read', async () => {
    await plantImage(page, 'B.qcow2', 'disk-B.qcow2');
    await visit('A');
    await whenNoted('disk-A.qcow2', 'disk-B.qcow2');
    await leave();
    await forgetFile(browser, server.url, 'disk-B.qcow2');
    // The machine stands still in its making until it is told to go on.
    await page.addInitScript(() => {
      const send = XMLHttpRequest.prototype.send;
      const released = new Promise<void>((resolve) => (window.held = { release: resolve }));
      XMLHttpRequest.prototype.send = function (body) {
        void released.then(() => send.call(this, body));
      };
    });
    await page.goto(`${server.url}/?disk=A`);
    await page.setInputFiles('#file', { name: 'letter.qcow2', mimeType: '', buffer: Buffer.alloc(4096, 'no image') });
    await whenNoticeSays('That image cannot be used');
    expect(await guest.state(), 'the start is under way').toBe('loading');
    await page.evaluate(() => window.held!.release!());
    await guest.started();
    expect(await notice()).toContain('That image cannot be used');
    await page.click('#notice button:has-text("Dismiss")');
    await whenNoticeSays('The browser has cleared your disk');
  });
});
