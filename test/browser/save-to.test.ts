/**
 * Exports that are streamed into a file, and files of a folder that are duplicated, in real Chromium. A file of OPFS stands for one that the
 * visitor has chosen: both are written through `createWritable`.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFixture, serveFixture } from './fixture-page.js';
import { launchBrowser, showConsoleOnFailure, type FolderServer, type TestBrowser } from './harness.js';

const MIB = 1 << 20;

let server: FolderServer;
let browser: TestBrowser;
let scratch: string;
let page: Page;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'qcow2-wasm-save-'));
  server = await serveFixture({ '/scratch': scratch });
  browser = await launchBrowser();
  page = await openFixture(browser, server);
  await page.evaluate(async () => {
    window.disk = await window.qcow2.openDisk({ name: 'disk.qcow2', create: { size: 16 << 20 } });
    await window.disk.write(1 << 20, new Uint8Array(6 << 20).fill(0x5a));
    await window.disk.flush();
  });
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(scratch, { recursive: true, force: true });
});
showConsoleOnFailure(() => browser);

/** The names in the folder of the disks. */
function filesOfDisks(): Promise<string[]> {
  return page.evaluate(async () => {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('qcow2-wasm');
    const names: string[] = [];
    for await (const name of folder.keys()) names.push(name);
    return names.sort();
  });
}

/** A file of the page's root folder. */
function bytesOfFile(name: string): Promise<Buffer> {
  return page
    .evaluate(async (fileName) => {
      const handle = await (await navigator.storage.getDirectory()).getFileHandle(fileName);
      const bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
      let text = '';
      for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
      return btoa(text);
    }, name)
    .then((text) => Buffer.from(text, 'base64'));
}

describe('saveTo', () => {
  it('streams an export into a file while the disk is written, with one progress, and leaves no temporary file', async () => {
    const seen = await page.evaluate(async () => {
      const handle = await (await navigator.storage.getDirectory()).getFileHandle('saved.qcow2', { create: true });
      const shares: number[] = [];
      let saved: Promise<void> | undefined;
      await new Promise<void>((begun) => {
        const onProgress = ({ done, total }: { done: number; total: number }): void => {
          shares.push(done / total);
          begun();
        };
        saved = window.disk.saveTo(handle, { compress: 'zstd', onProgress });
      });
      await window.disk.write(1 << 20, new Uint8Array(1 << 20).fill(1));
      const ended = shares.at(-1) === 1;
      await saved;
      return { shares, ended, now: (await window.disk.read(1 << 20, 1))[0] };
    });
    expect(seen.ended).toBe(false);
    expect(seen.now).toBe(1);
    expect(seen.shares.at(-1)).toBe(1);
    expect(seen.shares).toEqual(seen.shares.toSorted((a, b) => a - b));
    expect(await filesOfDisks()).toEqual(['disk.qcow2']);
    const image = join(scratch, 'saved.qcow2');
    writeFileSync(image, await bytesOfFile('saved.qcow2'));
    expect(readFileSync(image).length).toBeLessThan(MIB);
    execFileSync('qemu-img', ['check', '-q', image]);
    execFileSync('qemu-img', ['convert', '-O', 'raw', image, `${image}.raw`]);
    const expected = Buffer.alloc(16 * MIB).fill(0x5a, MIB, 7 * MIB);
    expect(Buffer.compare(readFileSync(`${image}.raw`), expected)).toBe(0);
  });

  it('leaves the file as it was when its signal ends it, in either part', async () => {
    const codes = await page.evaluate(async () => {
      const handle = await (await navigator.storage.getDirectory()).getFileHandle('kept.txt', { create: true });
      const old = await handle.createWritable();
      await old.write('what was there');
      await old.close();
      const endedAt = async (share: number): Promise<string> => {
        const abort = new AbortController();
        const onProgress = ({ done, total }: { done: number; total: number }): void => {
          if (done / total > share) abort.abort();
        };
        return window.disk.saveTo(handle, { signal: abort.signal, onProgress }).then(
          () => 'saved',
          (error: { code: string }) => error.code,
        );
      };
      return [await endedAt(0), await endedAt(0.55)];
    });
    expect(codes).toEqual(['ABORTED', 'ABORTED']);
    expect((await bytesOfFile('kept.txt')).toString()).toBe('what was there');
    expect(await filesOfDisks()).toEqual(['disk.qcow2']);
  });
});

describe('duplicateFile and importImage', () => {
  it('make a second disk of the first, and one of a raw image at a URL', async () => {
    const raw = Buffer.alloc(4 * MIB).fill(0x33, MIB, 2 * MIB);
    writeFileSync(join(scratch, 'disk.raw'), raw);
    const result = await page.evaluate(async () => {
      const { duplicateFile, importImage, openDisk } = window.qcow2;
      const busy = await duplicateFile({ name: 'disk.qcow2' }, 'copy.qcow2').then(
        () => 'duplicated',
        (error: { code: string }) => error.code,
      );
      await window.disk.close();
      await duplicateFile({ name: 'disk.qcow2' }, 'copy.qcow2');
      const copy = await openDisk({ name: 'copy.qcow2' });
      const first = (await copy.read(1 << 20, 1))[0];
      await copy.close();
      const missing = await importImage({ name: 'raw.qcow2' }, '/scratch/none.raw').then(
        () => 'imported',
        (error: { code: string }) => error.code,
      );
      const info = await importImage({ name: 'raw.qcow2' }, '/scratch/disk.raw');
      const disk = await openDisk({ name: 'raw.qcow2' });
      const bytes = await disk.read(0, 4 << 20);
      const { fileSize } = await disk.stats();
      await disk.close();
      return { busy, first, missing, size: info.size, fileSize, sum: bytes.reduce((sum, byte) => sum + byte, 0) };
    });
    expect(result).toMatchObject({ busy: 'IN_USE', first: 1, missing: 'NOT_FOUND', size: 4 * MIB, sum: MIB * 0x33 });
    expect(result.fileSize).toBeLessThan(2 * MIB);
    expect(await filesOfDisks()).toEqual(['copy.qcow2', 'disk.qcow2', 'raw.qcow2']);
  });
});
