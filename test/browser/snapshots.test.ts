/**
 * Snapshots in the demo page, in real Chromium with its real guest: memory, page cache and disk go back together, also after
 * a reload; what is exported is right to QEMU and to e2fsprogs; the panel and the offer to resume do what they say.
 *
 * One profile and one guest's life for all tests, in order. The guest boots twice; everything else resumes.
 */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createImage, MemoryStorage, openImage } from '../../src/index.js';
import { addQemuSnapshot, checkImage, fileFromGuestDisk, snapshotsOf } from './guest-image.js';
import { GuestPage } from './guest-page.js';
import {
  launchBrowser,
  PATIENCE,
  serveFolder,
  showConsoleOnFailure,
  type FolderServer,
  type TestBrowser,
} from './harness.js';

/** Of the counter in the guest, which sleeps between two of them. */
const STEP_MILLISECONDS = 100;
const STEPS_BETWEEN_SNAPSHOTS = 60;
const PICTURE_BYTES = 16 * 1024;

let server: FolderServer;
let browser: TestBrowser;
let folder: string;
let guest: GuestPage;
let exported: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qcow2-wasm-snapshots-'));
  await mkdir('.tmp', { recursive: true });
  server = await serveFolder('demo/dist', { '/guest': 'demo/guest' });
  browser = await launchBrowser();
});

afterAll(async () => {
  await browser?.close();
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});

showConsoleOnFailure(() => browser);

/** What tells one moment of the guest from another. */
interface Moment {
  /** A variable of the shell. */
  readonly name: string;
  /** A variable of a loop that runs in the background. */
  readonly count: number;
  /** A file that was synced before the snapshot. */
  readonly synced: string;
  /** A file that was in the guest's page cache alone. */
  readonly cached: string;
}

async function moment(): Promise<Moment> {
  // The loop empties the file before it writes the next number.
  const readCount = 'c=; while [ -z "$c" ]; do read c < /tmp/count; done';
  const [name = '', count, synced = '', cached = ''] = (
    await guest.run(`${readCount}; echo $moment $c $(cat /root/synced) $(cat /root/cached)`)
  ).split(' ');
  return { name, count: Number(count), synced, cached };
}

interface SavedMoment {
  readonly moment: Moment;
  /** From before the moment was read until its snapshot was taken. */
  readonly milliseconds: number;
}

/** Makes a moment of that name and takes a snapshot of it. */
async function saveMoment(name: string): Promise<SavedMoment> {
  await guest.run(`moment=${name}; echo ${name} > /root/synced; sync; echo ${name} > /root/cached`);
  const startedAt = performance.now();
  const saved = await moment();
  await guest.save(name);
  return { moment: saved, milliseconds: performance.now() - startedAt };
}

/** Goes back to a snapshot: the guest is as it was then, up to what it has run since the restore, and it goes on. */
async function goBackTo({ moment: saved, milliseconds }: SavedMoment): Promise<void> {
  const startedAt = performance.now();
  await guest.load(saved.name);
  const now = await moment();
  const steps = (milliseconds + performance.now() - startedAt) / STEP_MILLISECONDS;
  expect(now).toEqual({ ...saved, count: now.count });
  expect(now.count).toBeGreaterThanOrEqual(saved.count);
  // One that was nearly over when the time began, and one that the jump of the guest's clock has cut short.
  expect(now.count).toBeLessThanOrEqual(saved.count + steps + 2);
  // Its clock goes on, too: a guest whose clock had stopped would wait for a minute here.
  const restoredAt = performance.now();
  await whenCountIs(now.count + 5);
  expect(performance.now() - restoredAt).toBeLessThan(20_000);
  // What the page cache held is on the disk now, and what is on the disk is what the page cache held.
  const read = await guest.run('sync; echo 3 > /proc/sys/vm/drop_caches; cat /root/synced /root/cached');
  expect(read.split(/\s+/)).toEqual([saved.synced, saved.cached]);
}

