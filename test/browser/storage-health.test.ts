/** What a site has stored, as `qcow2-wasm/opfs` tells it, in real Chromium. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CDPSession, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFixture } from './fixture-page.js';
import { launchBrowser, showConsoleOnFailure, type FolderServer, type TestBrowser } from './harness.js';
import { SiteServer } from './site-server.js';

const MIB = 1 << 20;
const SIZE = 4 * MIB;

let site: SiteServer;
let server: FolderServer;
let browser: TestBrowser;
let scratch: string;
let page: Page;
let session: CDPSession;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'qcow2-wasm-health-'));
  writeFileSync(join(scratch, 'base.raw.qcow2'), randomBytes(SIZE));
  const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
  site = new SiteServer({ '/images/': scratch, '/dist/': path('../../dist'), '/': path('fixture') });
  await site.start();
  server = { url: site.url, close: () => site.stop() };
  browser = await launchBrowser();
  page = await openFixture(browser, server);
  session = await page.context().newCDPSession(page);
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(scratch, { recursive: true, force: true });
});
showConsoleOnFailure(() => browser);

describe('storageHealth', () => {
  it('says nothing but the quota of a site that has stored nothing', async () => {
    const health = await page.evaluate(() => window.qcow2.storageHealth());
    expect(health).toMatchObject({ persisted: false, disks: [], bases: [] });
    expect(health.quota).toBeGreaterThan(MIB);
  });

  it('has the disks, the bases with what is here of them, and what else there is, which is all of the usage', async () => {
    const health = await page.evaluate(async () => {
      await window.qcow2.storeFile({ name: 'plain', directory: 'elsewhere' }, new Blob([new Uint8Array(1 << 20)]));
      window.disk = await window.qcow2.openDisk({
        name: 'disk.qcow2',
        create: { backing: { name: 'base', format: 'raw' } },
        backing: [{ url: '/images/base.raw.qcow2', name: 'base' }],
      });
      await window.disk.write(0, new Uint8Array(1 << 20).fill(1));
      await window.disk.makeAvailableOffline();
      return window.qcow2.storageHealth();
    });
    const { fileSize } = await page.evaluate(() => window.disk.stats());
    const [base] = health.bases;
    expect(health.disks).toEqual([{ name: 'disk.qcow2', bytes: fileSize }]);
    expect(health.bases).toHaveLength(1);
    expect(base).toMatchObject({ url: `${site.url}/images/base.raw.qcow2`, presentBytes: SIZE, inUse: true });
    expect(base!.bytes).toBeGreaterThan(SIZE);
    expect(health.other).toBeGreaterThanOrEqual(MIB);
    expect(fileSize + base!.bytes + health.other!).toBe(health.usage);
    const elsewhere = await page.evaluate(() => window.qcow2.storageHealth({ directory: 'elsewhere' }));
    expect(elsewhere.disks).toEqual([{ name: 'plain', bytes: MIB }]);
  });
});

describe('keepStorage', () => {
  it('says that the browser refuses, and that it keeps', async () => {
    expect(await page.evaluate(() => window.qcow2.keepStorage())).toBe('refused');
    await session.send('Browser.grantPermissions', { origin: site.url, permissions: ['durableStorage'] });
    expect(await page.evaluate(() => window.qcow2.keepStorage())).toBe('kept');
    expect((await page.evaluate(() => window.qcow2.storageHealth())).persisted).toBe(true);
  });
});
