/**
 * A site that has used up its room, in real Chromium with a small quota. They prove:
 * - a disk that is full says NO_SPACE, goes on to be read, and has what was flushed; with room again it is written again, and QEMU finds
 *   nothing wrong with it;
 * - an import and an export that find no room leave the disk as it was, and nothing else.
 * What a base image does without room is in shared-base.test.ts, what a guest does in demo-tabs.test.ts.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CDPSession, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { exportedBytes, openFixture, serveFixture } from './fixture-page.js';
import { launchBrowser, PATIENCE, showConsoleOnFailure, type FolderServer, type TestBrowser } from './harness.js';
import { temporaryNames } from './opfs-folder.js';

const MIB = 1 << 20;

let server: FolderServer;
let browser: TestBrowser;
let page: Page;
let session: CDPSession;
let scratch: string;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'qcow2-wasm-quota-'));
  server = await serveFixture({ '/scratch': scratch });
  browser = await launchBrowser();
});
beforeEach(async () => {
  page = await openFixture(browser, server);
  session = await page.context().newCDPSession(page);
});
afterEach(async () => {
  await giveRoom();
  await page.close();
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(scratch, { recursive: true, force: true });
});
showConsoleOnFailure(() => browser);

/** From now on there is room for so many bytes more. */
async function leaveRoom(bytes: number): Promise<void> {
  // What an earlier page has left goes with a look at the folder, once its worker has ended, and would be room.
  const left = async (): Promise<string[]> => {
    await page.evaluate(() => window.qcow2.listFiles());
    return temporaryNames(page);
  };
  await expect.poll(left, PATIENCE).toEqual([]);
  const { usage } = await page.evaluate(() => navigator.storage.estimate());
  await session.send('Storage.overrideQuotaForOrigin', { origin: server.url, quotaSize: (usage ?? 0) + bytes });
}

async function giveRoom(): Promise<void> {
  await session.send('Storage.overrideQuotaForOrigin', { origin: server.url });
}

async function openDisk(name: string): Promise<void> {
  await page.evaluate(async (wanted) => {
    window.disk = await window.qcow2.openDisk({ name: wanted, create: { size: 64 << 20 } });
  }, name);
}

/** Each of the first `count` MiB is filled with its own number, from 1 on. Where it is not, that MiB. */
function firstWrong(count: number): Promise<number | null> {
  return page.evaluate(async (length) => {
    for (let index = 0; index < length; index++) {
      const bytes = await window.disk.read(index << 20, 1 << 20);
      if (!bytes.every((byte) => byte === index + 1)) return index;
    }
    return null;
  }, count);
}

/** Writes such MiB, from `first` on, and flushes after each; how many there are when one fails, and with what. */
function fill(first: number, most: number): Promise<{ flushed: number; code: string | null }> {
  return page.evaluate(
    async ({ from, end }) => {
      for (let index = from; index < end; index++) {
        try {
          await window.disk.write(index << 20, new Uint8Array(1 << 20).fill(index + 1));
          await window.disk.flush();
        } catch (error) {
          return { flushed: index, code: (error as { code: string }).code };
        }
      }
      return { flushed: end, code: null };
    },
    { from: first, end: most },
  );
}

async function expectGoodExport(count: number): Promise<void> {
  const image = join(scratch, 'export.qcow2');
  writeFileSync(image, await exportedBytes(page));
  const check: unknown = JSON.parse(execFileSync('qemu-img', ['check', '--output=json', image]).toString());
  expect(check).toMatchObject({ 'check-errors': 0 });
  expect(check).not.toHaveProperty('corruptions');
  expect(check).not.toHaveProperty('leaks');
  const patterns = Array.from({ length: count }, (_, index) => ['-c', `read -P ${index + 1} ${index}M 1M`]);
  const read = execFileSync('qemu-io', ['-r', image, ...patterns.flat()]).toString();
  expect(read).not.toContain('verification failed');
}

describe('a disk of a site without room', () => {
  it('says NO_SPACE, and is read on; with room it has what was flushed, and is written again', async () => {
    await openDisk('full.qcow2');
    expect(await fill(0, 2)).toEqual({ flushed: 2, code: null });
    await leaveRoom(4 * MIB);
    const { flushed, code } = await fill(2, 32);
    expect(code).toBe('NO_SPACE');
    expect(flushed).toBeGreaterThan(2);
    expect(flushed).toBeLessThan(8);
    expect(await firstWrong(flushed)).toBeNull();
    expect((await fill(flushed, flushed + 1)).code).toBe('POISONED');
    await page.evaluate(() => window.disk.close().catch(() => undefined));

    await openDisk('full.qcow2');
    expect(await firstWrong(flushed), 'opened again while there is no room').toBeNull();
    await page.evaluate(() => window.disk.close());

    await giveRoom();
    await openDisk('full.qcow2');
    expect(await firstWrong(flushed)).toBeNull();
    expect(await fill(flushed, 12)).toEqual({ flushed: 12, code: null });
    await expectGoodExport(12);
    await page.evaluate(() => window.disk.close());
  });
});

describe('a job that finds no room', () => {
  it('leaves the disk as it was where it was an import, and no temporary file', async () => {
    const image = join(scratch, 'new.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, '16M']);
    execFileSync('qemu-io', ['-c', 'write -P 0x5a 0 8M', image]);
    const wanted = () =>
      page.evaluate(async () => {
        const blob = await (await fetch('/scratch/new.qcow2')).blob();
        await window.qcow2.importImage({ name: 'full.qcow2' }, blob);
      });
    await leaveRoom(4 * MIB);
    const failed = await wanted().catch(String);
    expect(failed).toContain('no more room');
    expect(await temporaryNames(page)).toEqual([]);
    await openDisk('full.qcow2');
    expect(await firstWrong(12)).toBeNull();
    await page.evaluate(() => window.disk.close());
    await giveRoom();
    await wanted();
    await openDisk('full.qcow2');
    expect(await page.evaluate(async () => (await window.disk.read(0, 1))[0])).toBe(0x5a);
    await page.evaluate(() => window.disk.close());
  });

  it('leaves the disk as it was where it was an export; it is written on', async () => {
    await openDisk('source.qcow2');
    await fill(0, 12);
    await leaveRoom(4 * MIB);
    const code = await page.evaluate(() =>
      window.disk.exportImage().then(
        () => 'none',
        (error: { code: string }) => error.code,
      ),
    );
    expect(code).toBe('NO_SPACE');
    expect(await temporaryNames(page)).toEqual([]);
    expect(await fill(12, 14)).toEqual({ flushed: 14, code: null });
    await giveRoom();
    await expectGoodExport(14);
    await page.evaluate(() => window.disk.close());
  });
});