async function whenCountIs(count: number): Promise<void> {
  await guest.run(`while read c < /tmp/count; [ "\${c:-0}" -lt ${count} ]; do usleep 100000; done`);
}

const names = async () => (await guest.snapshots()).map(({ name }) => name);
const card = (name: string) => guest.page.locator('#snapshot-list > li').filter({ hasText: name });

/** Fills the screen with red and waits. */
const RED_SCREEN = [
  [0xb8, 0x13, 0x00, 0xcd, 0x10], // mov ax, 13h: 320 x 200 in 256 colours; int 10h
  [0xb8, 0x00, 0xa0, 0x8e, 0xc0], // mov ax, A000h; mov es, ax
  [0x31, 0xff, 0xb9, 0x00, 0xfa], // xor di, di; mov cx, 64000
  [0xb0, 0x04, 0xfc, 0xf3, 0xaa], // mov al, 4; cld; rep stosb
  [0xfb, 0xf4, 0xeb, 0xfd], // sti; hlt; jmp to the hlt
];

/** Halts for good, as a guest does that powers off. */
const HALT = [[0xfa, 0xf4]]; // cli; hlt

/** A disk with this code as its boot sector. */
function imageThatBoots(code: readonly (readonly number[])[]): Uint8Array {
  const sector = new Uint8Array(512);
  sector.set(code.flat());
  sector.set([0x55, 0xaa], 510);
  const storage = new MemoryStorage();
  createImage(storage, { size: 2 ** 20 });
  const image = openImage(storage);
  image.write(0, sector);
  image.close();
  return storage.toBytes();
}

async function download(name: string): Promise<string> {
  const [saved] = await Promise.all([
    guest.page.waitForEvent('download'),
    guest.page.evaluate(async () => {
      const link = document.createElement('a');
      link.href = URL.createObjectURL(await window.demo.exportDisk());
      link.download = 'disk.qcow2';
      link.click();
    }),
  ]);
  const path = join(folder, name);
  await saved.saveAs(path);
  return path;
}

