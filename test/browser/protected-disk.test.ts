/**
 * A disk protected with a passphrase, in the demo page, in real Chromium with its real guest. Proven here:
 * - the disk there is becomes encrypted under the running guest, with its snapshots; nothing of it lies in OPFS as plain text then;
 * - the next visit asks for the passphrase, says when it is wrong, and boots with the right one; a changed one counts at once;
 * - what is downloaded is encrypted, and right to QEMU; an encrypted image is opened with its passphrase, or nothing changes;
 * - no passphrase stays in the page, its console, its storage or its files.
 *
 * One profile and one guest's life for all tests, in order. The guest boots twice; everything else resumes.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createImage, MemoryStorage, newEncryption, openImage } from '../../src/index.js';
import { decryptedByQemu, encryptedImage, qemuCheckWith, qemuRefusal } from '../interop/qemu-secrets.js';
import { snapshotsOf } from './guest-image.js';
import { GuestPage } from './guest-page.js';
import { launchBrowser, serveFolder, showConsoleOnFailure, type FolderServer, type TestBrowser } from './harness.js';
import { FOLDER, storedNames } from './small-disks.js';

const FIRST = 'first secret words';
const SECOND = 'second secret words';
const THIRD = 'third secret words';
const WRONG = 'not the secret words';
const REFUSED = /does not open this disk/;

/** What the guest writes, so that it fills blocks: not as it is typed, which is in the history of the shell. */
const MARKER = 'plain-to-read-'.repeat(40);
const WRITE_MARKER = 'for i in $(seq 1600); do echo -n plain-to-""read-; done > /root/marker; sync';

let server: FolderServer;
let browser: TestBrowser;
let folder: string;
let page: Page;
let guest: GuestPage;
let downloaded: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qcow2-wasm-protected-'));
  server = await serveFolder('demo/dist', { '/guest': 'demo/guest', '/images': folder });
  browser = await launchBrowser();
  guest = await GuestPage.open(browser, `${server.url}/`);
  page = guest.page;
});

afterAll(async () => {
  await browser?.close();
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});

showConsoleOnFailure(() => browser);

async function reloadLocked(): Promise<void> {
  await page.reload();
  await guest.whenState('locked');
}

/** The lines in `#<id>-problem`, once there are any. */
async function problem(id: string): Promise<string> {
  const line = page.locator(`#${id}-problem`);
  await line.filter({ hasText: /./ }).waitFor();
  return line.innerText();
}

function whenClosed(dialog: string): Promise<unknown> {
  return page.waitForFunction((id) => !(document.getElementById(id) as HTMLDialogElement).open, dialog);
}

/** Leaves the page, for nobody can read what a guest writes to. The files of the demo's folder that hold `text`, as plain bytes. */
async function leaveAndFind(text: string): Promise<string[]> {
  await page.goto(`${server.url}/favicon.svg`);
  return page.evaluate(
    async ({ wanted, from }) => {
      const stored = await (await navigator.storage.getDirectory()).getDirectoryHandle(from);
      const look = async (): Promise<string[]> => {
        const found: string[] = [];
        for await (const handle of stored.values()) {
          if (handle.kind !== 'file') continue;
          const bytes = await (await handle.getFile()).arrayBuffer();
          if (new TextDecoder('latin1').decode(bytes).includes(wanted)) found.push(handle.name);
        }
        return found;
      };
      // The worker of the page may have the disk for a moment yet.
      return navigator.locks.request(`qcow2-wasm:${from}/disk.qcow2`, look);
    },
    { wanted: text, from: FOLDER },
  );
}

/** Opens the page again, and goes on from the last snapshot. */
async function comeBack(passphrase?: string): Promise<void> {
  await page.goto(`${server.url}/`);
  if (passphrase !== undefined) {
    await guest.whenState('locked');
    expect(await refusal('unlock', passphrase)).toBeNull();
  }
  await guest.resume();
}

async function read(file: string): Promise<string> {
  return guest.run(`echo 3 > /proc/sys/vm/drop_caches; cat ${file}`);
}

function stats(): ReturnType<typeof window.demo.stats> {
  return page.evaluate(() => window.demo.stats());
}

/** The code of the error that the call of `window.demo` rejects with, or null. */
function refusal(call: 'unlock' | 'changePassphrase' | 'protect', ...passphrases: string[]): Promise<string | null> {
  return page.evaluate(
    async ({ name, given: [one = '', other = ''] }) =>
      window.demo[name](one, other).then(
        () => null,
        (error: { code: string }) => error.code,
      ),
    { name: call, given: passphrases },
  );
}

/** Gives the page an image of `folder` as a script does; the code of the error it is refused with, or null. */
function openImageInPage(image: string, passphrase?: string): Promise<string | null> {
  return page.evaluate(
    async ({ path, secret }) => {
      const blob = await (await fetch(path)).blob();
      return window.demo.openImage(blob, secret === undefined ? {} : { passphrase: secret }).then(
        () => null,
        (error: { code: string }) => error.code,
      );
    },
    { path: `/images/${image}`, secret: passphrase },
  );
}

