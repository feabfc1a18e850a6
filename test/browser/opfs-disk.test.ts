/**
 * Disks in OPFS, in real Chromium. They prove:
 * - what was written is there after a reload, and what was flushed after the browser was killed;
 * - an export is an image that QEMU finds nothing wrong with, with the same content;
 * - one tab at a time writes a disk; a bad import leaves the old disk; names of backing files are allowed one by one.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportedBytes, openFixture, reload, serveFixture } from './fixture-page.js';
import { launchBrowser, showConsoleOnFailure, type FolderServer, type TestBrowser } from './harness.js';

const MIB = 1 << 20;

let server: FolderServer;
let browser: TestBrowser;
let scratch: string;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'qcow2-wasm-opfs-'));
  server = await serveFixture({ '/scratch': scratch });
  browser = await launchBrowser();
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(scratch, { recursive: true, force: true });
});
showConsoleOnFailure(() => browser);

/** Opens the disk `name` in the page as `window.disk`, 16 MiB when it is new. */
function openDisk(page: Page, name: string): Promise<object> {
  return page.evaluate(async (diskName) => {
    window.disk = await window.qcow2.openDisk({ name: diskName, create: { size: 16 << 20 } });
    return window.disk.info;
  }, name);
}

/** The code of the error that `openDisk` rejects with, and how long it took; null if it opened. */
function openError(page: Page, name: string): Promise<{ code: string; message: string } | null> {
  return page.evaluate(async (diskName) => {
    try {
      window.disk = await window.qcow2.openDisk({ name: diskName });
      return null;
    } catch (error) {
      const { code, message } = error as InstanceType<typeof window.qcow2.Qcow2Error>;
      return { code, message };
    }
  }, name);
}

/** The guest bytes of an image, by QEMU. */
function contentByQemu(image: string): Buffer {
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', image, `${image}.raw`]);
  return readFileSync(`${image}.raw`);
}

