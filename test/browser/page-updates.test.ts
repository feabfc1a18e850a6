/**
 * The demo's page and its service worker in real Chromium, without a guest. They prove:
 * - a page has all of its files from one build, whatever the server has by now, and however slow or half-done an update is;
 * - an update is taken at the next visit, or when the visitor says so, and not under the feet of another tab;
 * - where the browser does not keep the page, the page works, and says so when it is asked to.
 */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { PAGE_FILES } from '../../demo/build.mjs';
import { buildServiceWorker } from '../../demo/page-build.mjs';
import { createImage } from '../../src/image/create.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { launchBrowser, PATIENCE, showConsoleOnFailure, type TestBrowser } from './harness.js';
import { SiteServer } from './site-server.js';

/** There is none, so that no machine is built: the page says so, and that is all that these tests need of it. */
const NO_GUEST = '?base=images/none.qcow2';
/** An empty disk: the machine runs, and finds nothing to boot. */
const EMPTY_DISK = '?base=images/empty.qcow2';

let browser: TestBrowser;
let folder: string;
let site: SiteServer;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qcow2-wasm-page-'));
  const empty = new MemoryStorage();
  createImage(empty, { size: 2 ** 20 });
  const bytes = new Uint8Array(empty.size);
  empty.read(0, bytes);
  await writeFile(join(folder, 'empty.qcow2'), bytes);
  await publish('one');
  site = await newSite();
  browser = await launchBrowser();
});

afterAll(async () => {
  await browser?.close();
  await site?.stop();
  await rm(folder, { recursive: true, force: true });
});

afterEach(() => {
  site.pageFault = () => null;
});

showConsoleOnFailure(() => browser);

/** Each has an origin of its own, and so storage of its own. */
async function newSite(): Promise<SiteServer> {
  const started = new SiteServer({ '/images/': folder, '/guest/': 'demo/guest', '/': join(folder, 'page') });
  await started.start();
  return started;
}

/** Puts a build on the server in which every file ends with its version. `except` are still those of the build before. */
async function publish(version: string, { except = [] }: { readonly except?: readonly string[] } = {}): Promise<void> {
  const [page, next] = [join(folder, 'page'), join(folder, 'next')];
  await cp('demo/dist', next, { recursive: true });
  for (const name of PAGE_FILES) {
    const content = await readFile(join(next, name));
    await writeFile(join(next, name), Buffer.concat([content, endOf(name, version)]));
  }
  await buildServiceWorker(next, PAGE_FILES);
  for (const name of except) await cp(join(page, name), join(next, name));
  await cp(next, page, { recursive: true });
}

/** What a file of this version ends with, and is as good as before. */
function endOf(name: string, version: string): Buffer {
  const mark = Buffer.from(`/* version ${version} */`);
  // A custom section: its kind, its length, its name.
  if (name.endsWith('.wasm')) return Buffer.concat([Buffer.from([0, mark.length + 1, mark.length]), mark]);
  if (name.endsWith('.html') || name.endsWith('.svg')) return Buffer.from(`<!-- ${mark.toString()} -->`);
  // The page itself shows which script ran.
  const script = name === 'main.js' ? `\ndocument.documentElement.dataset.version = '${version}';` : '';
  return Buffer.concat([Buffer.from(`${script}\n`), mark]);
}

function open(on: SiteServer, query = NO_GUEST): Promise<Page> {
  return browser.open(`${on.url}/${query}`);
}

async function whenState(page: Page, state: string): Promise<void> {
  await page.waitForFunction((wanted) => document.documentElement.dataset['state'] === wanted, state, PATIENCE);
}

/** The build of the script that ran, and those of all files as the page gets them. */
async function versionsOf(page: Page): Promise<string[]> {
  await whenState(page, 'error');
  const found = await page.evaluate(async (names) => {
    const ends = names.map(async (name) => /version (\w+) \*\/(?: -->)?$/.exec(await (await fetch(name)).text())?.[1]);
    return Promise.all([document.documentElement.dataset['version'], ...ends]);
  }, PAGE_FILES);
  return [...new Set(found.map((version) => version ?? 'none'))];
}

