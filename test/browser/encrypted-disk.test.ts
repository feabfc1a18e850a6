/**
 * Encrypted disks in OPFS, in real Chromium: WebCrypto derives the keys, the WASM kernels encrypt. They prove:
 * - a disk is there after a reload, for who has its passphrase, also when it was changed; and QEMU reads what is exported;
 * - a wrong passphrase, and none, are errors that a page can tell apart; none of them has a secret in it;
 * - what lies in OPFS is encrypted.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decryptedByQemu, qemuCheckWith } from '../interop/qemu-secrets.js';
import { expectSameBytes } from '../support/model-disk.js';
import { exportedBytes, openFixture, reload, serveFixture } from './fixture-page.js';
import { launchBrowser, showConsoleOnFailure, type FolderServer, type TestBrowser } from './harness.js';

const MIB = 1 << 20;
const NAME = 'secret.qcow2';
const FIRST = 'Öffne dich, Sesam';
const SECOND = 'and close again, sesame';

let server: FolderServer;
let browser: TestBrowser;
let scratch: string;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'qcow2-wasm-encrypted-'));
  server = await serveFixture();
  browser = await launchBrowser();
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(scratch, { recursive: true, force: true });
});
showConsoleOnFailure(() => browser);

type Format = 'luks' | 'aes';

/** Creates `window.disk`, 8 MiB, and writes 1 MiB and a bit of it. Returns what `info` says. */
function createDisk(page: Page, format: Format, passphrase: string): Promise<unknown> {
  return page.evaluate(
    async ({ name, kind, secret }) => {
      const encryption = kind === 'luks' ? ({ format: kind, iterTime: 1 } as const) : ({ format: kind } as const);
      const disk = await window.qcow2.openDisk({ name, passphrase: secret, create: { size: 8 << 20, encryption } });
      window.disk = disk;
      await disk.write(777, new Uint8Array((1 << 20) + 99).fill(0xab));
      await disk.flush();
      return disk.info;
    },
    { name: `${format}-${NAME}`, kind: format, secret: passphrase },
  );
}

/** Opens `window.disk`; the code and words of the error, or the first bytes that were written. */
function openAgain(page: Page, format: Format, passphrase?: string): Promise<string> {
  return page.evaluate(
    async ({ name, secret }) => {
      try {
        window.disk = await window.qcow2.openDisk({ name, ...(secret === undefined ? {} : { passphrase: secret }) });
        return [...(await window.disk.read(775, 4))].join();
      } catch (error) {
        const { code, message } = error as InstanceType<typeof window.qcow2.Qcow2Error>;
        return `${code}: ${message}`;
      }
    },
    { name: `${format}-${NAME}`, secret: passphrase },
  );
}

const WRITTEN = '0,0,171,171';
const content = Buffer.alloc(8 * MIB).fill(0xab, 777, 777 + MIB + 99);

/** Whether 64 bytes as they were written lie in the file of OPFS. */
function isPlainInOpfs(page: Page, format: Format): Promise<boolean> {
  return page.evaluate(async (name) => {
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle(window.qcow2.DEFAULT_DIRECTORY);
    const file = await (await folder.getFileHandle(name)).getFile();
    const bytes = new Uint8Array(await file.arrayBuffer());
    let run = 0;
    return bytes.some((byte) => (run = byte === 0xab ? run + 1 : 0) === 64);
  }, `${format}-${NAME}`);
}

async function expectExported(page: Page, format: Format, passphrase: string): Promise<void> {
  const path = join(scratch, `${format}.qcow2`);
  writeFileSync(path, await exportedBytes(page));
  expect(qemuCheckWith(passphrase, path)).toMatchObject({ leaks: 0, corruptions: 0, checkErrors: 0 });
  expectSameBytes(decryptedByQemu('qcow2', path, passphrase), content, 'what QEMU reads of the export');
}

describe('an encrypted disk in OPFS', () => {
  it('with LUKS opens after a reload with its passphrase, which can be changed, and QEMU reads its export', async () => {
    const page = await openFixture(browser, server);
    expect(await createDisk(page, 'luks', FIRST)).toMatchObject({ encryption: 'luks', size: 8 * MIB });
    await page.evaluate(() => window.disk.close());
    expect(await isPlainInOpfs(page, 'luks')).toBe(false);
    await reload(page);
    expect(await openAgain(page, 'luks')).toBe('KEY_NEEDED: the image is encrypted (LUKS), and no key was given');
    const wrong = 'WRONG_PASSPHRASE: the passphrase does not open key slot 0, the only one tried';
    expect(await openAgain(page, 'luks', SECOND)).toBe(wrong);
    expect(await openAgain(page, 'luks', FIRST)).toBe(WRITTEN);
    const change = { passphrase: FIRST, newPassphrase: SECOND, iterTime: 1 };
    expect(await page.evaluate((request) => window.disk.changePassphrase(request), change)).toBe(1);
    await expectExported(page, 'luks', SECOND);
    // Ended at once: the change was stable when it resolved.
    await page.evaluate(() => window.disk.terminate());
    await reload(page);
    expect(await openAgain(page, 'luks', FIRST)).toMatch(/^WRONG_PASSPHRASE: /);
    expect(await openAgain(page, 'luks', SECOND)).toBe(WRITTEN);
    await page.evaluate(() => window.disk.close());
    await page.close();
    expect(browser.consoleText()).not.toMatch(/sesam/i);
  });

  it('with legacy AES opens after a reload, and QEMU reads its export', async () => {
    const page = await openFixture(browser, server);
    expect(await createDisk(page, 'aes', FIRST)).toMatchObject({ encryption: 'aes' });
    await page.evaluate(() => window.disk.close());
    expect(await isPlainInOpfs(page, 'aes')).toBe(false);
    await reload(page);
    expect(await openAgain(page, 'aes', FIRST)).toBe(WRITTEN);
    await expectExported(page, 'aes', FIRST);
    await page.evaluate(() => window.disk.close());
    await page.close();
  });
});
