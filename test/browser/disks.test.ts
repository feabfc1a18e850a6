/**
 * Several disks in the demo page, in real Chromium. Proven here:
 * - the address chooses a disk, two tabs run two, and a disk that is not there is named;
 * - disks are made, duplicated, renamed and deleted, by scripts and by keyboard, and never one that somebody has open;
 * - an image that is taken in becomes a disk of its own; what is given up leaves nothing behind;
 * - downloads are right to QEMU: whole or what has changed, compressed or not, into a file or as a download, while the guest runs on.
 *
 * Most of it on small disks whose boot sector only waits. The last part boots the guest once.
 */
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { qemuImg } from '../interop/qemu.js';
import { checkImage, fileFromGuestDisk } from './guest-image.js';
import { GuestPage } from './guest-page.js';
import {
  launchBrowser,
  PATIENCE,
  serveFolder,
  showConsoleOnFailure,
  type FolderServer,
  type TestBrowser,
} from './harness.js';
import { FOLDER, plantImage, smallImage, storedNames } from './small-disks.js';

const SIZE = 1 << 20;
const PASSPHRASE = 'several long words';

let server: FolderServer;
let browser: TestBrowser;
let folder: string;
let page: Page;
let guest: GuestPage;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qcow2-wasm-disks-'));
  await writeFile(join(folder, 'small.qcow2'), smallImage('small', SIZE));
  await writeFile(join(folder, 'large.qcow2'), smallImage('large', 48 * SIZE));
  server = await serveFolder('demo/dist', { '/guest': 'demo/guest', '/images': folder });
  browser = await launchBrowser();
  page = await browser.open(`${server.url}/favicon.svg`);
  await plantImage(page, 'small.qcow2', 'disk-small.qcow2');
  guest = new GuestPage(page);
  await page.goto(`${server.url}/?disk=small`);
  await guest.whenState('booting');
});

afterAll(async () => {
  await browser?.close();
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});

showConsoleOnFailure(() => browser);

/** Stores a file of OPFS under `folder` as `name`. */
async function fetchStored(file: string, name: string): Promise<string> {
  const [saved] = await Promise.all([
    page.waitForEvent('download'),
    page.evaluate(
      async ({ from, stored }) => {
        const root = await navigator.storage.getDirectory();
        const handle = await (await root.getDirectoryHandle(from)).getFileHandle(stored);
        const link = document.createElement('a');
        link.href = URL.createObjectURL(await handle.getFile());
        link.download = stored;
        link.click();
      },
      { from: FOLDER, stored: file },
    ),
  ]);
  const path = join(folder, name);
  await saved.saveAs(path);
  return path;
}

/** Resolves when a file that the page writes as the visitor's own has come to its end: it has no bytes before that. */
async function whenStored(file: string): Promise<void> {
  const bytes = () =>
    page.evaluate(
      async ({ from, name }) => {
        const stored = await (await navigator.storage.getDirectory()).getDirectoryHandle(from);
        const handle = await stored.getFileHandle(name).catch(() => null);
        return (await handle?.getFile())?.size ?? 0;
      },
      { from: FOLDER, name: file },
    );
  await expect.poll(bytes, PATIENCE).toBeGreaterThan(0);
}

function disks(where = page): ReturnType<typeof window.demo.disks> {
  return where.evaluate(() => window.demo.disks());
}

async function names(): Promise<string[]> {
  return (await disks()).map(({ name }) => name);
}

type DiskCall = 'startDisk' | 'newDisk' | 'duplicateDisk' | 'renameDisk' | 'deleteDisk';

/** The error that a call of `window.demo` rejects with, or null. */
function refusal(call: DiskCall, ...given: string[]): Promise<{ code: string; message: string } | null> {
  return page.evaluate(
    async ({ name, parameters: [one = '', other = ''] }) => {
      const run = window.demo[name] as (one: string, other?: string) => Promise<void>;
      return (other === '' ? run(one) : run(one, other)).then(
        () => null,
        (error: { code: string; message: string }) => ({ code: error.code, message: error.message }),
      );
    },
    { name: call, parameters: given },
  );
}