const caches = (page: Page): Promise<string[]> => page.evaluate(() => window.caches.keys());

async function whenKept(page: Page): Promise<void> {
  await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
}

/** Resolves when the service worker knows of no other tab of the site: one that was just closed may be counted yet. */
async function whenOnlyTab(page: Page): Promise<void> {
  const origin = new URL(page.url()).origin;
  const tabs = async (): Promise<number | undefined> => {
    const worker = page
      .context()
      .serviceWorkers()
      .find((running) => running.url().startsWith(origin));
    return worker?.evaluate(async () => {
      const { clients } = globalThis as unknown as { clients: { matchAll(query: object): Promise<unknown[]> } };
      return (await clients.matchAll({ type: 'window', includeUncontrolled: true })).length;
    });
  };
  await expect.poll(tabs, PATIENCE).toBe(1);
}

/** From its next visit on the page notes when its own attempt to be kept has failed. */
async function noteFailedAttempt(page: Page): Promise<void> {
  await page.addInitScript(() => {
    const { register } = ServiceWorkerContainer.prototype;
    ServiceWorkerContainer.prototype.register = async function (...given) {
      const registration = await register.apply(this, given);
      const worker = registration.installing;
      const look = (): void => {
        // One that is gone already has failed before it could be looked at: there is room for none.
        const hasFailed = worker === null ? registration.active === null : worker.state === 'redundant';
        if (hasFailed) document.documentElement.dataset['attempt'] = 'failed';
      };
      worker?.addEventListener('statechange', look);
      look();
      return registration;
    };
  });
}

const newVersionOffer = (page: Page) => page.locator('#new-version');

describe('a page that is kept', () => {
  it('opens without its server, under all its addresses', async () => {
    const first = await open(site);
    await whenKept(first);
    await first.close();
    await site.stop();
    const page = await open(site);
    expect(await versionsOf(page)).toEqual(['one']);
    await page.goto(`${site.url}/index.html${NO_GUEST}#serial`);
    expect(await versionsOf(page)).toEqual(['one']);
    await page.close();
    await site.start();
  });

  it('stays of one build when the server has the next one, says so, and takes it when asked', async () => {
    await publish('two');
    const [page, other] = [await open(site), await open(site)];
    expect(await versionsOf(page)).toEqual(['one']);
    await newVersionOffer(page).waitFor({ state: 'visible', ...PATIENCE });
    expect(await versionsOf(page)).toEqual(['one']);
    await page.click('#new-version-load');
    await expect.poll(() => newVersionOffer(page).innerText(), PATIENCE).toContain('Close the other tabs');
    expect(await versionsOf(page)).toEqual(['one']);
    await other.close();
    await whenOnlyTab(page);
    await page.click('#new-version-load');
    await page.waitForFunction(() => document.documentElement.dataset['version'] === 'two', null, PATIENCE);
    expect(await versionsOf(page)).toEqual(['two']);
    expect(await caches(page)).toHaveLength(1);
    expect(await newVersionOffer(page).isVisible()).toBe(false);
    await page.close();
  });

  it('is whole while a slow line brings the next build, and gets that at a later visit', async () => {
    await publish('three');
    const stalled: string[] = [];
    site.pageFault = (path) => {
      if (path !== '/main.js') return null;
      stalled.push(path);
      return 'stall';
    };
    const page = await open(site);
    await expect.poll(() => stalled.length, PATIENCE).toBeGreaterThan(0);
    expect(await versionsOf(page)).toEqual(['two']);
    site.pageFault = () => null;
    site.dropConnections();
    await expect.poll(async () => (await caches(page)).length, PATIENCE).toBe(1);
    await page.reload();
    expect(await versionsOf(page)).toEqual(['two']);
    await newVersionOffer(page).waitFor({ state: 'visible', ...PATIENCE });
    await page.close();
    await expect
      .poll(async () => {
        const visit = await open(site);
        const versions = await versionsOf(visit);
        await visit.close();
        return versions;
      }, PATIENCE)
      .toEqual(['three']);
  });

  it('takes nothing of a build of which the server has only a part', async () => {
    await publish('four', { except: ['v86.wasm'] });
    const page = await open(site);
    const ended = page.evaluate(async () => {
      const registration = await navigator.serviceWorker.register('service-worker.js');
      const worker = registration.installing;
      await registration.update().catch(() => undefined);
      const next = worker ?? registration.installing;
      if (next === null) return 'no attempt';
      if (next.state === 'installing') await new Promise((resolve) => next.addEventListener('statechange', resolve));
      return next.state;
    });
    expect(await ended).toBe('redundant');
    await page.reload();
    expect(await versionsOf(page)).toEqual(['three']);
    // The visit has begun an attempt of its own, which has a cache until it fails.
    await expect.poll(() => caches(page), PATIENCE).toHaveLength(1);
    await page.close();
  });
});

