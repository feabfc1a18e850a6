/**
 * Two tabs of real Chromium that want one disk. They prove:
 * - a tab that knows how lets go of its disk, flushed, and can have it back; one that does not keeps it;
 * - the disk of a tab that was killed is free at once, with what was flushed;
 * - a flush that fails on the way is told to both;
 * - several may read a disk, and each may write an overlay of its own over one base.
 */
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openFixture, serveFixture } from './fixture-page.js';
import { launchBrowser, PATIENCE, showConsoleOnFailure, type FolderServer, type TestBrowser } from './harness.js';
import { killTab } from './kill-tab.js';

declare global {
  interface Window {
    /** What `closed` of the disk resolved with, in words; undefined while it is open. */
    ended: string | undefined;
  }
}

let server: FolderServer;
let browser: TestBrowser;
let one: Page;
let other: Page;

beforeAll(async () => {
  server = await serveFixture();
  browser = await launchBrowser();
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
});
beforeEach(async () => {
  [one, other] = [await openFixture(browser, server), await openFixture(browser, server)];
});
afterEach(async () => {
  await Promise.all([one, other].map((page) => page.close()));
});
showConsoleOnFailure(() => browser);

interface Opening {
  readonly name: string;
  readonly takeOver?: boolean | { readonly patience: number };
  readonly readOnly?: boolean;
  readonly throwAway?: boolean;
  readonly workerUrl?: string;
  readonly backing?: readonly string[];
}

/** Opens a disk as `window.disk`, of 16 MiB if it is new. The words of the error, or null. */
function open(page: Page, opening: Opening): Promise<string | null> {
  return page.evaluate(async (options) => {
    try {
      const [base] = options.backing ?? [];
      const create = base === undefined ? { size: 16 << 20 } : { backing: { name: base, format: 'qcow2' as const } };
      const disk = await window.qcow2.openDisk({ ...options, create });
      window.disk = disk;
      window.ended = undefined;
      void disk.closed.then((error) => (window.ended = error === null ? 'closed' : `${error.code}: ${error.message}`));
      return null;
    } catch (error) {
      const { code, message } = error as InstanceType<typeof window.qcow2.Qcow2Error>;
      return `${code}: ${message}`;
    }
  }, opening);
}

/** Lets go of its disk when it is asked, after a last write. */
function letsGo(page: Page, lastByte: number): Promise<void> {
  return page.evaluate((byte) => {
    window.disk.onTakeOver = () => window.disk.write(1 << 20, new Uint8Array(512).fill(byte));
  }, lastByte);
}

const write = (page: Page, byte: number): Promise<void> =>
  page.evaluate((value) => window.disk.write(0, new Uint8Array(512).fill(value)), byte);

const byteAt = (page: Page, offset: number): Promise<number | undefined> =>
  page.evaluate(async (from) => (await window.disk.read(from, 1))[0], offset);

const endOf = (page: Page): Promise<string | undefined> => page.evaluate(() => window.ended);

describe('a tab that knows how to let go of its disk', () => {
  it('gives it to another one with all that was written, and takes it back', async () => {
    await open(one, { name: 'given.qcow2' });
    await letsGo(one, 7);
    expect(await open(other, { name: 'given.qcow2', takeOver: true })).toBeNull();
    expect(await byteAt(other, 1 << 20)).toBe(7);
    await expect
      .poll(() => endOf(one), PATIENCE)
      .toBe('IN_USE: /qcow2-wasm/given.qcow2 went to another page, which asked for it');
    await letsGo(other, 8);
    expect(await open(one, { name: 'given.qcow2', takeOver: true })).toBeNull();
    expect(await byteAt(one, 1 << 20)).toBe(8);
    await expect.poll(() => endOf(other), PATIENCE).toContain('went to another page');
  });

  it('gives it to itself', async () => {
    await open(one, { name: 'same.qcow2' });
    await letsGo(one, 3);
    expect(await open(one, { name: 'same.qcow2', takeOver: true })).toBeNull();
    expect(await byteAt(one, 1 << 20)).toBe(3);
  });

  it('keeps it where it says so, and what it says is told', async () => {
    await open(one, { name: 'kept.qcow2' });
    await one.evaluate(() => {
      window.disk.onTakeOver = () => {
        throw new Error('a backup is under way');
      };
    });
    const refused = await open(other, { name: 'kept.qcow2', takeOver: { patience: 60_000 } });
    expect(refused).toBe('IN_USE: /qcow2-wasm/kept.qcow2 is in use, and its page keeps it: a backup is under way');
    await write(one, 1);
    expect(await endOf(one)).toBeUndefined();
  });
});

