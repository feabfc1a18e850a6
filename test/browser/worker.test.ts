/** The worker as a browser runs it: its death, its buffers, and the ways to start it. */
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openFixture, serveFixture } from './fixture-page.js';
import { launchBrowser, showConsoleOnFailure, type FolderServer, type TestBrowser } from './harness.js';

let server: FolderServer;
let browser: TestBrowser;
let page: Page;

beforeAll(async () => {
  server = await serveFixture();
  browser = await launchBrowser();
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
});
beforeEach(async () => {
  page = await openFixture(browser, server);
});
afterEach(() => page.close());
showConsoleOnFailure(() => browser);

describe('the worker', () => {
  it('takes what is written by transfer, and answers with arrays that own their buffer', async () => {
    const result = await page.evaluate(async () => {
      const disk = await window.qcow2.openDisk({ name: 'transfer.qcow2', create: { size: 4 << 20 } });
      const source = new Uint8Array(65_536).fill(3);
      const written = disk.write(0, source);
      const detached = source.byteLength === 0 && source.buffer.byteLength === 0;
      await written;
      const bytes = await disk.read(0, 65_536);
      await disk.close();
      return { detached, length: bytes.buffer.byteLength, first: bytes[0] };
    });
    expect(result).toEqual({ detached: true, length: 65_536, first: 3 });
  });

  it('that is terminated behind our back makes all that is pending and all that follows reject with WORKER_DIED', async () => {
    const codes = await page.evaluate(async () => {
      const disk = await window.qcow2.openDisk({ name: 'dies.qcow2', create: { size: 64 << 20 } });
      await disk.write(0, new Uint8Array(32 << 20).fill(1));
      const codeOf = (promise: Promise<unknown>): Promise<string> =>
        promise.then(
          () => 'done',
          (error: { code: string }) => error.code,
        );
      const pending = Array.from({ length: 20 }, () => codeOf(disk.exportImage()));
      window.workers.at(-1)?.terminate();
      const closed = await disk.closed;
      return [closed?.code, ...(await Promise.all(pending)), await codeOf(disk.read(0, 1)), await codeOf(disk.close())];
    });
    expect(new Set(codes)).toEqual(new Set(['WORKER_DIED']));
  });

  it('that died leaves the disk to be opened again', async () => {
    const first = await page.evaluate(async () => {
      const disk = await window.qcow2.openDisk({ name: 'again.qcow2', create: { size: 4 << 20 } });
      await disk.write(0, new Uint8Array(512).fill(5));
      await disk.flush();
      window.workers.at(-1)?.terminate();
      const again = await window.qcow2.openDisk({ name: 'again.qcow2' });
      const bytes = await again.read(0, 512);
      await again.close();
      return bytes[0];
    });
    expect(first).toBe(5);
  });

  it('starts from a file of its own when its URL is given', async () => {
    const size = await page.evaluate(async () => {
      const disk = await window.qcow2.openDisk({
        name: 'own-file.qcow2',
        create: { size: 4 << 20 },
        workerUrl: '/dist/worker.js',
      });
      await disk.close();
      return disk.info.size;
    });
    expect(size).toBe(4 << 20);
  });

  it('starts from a file of its own under a Content-Security-Policy that forbids all else', async () => {
    const strict = await browser.open(`${server.url}/strict.html`);
    await strict.waitForFunction(() => document.documentElement.dataset['loaded'] === 'yes');
    const [inlined, own] = await strict.evaluate(async () => {
      const { openDisk, isQcow2Error } = window.qcow2;
      const options = { name: 'strict.qcow2', create: { size: 4 << 20 } };
      const messageOf = (error: unknown): string =>
        isQcow2Error(error, 'WORKER_DIED') ? error.message : String(error);
      const refused = await openDisk(options).then(() => 'opened', messageOf);
      const disk = await openDisk({ ...options, workerUrl: '/dist/worker.js' });
      await disk.write(0, new Uint8Array(512));
      await disk.close();
      return [refused, disk.info.size] as const;
    });
    expect(inlined).toContain('give "workerUrl"');
    expect(own).toBe(4 << 20);
    await strict.close();
  });

  it('that can not be loaded makes openDisk reject with WORKER_DIED', async () => {
    const code = await page.evaluate(() =>
      window.qcow2.openDisk({ name: 'none.qcow2', create: { size: 512 }, workerUrl: '/no/such/worker.js' }).then(
        () => 'opened',
        (error: { code: string }) => error.code,
      ),
    );
    expect(code).toBe('WORKER_DIED');
  });

  it('ends when its disk is closed, and when it could not be opened', async () => {
    const locks = await page.evaluate(async () => {
      await window.qcow2.openDisk({ name: 'missing.qcow2' }).catch(() => undefined);
      await (await window.qcow2.openDisk({ name: 'ends.qcow2', create: { size: 512 } })).close();
      for (let attempt = 0; attempt < 100; attempt++) {
        const { held } = await navigator.locks.query();
        if (held?.length === 0) return [];
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      return (await navigator.locks.query()).held?.map(({ name }) => name);
    });
    expect(locks).toEqual([]);
  });
});

describe('a disk in the thread of its user', () => {
  it('is read and written synchronously, and has the same claim on its file', async () => {
    const result = await page.evaluate(async () => {
      const script = `
        import { openLocalDisk } from '${location.origin}/dist/opfs.js';
        const { image, info, close } = await openLocalDisk({ name: 'local.qcow2', create: { size: 4 << 20 } });
        image.write(1000, new Uint8Array(100).fill(8));
        const bytes = new Uint8Array(3);
        image.read(999, bytes);
        image.flush();
        addEventListener('message', () => { close(); postMessage('closed'); });
        postMessage({ bytes: [...bytes], path: info.path });`;
      const worker = new Worker(URL.createObjectURL(new Blob([script], { type: 'text/javascript' })), {
        type: 'module',
      });
      const answer = (): Promise<unknown> =>
        new Promise((resolve, reject) => {
          worker.addEventListener('message', (event) => resolve(event.data), { once: true });
          worker.addEventListener('error', (event) => reject(new Error(event.message)), { once: true });
        });
      const opened = await answer();
      const second = await window.qcow2
        .openDisk({ name: 'local.qcow2' })
        .catch((error: { code: string }) => error.code);
      worker.postMessage('close', []);
      const closed = await answer();
      const disk = await window.qcow2.openDisk({ name: 'local.qcow2' });
      const [byte] = await disk.read(1099, 1);
      await disk.close();
      return { opened, second, closed, byte };
    });
    expect(result).toEqual({
      opened: { bytes: [0, 8, 8], path: '/qcow2-wasm/local.qcow2' },
      second: 'IN_USE',
      closed: 'closed',
      byte: 8,
    });
  });
});
