/**
 * The fixture page as a test has it: `dist/opfs.js` in a tab of real Chromium. What runs in the page is given as a function
 * of the package, `import('../../src/opfs.js')`, so that it is type-checked.
 */
import { fileURLToPath } from 'node:url';
import type { Page } from 'playwright-core';
import { serveFolder, type FolderServer, type TestBrowser } from './harness.js';

export type Package = typeof import('../../src/opfs.js');

declare global {
  interface Window {
    /** The package, and what a test keeps between two calls. */
    qcow2: Package;
    disk: InstanceType<Package['OpfsDisk']>;
    /** Every worker that the page started. */
    workers: Worker[];
  }
}

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

/** @param mounts more folders, by the path they are seen under. */
export function serveFixture(mounts: Record<string, string> = {}): Promise<FolderServer> {
  return serveFolder(path('fixture'), { '/dist': path('../../dist'), ...mounts });
}

/** A new tab with the package loaded. */
export async function openFixture(browser: TestBrowser, server: FolderServer): Promise<Page> {
  const page = await browser.open(`${server.url}/`);
  await loaded(page);
  return page;
}

export async function reload(page: Page): Promise<void> {
  await page.reload();
  await loaded(page);
}

/** The bytes of an exported disk, brought out of the page. */
export async function exportedBytes(page: Page): Promise<Buffer> {
  const text = await page.evaluate(async () => {
    const blob = await window.disk.exportImage();
    const bytes = new Uint8Array(await blob.arrayBuffer());
    let binary = '';
    for (let at = 0; at < bytes.length; at += 0x8000) binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
    return btoa(binary);
  });
  return Buffer.from(text, 'base64');
}

async function loaded(page: Page): Promise<void> {
  await page.waitForFunction(() => document.documentElement.dataset['loaded'] === 'yes', null);
}