describe('a disk in OPFS', () => {
  it('has what was written to it after the page was reloaded without a close', async () => {
    const page = await openFixture(browser, server);
    const info = await openDisk(page, 'reload.qcow2');
    expect(info).toMatchObject({ size: 16 * MIB, path: '/qcow2-wasm/reload.qcow2', version: 3, clusterSize: 65_536 });
    await page.evaluate(async () => {
      await window.disk.write(1_000_000, new Uint8Array(300_000).fill(0x42));
      await window.disk.flush();
    });
    await reload(page);
    await openDisk(page, 'reload.qcow2');
    const [before, first, last, after] = await page.evaluate(async () => {
      const bytes = await window.disk.read(999_999, 300_002);
      return [bytes[0], bytes[1], bytes[300_000], bytes[300_001]];
    });
    expect([before, first, last, after]).toEqual([0, 0x42, 0x42, 0]);
    await page.evaluate(() => window.disk.close());
    await page.close();
  });

  it('is backed up in increments, with a reload between, and QEMU reads the chain of them as the disk', async () => {
    const page = await openFixture(browser, server);
    await openDisk(page, 'increments.qcow2');
    const expected = Buffer.alloc(16 * MIB);
    await page.evaluate(async () => {
      await window.disk.write(0, new Uint8Array(2 << 20).fill(1));
      await window.disk.bitmaps.add({ name: 'backup' });
    });
    expected.fill(1, 0, 2 * MIB);
    let last = join(scratch, 'increment-0.qcow2');
    writeFileSync(last, await exportedBytes(page));
    for (const turn of [1, 2]) {
      const backing = { name: last, format: 'qcow2' } as const;
      await page.evaluate(
        async (offset) => {
          await window.disk.write(offset, new Uint8Array(100_000).fill(7));
          await window.disk.bitmaps.store();
        },
        turn * MIB - 1000,
      );
      expected.fill(7, turn * MIB - 1000, turn * MIB - 1000 + 100_000);
      await reload(page);
      await openDisk(page, 'increments.qcow2');
      const bytes = await page.evaluate(async (over) => {
        const { blob, token } = await window.disk.bitmaps.exportIncrement('backup', { backing: over });
        await window.disk.bitmaps.confirmIncrement('backup', token);
        return [...new Uint8Array(await blob.arrayBuffer())];
      }, backing);
      last = join(scratch, `increment-${turn}.qcow2`);
      writeFileSync(last, Uint8Array.from(bytes));
    }
    expect(contentByQemu(last).equals(expected)).toBe(true);
    const [usage] = await page.evaluate(() => window.disk.bitmaps.list());
    expect(usage).toMatchObject({ name: 'backup', state: 'consistent', dirtyBytes: 0 });
    await page.evaluate(() => window.disk.close());
    await page.close();
  });

  it('exports an image that qemu-img check finds nothing wrong with, of the same content', async () => {
    const page = await openFixture(browser, server);
    const base = Buffer.alloc(8 * MIB, 0x11);
    base.fill(0, MIB, 3 * MIB);
    writeFileSync(join(scratch, 'base.raw'), base);
    await page.evaluate(async () => {
      const response = await fetch('/scratch/base.raw');
      if (response.body === null) throw new Error('no body');
      const total = Number(response.headers.get('content-length'));
      await window.qcow2.storeFile({ name: 'base.raw' }, response.body, { total });
      window.disk = await window.qcow2.openDisk({
        name: 'overlay.qcow2',
        backing: ['base.raw'],
        create: { backing: { name: 'base.raw', format: 'raw' } },
      });
      await window.disk.write(12_345, new Uint8Array(100_000).fill(0x22));
      await window.disk.writeZeroes(5 << 20, 70_000);
    });
    const image = join(scratch, 'export.qcow2');
    writeFileSync(image, await exportedBytes(page));
    const check: unknown = JSON.parse(execFileSync('qemu-img', ['check', '--output=json', image]).toString());
    expect(check).toMatchObject({ 'check-errors': 0 });
    expect(check).not.toHaveProperty('leaks');
    expect(check).not.toHaveProperty('corruptions');
    const info: unknown = JSON.parse(execFileSync('qemu-img', ['info', '--output=json', image]).toString());
    expect(info).not.toHaveProperty('backing-filename');
    base.fill(0x22, 12_345, 112_345).fill(0, 5 * MIB, 5 * MIB + 70_000);
    expect(contentByQemu(image).equals(base)).toBe(true);
    await page.evaluate(() => window.disk.close());
    await page.close();
  });

  it('can be read from its exported blob after it was closed', async () => {
    const page = await openFixture(browser, server);
    await openDisk(page, 'outlives.qcow2');
    const magic = await page.evaluate(async () => {
      const blob = await window.disk.exportImage();
      await window.disk.close();
      // The next session cleans up what dead sessions left.
      await window.qcow2.listFiles();
      return [...new Uint8Array(await blob.slice(0, 4).arrayBuffer())];
    });
    expect(magic).toEqual([0x51, 0x46, 0x49, 0xfb]);
    await page.close();
  });

  it('has what was flushed after the browser was killed', async () => {
    const page = await openFixture(browser, server);
    await openDisk(page, 'killed.qcow2');
    await page.evaluate(async () => {
      await window.disk.write(0, new Uint8Array(4 << 20).fill(0x77));
      await window.disk.flush();
    });
    await browser.kill();
    await browser.relaunch();
    const after = await openFixture(browser, server);
    await openDisk(after, 'killed.qcow2');
    const image = join(scratch, 'killed.qcow2');
    writeFileSync(image, await exportedBytes(after));
    const expected = Buffer.alloc(16 * MIB);
    expected.fill(0x77, 0, 4 * MIB);
    expect(contentByQemu(image).equals(expected)).toBe(true);
    await after.close();
  });
});

describe('a second tab', () => {
  it('gets IN_USE while the first has the disk, and the disk when the first tab is gone', async () => {
    const first = await openFixture(browser, server);
    const second = await openFixture(browser, server);
    await openDisk(first, 'shared.qcow2');
    const refused = await openError(second, 'shared.qcow2');
    expect(refused?.code).toBe('IN_USE');
    expect(refused?.message).toContain('/qcow2-wasm/shared.qcow2');
    const deleted = second.evaluate(() => window.qcow2.deleteFile({ name: 'shared.qcow2' }));
    await expect(deleted).rejects.toThrow('in use');
    await first.close();
    expect(await openError(second, 'shared.qcow2')).toBeNull();
    await second.close();
  });
});