describe('a page that can not be kept', () => {
  // The build before is there in parts.
  beforeAll(() => publish('whole'));

  /** Presses the button of an empty disk's page; what the page says then. */
  async function pressOffline(page: Page): Promise<string> {
    await whenState(page, 'booting');
    await page.locator('#offline').click(PATIENCE);
    await page.locator('#notice').waitFor({ state: 'visible', ...PATIENCE });
    return page.locator('#notice').innerText();
  }

  it('works without room for it, and says so when it is to be made available offline', async () => {
    const small = await newSite();
    const page = await open(small, 'favicon.svg');
    const session = await page.context().newCDPSession(page);
    await session.send('Storage.overrideQuotaForOrigin', { origin: small.url, quotaSize: 3 * 2 ** 20 });
    await page.goto(`${small.url}/${EMPTY_DISK}`);
    expect(await pressOffline(page)).toContain('The page itself could not be kept');
    expect(await caches(page)).toEqual([]);
    await noteFailedAttempt(page);
    await page.reload();
    await whenState(page, 'booting');
    await page.waitForFunction(() => document.documentElement.dataset['attempt'] === 'failed');
    const isGone = () => page.evaluate(async () => (await navigator.serviceWorker.getRegistration()) === undefined);
    await expect.poll(isGone, PATIENCE).toBe(true);
    await session.send('Storage.overrideQuotaForOrigin', { origin: small.url });
    // The room is there a moment after it was given: a visitor tries again, too.
    const offline = page.locator('#offline');
    await expect
      .poll(
        async () => {
          if (await offline.isHidden()) return true;
          // Pressed while it is under way, it would pause.
          if ((await offline.innerText()) === 'Make available offline') await offline.click();
          return false;
        },
        { ...PATIENCE, interval: 500 },
      )
      .toBe(true);
    await page.close();
    await small.stop();
  });

  it('works where a policy forbids service workers, and says so instead of waiting', async () => {
    const strict = await newSite();
    strict.headers = { 'content-security-policy': 'worker-src blob:' };
    const page = await open(strict, EMPTY_DISK);
    const notice = await pressOffline(page);
    expect(notice).toContain('The page itself could not be kept');
    expect(notice).toContain('this browser does not keep the page (service worker)');
    expect(await page.locator('#offline').innerText()).toBe('Make available offline');
    await page.close();
    await strict.stop();
  });

  it('works in a browser without service workers, and says so', async () => {
    const page = await open(site, 'favicon.svg');
    await page.addInitScript(() => {
      Reflect.deleteProperty(Navigator.prototype, 'serviceWorker');
    });
    await page.goto(`${site.url}/${EMPTY_DISK}`);
    expect(await pressOffline(page)).toContain('it has no service workers');
    await page.close();
  });
});
