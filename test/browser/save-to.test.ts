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
  it('writes an export into a file as it is made, while the disk is written, with no file beside the disk', async () => {
    const seen = await page.evaluate(async () => {
      const root = await navigator.storage.getDirectory();
      const handle = await root.getFileHandle('saved.qcow2', { create: true });
      const shares: number[] = [];
      const beside: string[] = [];
      // While the first piece is on its way, the disk is written.
      const whileSaving = async (): Promise<void> => {
        await window.disk.write(1 << 20, new Uint8Array(1 << 20).fill(1));
        for await (const name of (await root.getDirectoryHandle('qcow2-wasm')).keys()) beside.push(name);
      };
      const slow = {
        async createWritable() {
          const file = await handle.createWritable();
          let first: Promise<void> | undefined;
          return new WritableStream<FileSystemWriteChunkType>({
            write: async (chunk) => {
              await (first ??= whileSaving());
              await file.write(chunk);
            },
            close: () => file.close(),
          });
        },
      };
      const onProgress = ({ done, total }: { done: number; total: number }): void => void shares.push(done / total);
      await window.disk.saveTo(slow as unknown as FileSystemFileHandle, { compress: 'zstd', onProgress });
      return { shares, beside, now: (await window.disk.read(1 << 20, 1))[0] };
    });
    expect(seen.beside).toEqual(['disk.qcow2']);
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

  it('takes the snapshots along, and leaves no temporary file', async () => {
    await page.evaluate(async () => {
      const { id } = await window.disk.snapshots.create({ name: 'one' });
      await window.disk.write(9 << 20, new Uint8Array(1 << 20).fill(2));
      const handle = await (await navigator.storage.getDirectory()).getFileHandle('both.qcow2', { create: true });
      await window.disk.saveTo(handle);
      await window.disk.snapshots.delete(id);
    });
    expect(await filesOfDisks()).toEqual(['disk.qcow2']);
    const image = join(scratch, 'both.qcow2');
    writeFileSync(image, await bytesOfFile('both.qcow2'));
    execFileSync('qemu-img', ['check', '-q', image]);
    const now = Buffer.alloc(16 * MIB)
      .fill(1, MIB, 2 * MIB)
      .fill(0x5a, 2 * MIB, 7 * MIB);
    execFileSync('qemu-img', ['convert', '-l', 'one', '-O', 'raw', image, `${image}.one`]);
    expect(Buffer.compare(readFileSync(`${image}.one`), now)).toBe(0);
    execFileSync('qemu-img', ['convert', '-O', 'raw', image, `${image}.raw`]);
    expect(Buffer.compare(readFileSync(`${image}.raw`), now.fill(2, 9 * MIB, 10 * MIB))).toBe(0);
  });

  it('leaves the file as it was when its signal ends it, early or late', async () => {
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