describe('snapshots of the demo', () => {
  let a: SavedMoment;

  it('takes two, and goes back to either: memory, page cache and disk', async () => {
    guest = await GuestPage.open(browser, `${server.url}/`);
    await guest.booted();
    // The echo is a builtin of the shell, so a write of the counter is one write.
    await guest.run('(i=0; while true; do i=$((i+1)); echo $i > /tmp/count; usleep 100000; done) & sleep 1');
    a = await saveMoment('A');
    await whenCountIs(a.moment.count + STEPS_BETWEEN_SNAPSHOTS);
    const b = await saveMoment('B');
    await whenCountIs(b.moment.count + STEPS_BETWEEN_SNAPSHOTS);
    await guest.run('moment=later; rm /root/synced; echo later > /root/cached; sync');
    await goBackTo(a);
    await goBackTo(b);
    await goBackTo(a);
    expect(await names()).toEqual(['A', 'B']);
  });

  it('shows both in the panel, newest first, with pictures of the console', async () => {
    const list = guest.page.locator('#snapshot-list > li');
    expect(await list.locator('h3').allInnerTexts()).toEqual(['B', 'A']);
    const pictures = await list
      .locator('img')
      .evaluateAll((images) =>
        (images as HTMLImageElement[]).map(({ complete, naturalWidth }) => [complete, naturalWidth]),
      );
    expect(pictures).toEqual([
      [true, 320],
      [true, 320],
    ]);
    const page = guest.page;
    await page.screenshot({ path: '.tmp/snapshots-1280.png', timeout: 30_000 }).catch(() => undefined);
    const size = page.viewportSize();
    await page.setViewportSize({ width: 390, height: 844 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(390);
    await page.screenshot({ path: '.tmp/snapshots-390.png', timeout: 30_000 }).catch(() => undefined);
    if (size) await page.setViewportSize(size);
  });

  it('offers the newest on the next visit and resumes it instead of booting', async () => {
    const mark = await guest.run('echo before-the-reload');
    expect(mark).toBe('before-the-reload');
    const text = await guest.page.evaluate(() => window.demo.output());
    await guest.save('B');
    await guest.page.reload();
    const offer = guest.page.locator('#resume');
    await offer.waitFor({ state: 'visible' });
    expect(await guest.state()).toBe('booting');
    expect(await offer.innerText()).toContain('“B”');
    await guest.resume();
    // A variable of the shell, which a boot would not have.
    expect(await guest.run('echo $moment')).toBe('A');
    expect(await offer.isVisible()).toBe(false);
    expect(await guest.page.locator('#boot-text').innerText()).toMatch(/^Resumed in \d+\.\d s$/);
    // The console, too, is as it was: what was printed before the reload stands above what is printed now.
    const output = await guest.page.evaluate(() => window.demo.output());
    expect(output.startsWith(text)).toBe(true);
    await goBackTo(a);
  });

  it('exports a disk with both in it, in which QEMU finds nothing wrong', async () => {
    exported = await download('exported.qcow2');
    expect(checkImage(exported)).toEqual({ errors: 0, leaks: 0, backingFile: null });
    const found = snapshotsOf(exported);
    expect(found.map(({ name }) => name)).toEqual(['A', 'B']);
    for (const { vmStateBytes } of found) expect(vmStateBytes).toBeGreaterThan(4e6);
    const file = await fileFromGuestDisk({ image: exported, snapshot: 'A', path: '/root/synced', folder });
    expect(await readFile(file, 'utf8')).toBe('A\n');
  });
});

describe('the panel of snapshots', () => {
  it('takes one under the name that is typed, with Enter, and proposes the next name', async () => {
    const { page } = guest;
    const name = page.locator('#snapshot-name');
    expect(await name.inputValue()).toBe('Snapshot 1');
    await name.press('Enter');
    await card('Snapshot 1').waitFor();
    await page.waitForFunction(() => document.getElementById('snapshots')?.ariaBusy === 'false');
    expect(await name.inputValue()).toBe('Snapshot 2');
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('snapshot-name');
    expect(await names()).toEqual(['A', 'B', 'Snapshot 1']);
    await name.fill('A');
    expect(await page.locator('#snapshot-take').innerText()).toBe('Replace it');
    await name.fill('');
  });

  it('goes back to one after asking, and keeps the present as a snapshot if told to', async () => {
    await guest.run('moment=present');
    await guest.page.evaluate(() => document.getElementById('boot-text')!.replaceChildren());
    await card('Snapshot 1').getByRole('button', { name: 'Restore' }).click();
    const dialog = guest.page.locator('#confirm-restore');
    expect(await dialog.innerText()).toContain('“Snapshot 1”');
    await dialog.getByRole('checkbox').check();
    await dialog.getByRole('button', { name: 'Go back' }).click();
    // What is typed before the restore is gone with it.
    await guest.page.waitForFunction(() =>
      document.getElementById('boot-text')?.textContent?.startsWith('Restored in'),
    );
    expect(await guest.run('echo $moment')).toBe('A');
    expect(await names()).toContain('Before Snapshot 1');
    await guest.load('Before Snapshot 1');
    expect(await guest.run('echo $moment')).toBe('present');
  });

  it('takes what names one for a name first and for an id only then', async () => {
    const [first] = await guest.snapshots();
    const decoy = await guest.save(first!.id);
    expect((await guest.load(first!.id)).id).toBe(decoy.id);
    await guest.delete(first!.id);
    expect(await names()).toEqual(['A', 'B', 'Snapshot 1', 'Before Snapshot 1']);
    expect((await guest.load(first!.id)).name).toBe('A');
    await guest.load('Before Snapshot 1');
  });

  it('deletes one with the keyboard, only after asking', async () => {
    const { page } = guest;
    const doomed = card('Before Snapshot 1');
    await doomed.getByRole('button', { name: /^Delete/ }).focus();
    await page.keyboard.press('Enter');
    expect(await page.evaluate(() => document.activeElement?.getAttribute('name'))).toBe('keep');
    await page.keyboard.press('Enter');
    expect(await names()).toContain('Before Snapshot 1');
    await page.keyboard.press('Enter');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await doomed.waitFor({ state: 'detached' });
    expect(await names()).toEqual(['A', 'B', 'Snapshot 1']);
    expect(await guest.run('echo $moment')).toBe('present');
  });

  it('shows what goes wrong with what to do, and the guest runs on', async () => {
    const error = await guest.load('no such snapshot').catch((reason: unknown) => String(reason));
    expect(error).toContain('no such snapshot');
    const { page } = guest;
    const name = page.locator('#snapshot-name');
    const tooLong = 'x'.repeat(70_000);
    await name.evaluate((input: HTMLInputElement) => input.removeAttribute('maxlength'));
    await name.fill(tooLong);
    await name.press('Enter');
    const notice = page.locator('#notice');
    await notice.waitFor({ state: 'visible' });
    expect(await notice.innerText()).toMatch(/could not be taken[^]*BAD_ARGUMENT[^]*nothing has changed/);
    // For another try.
    expect(await name.inputValue()).toBe(tooLong);
    await notice.getByRole('button', { name: 'Dismiss' }).click();
    await name.fill('');
    expect(await guest.state()).toBe('ready');
    expect(await guest.run('echo $moment')).toBe('present');
    expect(await names()).toEqual(['A', 'B', 'Snapshot 1']);
  });

  it('takes checkpoints as it was told on an earlier visit, and keeps the last five', async () => {
    const { page } = guest;
    await page.evaluate(() => localStorage.setItem('qcow2-wasm-demo checkpoint seconds', '1'));
    await page.reload();
    await page.locator('#resume').waitFor({ state: 'visible' });
    await guest.resume();
    const before = ['A', 'B', 'Snapshot 1'];
    const checkpoints = async () => (await names()).filter((name) => !before.includes(name));
    await expect.poll(async () => (await checkpoints()).length, { ...PATIENCE, interval: 500 }).toBe(5);
    const [oldest] = await guest.snapshots().then((all) => all.filter(({ name }) => !before.includes(name)));
    await expect.poll(async () => (await guest.snapshots()).some(({ id }) => id === oldest?.id), PATIENCE).toBe(false);
    await page.getByLabel('Checkpoint', { exact: true }).selectOption('off');
    // With the checkpoint that was under way.
    await guest.settled();
    expect(await checkpoints()).toHaveLength(5);
    const [last] = (await guest.snapshots()).slice(-1);
    const shown = await card(last!.name)
      .first()
      .locator('img')
      .evaluate(async (image: HTMLImageElement) => {
        await image.decode();
        return image.naturalWidth;
      });
    expect(shown).toBe(320);
    expect(await guest.run('echo still running')).toBe('still running');
  });

  it('keeps pictures small', async () => {
    const sizes = await guest.page
      .locator('#snapshot-list img')
      .evaluateAll((images) =>
        Promise.all((images as HTMLImageElement[]).map(async ({ src }) => (await (await fetch(src)).blob()).size)),
      );
    expect(sizes.length).toBeGreaterThan(3);
    for (const size of sizes) expect(size).toBeLessThan(4 * PICTURE_BYTES);
  });
});

describe('a disk of the visitor', () => {
  it('brings its snapshots along; what this machine cannot load is listed with why, and can only be deleted', async () => {
    addQemuSnapshot(exported, 'made by QEMU');
    await guest.page.setInputFiles('#file', exported);
    await guest.page.locator('#resume').waitFor({ state: 'visible' });
    expect(await names()).toEqual(['A', 'B', 'made by QEMU']);
    const foreign = card('made by QEMU');
    expect(await foreign.getByRole('button', { name: 'Restore' }).isDisabled()).toBe(true);
    const [, , listed] = await guest.snapshots();
    expect(listed).toMatchObject({ loadable: false, stateBytes: 0 });
    expect(await foreign.locator('.why').innerText()).toBe(listed!.reason);
    await foreign.getByRole('button', { name: /^Delete/ }).click();
    await foreign.getByRole('button', { name: /for good$/ }).click();
    await foreign.waitFor({ state: 'detached' });
    await guest.resume();
    expect(await guest.run('echo $moment')).toBe('A');
    expect(await names()).toEqual(['A', 'B']);
  });

  it('whose guest draws gets pictures of its screen, and a guest that never says it is ready has snapshots too', async () => {
    const { page } = guest;
    const buffer = Buffer.from(imageThatBoots(RED_SCREEN));
    await page.setInputFiles('#file', { name: 'red.qcow2', mimeType: 'application/octet-stream', buffer });
    await page.locator('#screen canvas').waitFor({ state: 'visible' });
    await page.waitForFunction(() => {
      const context = document.querySelector<HTMLCanvasElement>('#screen canvas')!.getContext('2d')!;
      const [red = 0, green = 255, blue = 255] = context.getImageData(160, 100, 1, 1).data;
      return red > 120 && Math.max(green, blue) < 60;
    });
    const { name } = await guest.save('red');
    expect(await guest.state()).toBe('booting');
    const colour = await card(name)
      .locator('img')
      .evaluate(async (image: HTMLImageElement) => {
        await image.decode();
        const context = document.createElement('canvas').getContext('2d')!;
        context.drawImage(image, 0, 0);
        return [...context.getImageData(160, 100, 1, 1).data];
      });
    const [red = 0, green = 255, blue = 255] = colour;
    expect(red).toBeGreaterThan(120);
    expect(Math.max(green, blue)).toBeLessThan(60);
    await guest.load('red');
    expect(await guest.state()).toBe('booting');
  });

  it('is offered no snapshot that has been deleted meanwhile', async () => {
    const { page } = guest;
    await page.reload();
    await page.locator('#resume').waitFor({ state: 'visible' });
    await guest.delete('red');
    expect(await page.locator('#resume').isVisible()).toBe(false);
    expect(await page.locator('#snapshot-none').isVisible()).toBe(true);
  });

  it('is offered none any more once a script has typed or a snapshot was taken', async () => {
    const { page } = guest;
    const offer = page.locator('#resume');
    await guest.save('red');
    await page.reload();
    await offer.waitFor({ state: 'visible' });
    await page.evaluate(() => window.demo.send(' '));
    expect(await offer.isVisible()).toBe(false);
    await page.reload();
    await offer.waitFor({ state: 'visible' });
    await guest.save('another');
    expect(await offer.isVisible()).toBe(false);
    await page.reload();
    await offer.waitFor({ state: 'visible' });
    await page.locator('#screen').focus();
    await page.keyboard.press('Shift');
    expect(await offer.isVisible()).toBe(true);
    await page.keyboard.press('x');
    expect(await offer.isVisible()).toBe(false);
  });

  it('whose guest has powered off comes back powered off, and is not offered', async () => {
    const { page } = guest;
    const startAgain = page.getByRole('button', { name: 'Start it again' });
    const buffer = Buffer.from(imageThatBoots(HALT));
    await page.setInputFiles('#file', { name: 'halt.qcow2', mimeType: 'application/octet-stream', buffer });
    await startAgain.waitFor();
    await guest.save('off');
    expect(await guest.state()).toBe('stopped');
    await guest.load('off');
    expect(await guest.state()).toBe('stopped');
    expect(await startAgain.isVisible()).toBe(true);
    await page.reload();
    await startAgain.waitFor();
    // The boot has made its offers.
    await guest.settled();
    expect(await names()).toEqual(['off']);
    expect(await page.locator('#resume').isVisible()).toBe(false);
  });

  it('can be reset, and has no snapshots then', async () => {
    await guest.page.evaluate(() => window.demo.reset());
    expect(await guest.snapshots()).toEqual([]);
    expect(await guest.page.locator('#resume').isVisible()).toBe(false);
    expect(await guest.page.locator('#snapshot-none').isVisible()).toBe(true);
  });
});