describe('a tab that does not know how to let go of its disk', () => {
  it('keeps it', async () => {
    await open(one, { name: 'unasked.qcow2' });
    const refused = await open(other, { name: 'unasked.qcow2', takeOver: { patience: 60_000 } });
    expect(refused).toContain('does not let go of its disks');
    await write(one, 1);
  });

  it('keeps it also when it answers nothing, and how long was waited is told', async () => {
    await one.evaluate(
      () =>
        new Promise<void>((held) => {
          const forever = (): Promise<void> => (held(), new Promise(() => undefined));
          void navigator.locks.request('qcow2-wasm:qcow2-wasm/silent.qcow2', forever);
        }),
    );
    const refused = await open(other, { name: 'silent.qcow2', takeOver: { patience: 300 } });
    expect(refused).toContain('did not answer within 300 ms');
  });
});

describe('a tab that is killed', () => {
  it('leaves its disk free, with what it had flushed', async () => {
    await open(one, { name: 'orphan.qcow2' });
    await write(one, 5);
    await one.evaluate(() => window.disk.flush());
    await killTab(one);
    const patience = 60_000;
    const startedAt = performance.now();
    expect(await open(other, { name: 'orphan.qcow2', takeOver: { patience } })).toBeNull();
    expect(performance.now() - startedAt).toBeLessThan(patience / 4);
    expect(await byteAt(other, 0)).toBe(5);
  });

  it('leaves its disk to one that has asked for it before', async () => {
    await open(one, { name: 'hung.qcow2' });
    await write(one, 6);
    await one.evaluate(async () => {
      await window.disk.flush();
      window.disk.onTakeOver = () => new Promise(() => undefined);
    });
    const opening = open(other, { name: 'hung.qcow2', takeOver: { patience: 60_000 } });
    const waiting = () =>
      one.evaluate(async () => {
        const { pending } = await navigator.locks.query();
        return pending!.filter(({ name }) => name === 'qcow2-wasm:qcow2-wasm/hung.qcow2').length;
      });
    await expect.poll(waiting, PATIENCE).toBe(1);
    await killTab(one);
    expect(await opening).toBeNull();
    expect(await byteAt(other, 0)).toBe(6);
  });
});

describe('a flush that fails while a disk is let go of', () => {
  it('is told to both, and what was flushed before is there', async () => {
    await open(one, { name: 'lost.qcow2', workerUrl: `${server.url}/failing-worker.js` });
    await write(one, 1);
    await one.evaluate(() => window.disk.flush());
    await letsGo(one, 2);
    await one.evaluate(() => new BroadcastChannel('failing-worker').postMessage('fail'));
    const told = await open(other, { name: 'lost.qcow2', takeOver: true });
    expect(told).toMatch(/^IO: \/qcow2-wasm\/lost\.qcow2 is free, but what was written to it last .* medium is broken/);
    await expect
      .poll(() => endOf(one), PATIENCE)
      .toMatch(/^IO: .* what was written to it last could not be made stable/);
    expect(await open(other, { name: 'lost.qcow2' })).toBeNull();
    expect(await byteAt(other, 0)).toBe(1);
  });
});

describe('several tabs', () => {
  it('read one disk together; one that takes it over to write asks all of them', async () => {
    await open(one, { name: 'read.qcow2' });
    await write(one, 9);
    await one.evaluate(() => window.disk.close());
    const reading = { name: 'read.qcow2', readOnly: true } as const;
    expect(await open(one, reading)).toBeNull();
    expect(await open(other, reading)).toBeNull();
    expect(await Promise.all([byteAt(one, 0), byteAt(other, 0)])).toEqual([9, 9]);
    await one.evaluate(() => (window.disk.onTakeOver = () => undefined));
    const third = await openFixture(browser, server);
    expect(await open(third, { name: 'read.qcow2', takeOver: true })).toContain('does not let go');
    await other.evaluate(() => window.disk.close());
    expect(await open(third, { name: 'read.qcow2', takeOver: true })).toBeNull();
    await third.close();
  });

  it('have overlays of their own over one base, kept or thrown away, and write both at the same time', async () => {
    await open(one, { name: 'base.qcow2' });
    await write(one, 1);
    await one.evaluate(() => window.disk.close());
    const backing = ['base.qcow2'];
    expect(await open(one, { name: 'mine.qcow2', backing })).toBeNull();
    expect(await open(other, { name: 'mine.qcow2', backing, throwAway: true })).toBeNull();
    expect(await Promise.all([byteAt(one, 0), byteAt(other, 0)])).toEqual([1, 1]);
    await Promise.all([write(one, 2), write(other, 3)]);
    expect(await Promise.all([byteAt(one, 0), byteAt(other, 0)])).toEqual([2, 3]);
  });
});