/** Gives the page the image at an address of its site; the error it is refused with, or null. */
function openImageAt(path: string): Promise<{ code: string } | null> {
  return page.evaluate(
    (address) =>
      window.demo.openImage(new URL(address, location.href)).then(
        () => null,
        (error: { code: string }) => ({ code: error.code }),
      ),
    path,
  );
}

function focused(): Promise<string | null> {
  return page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.id ?? null);
}

async function whenListed(count: number): Promise<void> {
  await page.waitForFunction(
    (wanted) =>
      document.querySelectorAll('#disk-list .disk').length === wanted &&
      !document.querySelector<HTMLFieldSetElement>('#disks-parts')!.disabled,
    count,
  );
}

/** Without a picker for files the page offers a download. */
async function download(name: string): Promise<string> {
  await page.evaluate(() => Reflect.deleteProperty(window, 'showSaveFilePicker'));
  const [saved] = await Promise.all([page.waitForEvent('download'), page.click('#download-dialog button.main')]);
  const path = join(folder, name);
  await saved.saveAs(path);
  return path;
}

describe('several disks', () => {
  it('are chosen by the address, which says what they are and which one is open', async () => {
    expect(await disks()).toMatchObject([
      { name: 'small', backingFile: null, encryption: null, isReadable: true, open: 'here' },
    ]);
    expect(await page.title()).toContain('small');
    expect(await page.locator('#disk-name').innerText()).toBe('small');
    expect((await page.evaluate(() => window.demo.stats())).path).toBe(`/${FOLDER}/disk-small.qcow2`);
  });

  it('are made fresh over the base, protected or not, under any name; a name is given once', async () => {
    expect(await refusal('newDisk', '  Anna:  für Ärzte ')).toBeNull();
    await page.evaluate((passphrase) => window.demo.newDisk('secret', { passphrase }), PASSPHRASE);
    const [small, ...made] = await disks();
    expect(small).toMatchObject({ name: 'small', open: 'here' });
    const base = expect.stringMatching(/^linux\.qcow2#identity=/);
    expect(made).toMatchObject([
      { name: 'secret', backingFile: base, encryption: 'luks', open: null },
      { name: 'Anna: für Ärzte', backingFile: base, encryption: null, open: null },
    ]);
    expect(await storedNames(page)).toEqual(['disk-Anna%3A für Ärzte.qcow2', 'disk-secret.qcow2', 'disk-small.qcow2']);
    expect(await refusal('newDisk', 'SMALL')).toEqual({
      code: 'BAD_ARGUMENT',
      message: 'there is a disk “small” already',
    });
    expect(await refusal('newDisk', ' ')).toMatchObject({ code: 'BAD_ARGUMENT' });
    expect(await guest.state()).toBe('booting');
  });

  it('are duplicated while they run, and the copy is right to QEMU', async () => {
    expect(await refusal('duplicateDisk', 'small', 'twin')).toBeNull();
    expect(await refusal('duplicateDisk', 'twin', 'triplet')).toBeNull();
    expect(await refusal('duplicateDisk', 'twin', 'Small')).toMatchObject({ code: 'BAD_ARGUMENT' });
    expect(await refusal('duplicateDisk', 'nobody', 'new')).toMatchObject({ code: 'NOT_FOUND' });
    for (const name of ['twin', 'triplet']) {
      const copy = await fetchStored(`disk-${name}.qcow2`, `${name}.qcow2`);
      expect(checkImage(copy)).toMatchObject({ errors: 0, leaks: 0, backingFile: null });
      expect(qemuImg('compare', copy, join(folder, 'small.qcow2'))).toContain('identical');
    }
    expect(await storedNames(page)).not.toContain('incoming.qcow2');
  });

  it('are renamed while they run; one that is protected only while it is closed', async () => {
    expect(await refusal('renameDisk', 'small', 'twin')).toMatchObject({ code: 'BAD_ARGUMENT' });
    expect(await refusal('renameDisk', 'small', 'klein & fein')).toBeNull();
    expect(await names()).toEqual(expect.arrayContaining(['klein & fein', 'twin']));
    expect(await names()).not.toContain('small');
    expect(new URL(page.url()).searchParams.get('disk')).toBe('klein & fein');
    expect((await page.evaluate(() => window.demo.stats())).path).toBe(`/${FOLDER}/disk-klein & fein.qcow2`);
    expect(await guest.state()).toBe('booting');
    expect(await refusal('renameDisk', 'secret', 'Secret')).toBeNull();
    await page.evaluate((passphrase) => window.demo.startDisk('Secret', { passphrase }), PASSPHRASE);
    expect(await refusal('renameDisk', 'Secret', 'open')).toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('while it is closed') as string,
    });
    await page.reload();
    await guest.whenState('locked');
    expect(await page.locator('#disk-name').innerText()).toBe('Secret');
  });

  it('are listed where another tab has them, which alone may do something to them', async () => {
    await page.evaluate(() => window.demo.startDisk('klein & fein'));
    const second = await browser.open(`${server.url}/?disk=Twin`);
    await new GuestPage(second).whenState('booting');
    expect((await disks()).filter(({ open }) => open !== null)).toMatchObject([
      { name: 'klein & fein', open: 'here' },
      { name: 'twin', open: 'elsewhere' },
    ]);
    expect((await disks(second)).filter(({ open }) => open !== null)).toMatchObject([
      { name: 'twin', open: 'here' },
      { name: 'klein & fein', open: 'elsewhere' },
    ]);
    for (const [call, ...given] of [
      ['startDisk', 'twin'],
      ['deleteDisk', 'twin'],
      ['renameDisk', 'twin', 'mine'],
      ['duplicateDisk', 'twin', 'mine'],
    ] as const) {
      expect(await refusal(call, ...given), call).toMatchObject({ code: 'IN_USE' });
    }
    expect(await names()).not.toContain('mine');
    expect(await guest.state(), 'the disk of this tab goes on').toBe('booting');
    await second.close();
  });

  it('are deleted, but none that is open', async () => {
    expect(await refusal('deleteDisk', 'klein & fein')).toMatchObject({ code: 'IN_USE' });
    expect(await refusal('deleteDisk', 'nobody')).toMatchObject({ code: 'NOT_FOUND' });
    expect(await refusal('deleteDisk', 'Anna: für Ärzte')).toBeNull();
    expect(await names()).not.toContain('Anna: für Ärzte');
    expect(await storedNames(page)).toEqual([
      'disk-Secret.qcow2',
      'disk-klein & fein.qcow2',
      'disk-triplet.qcow2',
      'disk-twin.qcow2',
    ]);
  });

  it('are missed where the address names one that is not there; nothing is made unasked', async () => {
    await page.goto(`${server.url}/?disk=nobody`);
    await page.waitForFunction(() => document.documentElement.dataset['state'] === 'error');
    expect(await page.locator('#notice').innerText()).toContain('no disk “nobody”');
    expect(await names()).not.toContain('nobody');
    await page.click('#notice button:has-text("Start “")');
    await page.locator('#notice').waitFor({ state: 'hidden' });
    await guest.whenState('booting');
    expect((await disks())[0]).toMatchObject({ open: 'here', name: 'twin' });
    await page.goto(`${server.url}/`);
    await guest.whenState('booting');
    expect(new URL(page.url()).searchParams.get('disk'), 'the one that was used last').toBe('twin');
  });

  it('are managed by keyboard, and the focus is where one left it', async () => {
    await page.focus('#disks');
    await page.keyboard.press('Enter');
    await whenListed(4);
    expect(await page.locator('#disk-list h3').allInnerTexts()).toEqual([
      'twin',
      ...(await names()).filter((name) => name !== 'twin'),
    ]);
    await page.focus('[aria-label="Rename “triplet”"]');
    await page.keyboard.press('Enter');
    expect(await focused()).toBe('New name');
    await page.keyboard.type('TWIN');
    await page.keyboard.press('Enter');
    await page.locator('#disks-problem', { hasText: 'There is a disk “twin” already.' }).waitFor();
    await whenListed(4);
    expect(await focused()).toBe('Rename “triplet”');
    await page.keyboard.press('Enter');
    await page.keyboard.press('Escape');
    expect(await focused()).toBe('Rename “triplet”');
    expect(await page.locator('#disks-dialog').isVisible()).toBe(true);
    await page.focus('[aria-label="Delete “triplet”"]');
    await page.keyboard.press('Enter');
    expect(await focused(), 'the question begins with no').toBe('Keep “triplet”');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await whenListed(3);
    expect(await focused()).toMatch(/^Duplicate/);
    expect(await page.locator('[aria-label="Delete “twin”"]').isDisabled()).toBe(true);
    await page.click('[aria-label="Duplicate “twin”"]');
    await whenListed(4);
    expect(await focused()).toBe('Rename “twin copy”');
    await page.keyboard.press('Escape');
    expect(await focused()).toBe('disks');
  });

  it('are made in the dialog, too, and started', async () => {
    await page.click('#disks');
    await whenListed(4);
    await page.click('#new-disk summary');
    await page.fill('#new-disk-name', 'Twin');
    await page.keyboard.press('Enter');
    expect(await page.locator('#new-disk-name').evaluate((field: HTMLInputElement) => field.validationMessage)).toBe(
      'There is a disk “twin” already.',
    );
    await page.fill('#new-disk-name', 'locked away');
    await page.check('#new-disk-protects');
    await page.fill('#new-disk-next', PASSPHRASE);
    await page.fill('#new-disk-repeat', PASSPHRASE);
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.getElementById('disk-name')?.textContent === 'locked away');
    await guest.whenState('booting');
    expect(await page.locator('#disks-dialog').isVisible()).toBe(false);
    expect((await disks())[0]).toMatchObject({ name: 'locked away', open: 'here', encryption: 'luks' });
    expect(await page.locator('#new-disk-next').inputValue()).toBe('');
  });
});