describe('importImage', () => {
  it('gives NOT_QCOW2 for what is none, and leaves the old disk as it was', async () => {
    const page = await openFixture(browser, server);
    await openDisk(page, 'import.qcow2');
    const result = await page.evaluate(async () => {
      await window.disk.write(0, new Uint8Array(512).fill(9));
      await window.disk.close();
      const code = await window.qcow2.importImage({ name: 'import.qcow2' }, new Blob(['no image'])).then(
        () => 'imported',
        (error: { code: string }) => error.code,
      );
      window.disk = await window.qcow2.openDisk({ name: 'import.qcow2' });
      return { code, first: (await window.disk.read(0, 1))[0], size: window.disk.info.size };
    });
    expect(result).toEqual({ code: 'NOT_QCOW2', first: 9, size: 16 * MIB });
    await page.evaluate(() => window.disk.close());
    await page.close();
  });

  it('puts an image that QEMU made in place of the old disk, and leaves no temporary file', async () => {
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', join(scratch, 'new.qcow2'), '24M']);
    execFileSync('qemu-io', ['-c', 'write -P 0x5a 1M 2M', join(scratch, 'new.qcow2')]);
    const page = await openFixture(browser, server);
    const result = await page.evaluate(async () => {
      const blob = await (await fetch('/scratch/new.qcow2')).blob();
      let last = 0;
      const onProgress = ({ done }: { done: number }): void => {
        last = done;
      };
      const info = await window.qcow2.importImage({ name: 'import.qcow2' }, blob, { onProgress });
      window.disk = await window.qcow2.openDisk({ name: 'import.qcow2' });
      const bytes = await window.disk.read(1 << 20, 2 << 20);
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('qcow2-wasm');
      const names: string[] = [];
      for await (const name of folder.keys()) names.push(name);
      const temporary = names.filter((name) => name.startsWith('.tmp-'));
      return { size: info.size, all: last === blob.size, same: bytes.every((byte) => byte === 0x5a), temporary };
    });
    expect(result).toEqual({ size: 24 * MIB, all: true, same: true, temporary: [] });
    await page.evaluate(() => window.disk.close());
    await page.close();
  });

  it('refuses an image whose backing file was not allowed with BACKING', async () => {
    execFileSync('qemu-img', [
      'create',
      '-q',
      '-u',
      '-f',
      'qcow2',
      '-F',
      'raw',
      '-b',
      'x.raw',
      join(scratch, 'b.qcow2'),
      '1M',
    ]);
    const page = await openFixture(browser, server);
    const code = await page.evaluate(async () => {
      const blob = await (await fetch('/scratch/b.qcow2')).blob();
      return window.qcow2.importImage({ name: 'import.qcow2' }, blob).then(
        () => 'imported',
        (error: { code: string }) => error.code,
      );
    });
    expect(code).toBe('BACKING');
    await page.close();
  });
});

describe('storeFile', () => {
  it('leaves the old file, and nothing else, when the browser is killed half way', async () => {
    const page = await openFixture(browser, server);
    await page.evaluate(async () => {
      const target = { directory: 'store', name: 'base' };
      await window.qcow2.storeFile(target, new Blob(['the old one']));
      let pulls = 0;
      const endless = new ReadableStream<Uint8Array>({
        pull: (controller) =>
          pulls++ < 8 ? controller.enqueue(new Uint8Array(1 << 20)) : new Promise(() => undefined),
      });
      await new Promise<void>((resolve) => {
        void window.qcow2.storeFile(target, endless, {
          onProgress: ({ done }) => (done === 8 << 20 ? resolve() : null),
        });
      });
    });
    await browser.kill();
    await browser.relaunch();
    const after = await openFixture(browser, server);
    const left = await after.evaluate(async () => {
      await window.qcow2.listFiles({ directory: 'store' });
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('store');
      const names: string[] = [];
      for await (const name of folder.keys()) names.push(name);
      return [...names, await (await (await folder.getFileHandle('base')).getFile()).text()];
    });
    expect(left).toEqual(['base', 'the old one']);
    await after.close();
  });
});

describe('files of a folder', () => {
  it('are listed, renamed and deleted; what a killed session left is cleaned up', async () => {
    const page = await openFixture(browser, server);
    const lists = await page.evaluate(async () => {
      const directory = 'some/where';
      const names = async (): Promise<string[]> =>
        (await window.qcow2.listFiles({ directory })).map(({ name, size }) => `${name} ${size}`);
      await window.qcow2.storeFile({ directory, name: 'a' }, new Blob(['12345']));
      await window.qcow2.storeFile({ directory, name: 'b' }, new Blob(['123']));
      const root = await navigator.storage.getDirectory();
      const folder = await (await root.getDirectoryHandle('some')).getDirectoryHandle('where');
      await folder.getFileHandle('.tmp-of-a-dead-session', { create: true });
      const stored = await names();
      await window.qcow2.renameFile({ directory, name: 'a' }, 'b');
      const renamed = await names();
      await window.qcow2.deleteFile({ directory, name: 'b' });
      const left: string[] = [];
      for await (const name of folder.keys()) left.push(name);
      return { stored, renamed, left };
    });
    expect(lists).toEqual({ stored: ['a 5', 'b 3'], renamed: ['b 5'], left: [] });
    await page.close();
  });
});