async function expectNothingSecret(): Promise<void> {
  const kept = await page.evaluate(async () => {
    const values = [...document.querySelectorAll('input')].map(({ value }) => value);
    const told = await window.demo.stats().catch(() => null);
    const stored = Object.values({ ...localStorage, ...sessionStorage }).map(String);
    return [document.documentElement.outerHTML, ...values, ...stored, JSON.stringify(told), document.cookie].join('\n');
  });
  expect(kept).not.toContain('secret words');
  expect(browser.consoleText()).not.toContain('secret words');
}

/** A small disk with legacy AES and a boot sector that only waits. */
async function legacyImage(passphrase: string): Promise<Uint8Array> {
  const storage = new MemoryStorage();
  const encryption = await newEncryption({ format: 'aes', passphrase });
  createImage(storage, { size: 1 << 20, encryption });
  const image = openImage(storage, { encryption: encryption.opened });
  const sector = new Uint8Array(512);
  // hlt; jmp back to it
  sector.set([0xf4, 0xeb, 0xfd]);
  sector.set([0x55, 0xaa], 510);
  image.write(0, sector);
  image.close();
  return storage.toBytes();
}

describe('a protected disk', () => {
  it('is made of the disk there is, while its guest stands still, and its snapshots come along', async () => {
    await guest.booted();
    await guest.run(WRITE_MARKER);
    await guest.run('echo one > /root/moment; sync');
    await guest.save('plain');
    expect(await leaveAndFind(MARKER), 'what this test looks for').toContain('disk.qcow2');
    await comeBack();
    await page.click('#protect');
    await page.keyboard.type('short');
    await page.keyboard.press('Enter');
    expect(await problem('protect')).toContain('At least 8 characters');
    await page.fill('#protect-next', FIRST);
    await page.fill('#protect-repeat', SECOND);
    await page.keyboard.press('Enter');
    expect(await problem('protect')).toContain('not the same');
    await page.fill('#protect-repeat', FIRST);
    await page.keyboard.press('Enter');
    await guest.whenState('protecting');
    await whenClosed('protect-dialog');
    expect(await guest.state()).toBe('ready');
    expect(await page.locator('#notice').innerText()).toContain('protected now');
    expect(await page.locator('#encryption').innerText()).toBe('LUKS, AES-256-XTS');
    expect(await stats()).toMatchObject({ encryption: 'luks', backingFile: null, path: '/qcow2-wasm-demo/disk.qcow2' });
    expect(await storedNames(page)).not.toContain('incoming.qcow2');
    expect(await read('/root/marker')).toContain(MARKER);
    expect(await refusal('protect', SECOND), 'what is protected already').toBe('BAD_ARGUMENT');
    await expectNothingSecret();
    expect(await leaveAndFind(MARKER)).toEqual([]);
    await comeBack(FIRST);
  });

  it('takes snapshots and goes back to them, also to one from before it was protected', async () => {
    await guest.run('echo two > /root/moment; sync');
    await guest.save('protected');
    await guest.load('plain');
    expect(await read('/root/moment')).toBe('one');
    expect(await read('/root/marker')).toContain(MARKER);
    await guest.load('protected');
    expect(await read('/root/moment')).toBe('two');
  });

  it('gets another passphrase from who knows the present one, without a reboot', async () => {
    await page.click('#change-passphrase');
    for (const [id, text] of Object.entries({ current: WRONG, next: SECOND, repeat: SECOND })) {
      await page.fill(`#change-${id}`, text);
    }
    await page.keyboard.press('Enter');
    expect(await problem('change')).toMatch(REFUSED);
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('change-current');
    await page.keyboard.type(FIRST);
    await page.keyboard.press('Enter');
    await whenClosed('change-dialog');
    expect(await page.locator('#notice').innerText()).toContain('passphrase was changed');
    expect(await read('/root/moment')).toBe('two');
    await expectNothingSecret();
  });

  it('is downloaded protected: QEMU opens it with the new passphrase only, and finds nothing wrong', async () => {
    downloaded = join(folder, 'download.qcow2');
    await page.evaluate(() => Reflect.deleteProperty(window, 'showSaveFilePicker'));
    await guest.openDownload();
    expect(await page.locator('#download-compress').isDisabled()).toBe(true);
    const [saved] = await Promise.all([page.waitForEvent('download'), page.click('#download-dialog button.main')]);
    await saved.saveAs(downloaded);
    expect((await readFile(downloaded)).includes(MARKER)).toBe(false);
    expect(qemuCheckWith(SECOND, downloaded)).toMatchObject({ leaks: 0, corruptions: 0, checkErrors: 0 });
    expect(snapshotsOf(downloaded).map(({ name }) => name)).toEqual(['plain', 'protected']);
    expect(qemuRefusal({ key: FIRST }, 'map', ...encryptedImage('qcow2', downloaded, 'key'))).toMatch(
      /Invalid password/,
    );
    expect(decryptedByQemu('qcow2', downloaded, SECOND).includes(MARKER)).toBe(true);
  });

  it('asks for its passphrase on the next visit, says that one is wrong, and boots with the right one', async () => {
    expect(await leaveAndFind(MARKER), 'also with the memory of a guest in a snapshot').toEqual([]);
    await page.goto(`${server.url}/`);
    await guest.whenState('locked');
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('unlock-current');
    expect(await page.locator('#download').isDisabled()).toBe(true);
    // It was right before it was changed.
    await page.keyboard.type(FIRST);
    await page.keyboard.press('Enter');
    expect(await problem('unlock')).toMatch(REFUSED);
    expect(await guest.state()).toBe('locked');
    // What was typed is selected, so that it is typed over.
    await page.keyboard.type(SECOND);
    await page.keyboard.press('Enter');
    await guest.whenState('booting');
    expect(await page.locator('#unlock').isVisible()).toBe(false);
    await page.locator('#resume').waitFor();
    expect(await page.locator('#resume-what').innerText()).toContain('protected');
    await guest.booted();
    expect(await read('/root/marker')).toContain(MARKER);
    expect(await read('/root/moment')).toBe('two');
    await expectNothingSecret();
  });

  it('resumes a snapshot on a visit, once it is unlocked', async () => {
    await guest.run('echo three > /root/moment; sync');
    await reloadLocked();
    expect(await refusal('unlock', WRONG)).toBe('WRONG_PASSPHRASE');
    expect(await guest.state()).toBe('locked');
    expect(await refusal('unlock', SECOND)).toBeNull();
    await guest.resume();
    expect(await read('/root/moment')).toBe('two');
    expect(await refusal('unlock', SECOND), 'what is open already').toBe('BAD_ARGUMENT');
  });

  it('is what an encrypted image becomes that is opened with its passphrase; who cancels keeps what was there', async () => {
    await guest.run('echo four > /root/moment; sync');
    const opened = page.locator('#image-dialog');
    await page.setInputFiles('#file', downloaded);
    await opened.waitFor();
    await page.fill('#image-current', WRONG);
    await page.keyboard.press('Enter');
    expect(await problem('image')).toMatch(REFUSED);
    await page.keyboard.press('Escape');
    await page.waitForFunction(() => !document.querySelector<HTMLDialogElement>('#image-dialog')!.open);
    expect(await openImageInPage('download.qcow2'), 'a script without a passphrase').toBe('KEY_NEEDED');
    expect(await openImageInPage('download.qcow2', WRONG)).toBe('WRONG_PASSPHRASE');
    expect(await storedNames(page)).not.toContain('incoming.qcow2');
    expect(await page.locator('#notice').isVisible()).toBe(false);
    expect(await guest.state()).toBe('ready');
    expect(await read('/root/moment')).toBe('four');
    await page.setInputFiles('#file', downloaded);
    await opened.waitFor();
    await page.fill('#image-current', SECOND);
    await page.keyboard.press('Enter');
    await guest.whenState('booting');
    await guest.load('protected');
    expect(await read('/root/moment')).toBe('two');
    await expectNothingSecret();
  });

  it('starts over, protected from the start, for who has lost the passphrase', async () => {
    await reloadLocked();
    await page.click('#start-over');
    await page.check('#reset-protects');
    await page.fill('#reset-next', THIRD);
    await page.fill('#reset-repeat', THIRD);
    await page.keyboard.press('Enter');
    await guest.whenState('booting');
    expect(await stats()).toMatchObject({ encryption: 'luks' });
    expect((await stats()).backingFile).toMatch(/^linux\.qcow2#identity=/);
    await reloadLocked();
    expect(await refusal('unlock', SECOND)).toBe('WRONG_PASSPHRASE');
    expect(await refusal('unlock', THIRD)).toBeNull();
    await page.evaluate(() => window.demo.reset());
    expect(await stats()).toMatchObject({ encryption: null });
  });

  it('can have been legacy AES, which has no wrong passphrases and none to change, and becomes LUKS', async () => {
    await writeFile(join(folder, 'legacy.qcow2'), await legacyImage(FIRST));
    expect(await openImageInPage('legacy.qcow2', WRONG)).toBe('WRONG_PASSPHRASE');
    expect(await openImageInPage('legacy.qcow2', FIRST)).toBeNull();
    expect(await page.locator('#encryption').innerText()).toBe('legacy AES-128-CBC, weak');
    expect(await refusal('changePassphrase', FIRST, SECOND)).toBe('BAD_ARGUMENT');
    expect(await page.locator('#change-passphrase').isVisible()).toBe(false);
    expect(await refusal('protect', SECOND)).toBeNull();
    expect(await stats()).toMatchObject({ encryption: 'luks' });
    await reloadLocked();
    expect(await refusal('unlock', FIRST)).toBe('WRONG_PASSPHRASE');
    expect(await refusal('unlock', SECOND)).toBeNull();
    await expectNothingSecret();
  });
});