describe('an image of the visitor', () => {
  it('becomes a disk of its own, which asks for a name where that of the file is taken', async () => {
    await page.evaluate(() => window.demo.startDisk('twin'));
    await page.setInputFiles('#file', {
      name: 'Twin.qcow2',
      mimeType: '',
      buffer: await readFile(join(folder, 'small.qcow2')),
    });
    await page.locator('#name-dialog').waitFor();
    expect(await page.locator('#name-field').inputValue()).toBe('Twin 2');
    await page.fill('#name-field', 'Taken in');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.getElementById('disk-name')?.textContent === 'Taken in');
    await guest.whenState('booting');
    expect(await names()).toEqual(expect.arrayContaining(['twin', 'Taken in']));
    expect(await names()).not.toContain('Twin 2');
  });

  it('is fetched from its address, too, and may be raw', async () => {
    qemuImg('convert', '-O', 'raw', join(folder, 'small.qcow2'), join(folder, 'from afar.img'));
    await page.click('#open');
    await page.click('#import-dialog button.main');
    expect(await focused()).toBe('import-address');
    await page.fill('#import-address', `${server.url}/images/from%20afar.img`);
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.getElementById('disk-name')?.textContent === 'from afar');
    await guest.whenState('booting');
    await page.evaluate(() => window.demo.startDisk('Taken in'));
    const image = await fetchStored('disk-from afar.qcow2', 'from-afar.qcow2');
    expect(qemuImg('compare', image, join(folder, 'small.qcow2'))).toContain('identical');
    expect(await openImageAt('/images/nobody.qcow2')).toMatchObject({ code: 'NOT_FOUND' });
    expect(await openImageAt('/main.js')).not.toBeNull();
  });

  it('leaves nothing behind where it is refused, or given up on its way in', async () => {
    const before = await storedNames(page);
    await page.setInputFiles('#file', { name: 'letter.qcow2', mimeType: '', buffer: Buffer.alloc(4096, 'no image') });
    await page.locator('#notice', { hasText: 'That image cannot be used' }).waitFor();
    // As soon as there is something to be given up.
    await page.evaluate(() => {
      const strip = document.getElementById('job')!;
      new MutationObserver((_, observer) => {
        if (strip.hidden) return;
        observer.disconnect();
        document.getElementById('job-cancel')!.click();
        document.documentElement.dataset['givenUp'] = 'yes';
      }).observe(strip, { attributes: true });
    });
    await page.setInputFiles('#file', join(folder, 'large.qcow2'));
    await page.waitForFunction(() => document.documentElement.dataset['givenUp'] === 'yes');
    await page.locator('#job').waitFor({ state: 'hidden' });
    expect(await storedNames(page)).toEqual(before);
    expect(await page.locator('#disk-name').innerText()).toBe('Taken in');
    expect(await guest.state()).toBe('booting');
  });
});

describe('a download', () => {
  it('is of a disk without a base only the whole, compressed if that is wished', async () => {
    await guest.openDownload();
    expect(await page.locator('#download-overlay').isDisabled()).toBe(true);
    expect(await page.locator('#download-snapshots-row').isVisible()).toBe(false);
    await page.check('#download-compress');
    const image = await download('compressed.qcow2');
    expect(checkImage(image)).toMatchObject({ errors: 0, leaks: 0 });
    expect((await readFile(image)).length).toBeLessThan(SIZE / 2);
    expect(qemuImg('compare', image, join(folder, 'small.qcow2'))).toContain('identical');
  });

  it('is of a running guest while it runs on: the whole, and what has changed over the base', async () => {
    await page.evaluate(() => window.demo.newDisk('linux'));
    await page.evaluate(() => window.demo.startDisk('linux'));
    await guest.booted();
    await guest.run('echo one > /root/moment; sync');
    await guest.save('moment');
    await guest.run('(while true; do echo tick; usleep 20000; done) & ticker=$!');
    await guest.openDownload();
    expect(await page.locator('#download-snapshots-text').innerText()).toBe('With its snapshot');
    await page.check('#download-overlay');
    expect(await page.locator('#download-snapshots').isDisabled()).toBe(true);
    // A file of OPFS stands for the one that the visitor would choose.
    await page.evaluate(() => {
      const picker = async ({ suggestedName }: { suggestedName: string }): Promise<FileSystemFileHandle> =>
        (await navigator.storage.getDirectory())
          .getDirectoryHandle('qcow2-wasm-demo')
          .then((stored) => stored.getFileHandle(suggestedName, { create: true }));
      Object.defineProperty(window, 'showSaveFilePicker', { value: picker, configurable: true });
    });
    const printed = await page.evaluate(() => window.demo.output().length);
    await page.click('#download-dialog button.main');
    await whenStored('linux changes.qcow2');
    await page.locator('#job').waitFor({ state: 'hidden' });
    await page.waitForFunction((length) => window.demo.output().length > length, printed);
    const overlay = await fetchStored('linux changes.qcow2', 'overlay.qcow2');
    await guest.openDownload();
    const whole = await download('whole.qcow2');
    await guest.run('kill $ticker');
    await copyFile(overlay, join(folder, 'back.qcow2'));
    expect(checkImage(whole)).toMatchObject({ errors: 0, leaks: 0, backingFile: null });
    const recorded = checkImage(overlay);
    expect(recorded).toMatchObject({ errors: 0, leaks: 0 });
    expect(recorded.backingFile).toMatch(/^linux\.qcow2#identity=/);
    qemuImg('rebase', '-u', '-F', 'qcow2', '-b', resolve('demo/guest/linux.qcow2'), overlay);
    const moment = await fileFromGuestDisk({ image: overlay, path: '/root/moment', folder });
    expect(await readFile(moment, 'utf8')).toBe('one\n');
    expect(qemuImg('snapshot', '-l', whole)).toContain('moment');
    expect((await readFile(overlay)).length).toBeLessThan((await readFile(whole)).length / 2);
  });

  it('is no different from a duplicate, whose snapshots go on in the copy', async () => {
    await page.evaluate(() => window.demo.duplicateDisk('linux', 'linux copy'));
    await guest.run('echo two > /root/moment; sync');
    await page.evaluate(() => window.demo.startDisk('linux copy'));
    await guest.load('moment');
    expect(await guest.run('cat /root/moment')).toBe('one');
    expect(await refusal('renameDisk', 'linux copy', 'renamed')).toBeNull();
    expect(
      await guest.run('echo 3 > /proc/sys/vm/drop_caches; cat /root/moment; echo three > /root/moment; sync'),
    ).toBe('one');
    await guest.load('moment');
    expect(await guest.run('cat /root/moment')).toBe('one');
  });

  it('of what has changed comes back as a disk over the same base', async () => {
    expect(await openImageAt('/images/back.qcow2')).toBeNull();
    const [back] = await disks();
    expect(back).toMatchObject({ name: 'back', open: 'here' });
    expect(back?.backingFile).toMatch(/^linux\.qcow2#identity=/);
    expect(await guest.state()).toBe('booting');
  });
});
