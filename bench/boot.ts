/**
 * The demo's guest booted in Chromium, from plain disks and from encrypted ones (LUKS, AES-256-XTS) that hold the same. All disks
 * take turns, round by round, in one page; the ratio is the median over the rounds.
 *
 *   overlay   what a visitor gets: an overlay over the base image. The base is plain in both, so what the boot reads is, too
 *   whole     one image without a base: all that the boot reads has to be decrypted
 *
 * A boot is timed from the machine's start, so behind the unlocking, to the guest's GUEST-READY; also by the processor time of
 * page and worker, which stays the same where others make the machine busy. What unlocking takes is timed apart, as a visit
 * has it: the page is reloaded, and from the passphrase to the machine's start.
 *
 * Boots differ by more than what is looked for. So the disk's part is timed alone, too: as many reads of as many bytes as a boot
 * makes, from both whole images, in turns.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CDPSession, Page } from 'playwright-core';
import {
  copyDisk,
  createImage,
  MemoryStorage,
  newEncryption,
  openImage,
  runToEnd,
  type NewEncryption,
} from '../src/index.js';
import { GuestPage } from '../test/browser/guest-page.js';
import { launchBrowser, serveFolder } from '../test/browser/harness.js';
import { markdownTable, median } from './compare.js';

const GUEST_FOLDER = 'demo/guest';
const IMAGE = join(GUEST_FOLDER, 'linux.qcow2');
const ROUNDS = Number(process.env['ROUNDS'] ?? 5);
const BOOT_MILLISECONDS = 300_000;
const UNLOCKS = 5;

/** About what a boot reads: 9.4 MiB. */
const BOOT_READS = 240;
const READ_BYTES = 40 * 1024;
const READ_ROUNDS = 11;
const PASSPHRASE = 'correct horse battery staple';

interface Candidate {
  readonly name: string;
  /** The name of the one that it is compared with. */
  readonly peer: string;
  readonly content: 'overlay' | 'plain.qcow2' | 'encrypted.qcow2';
  readonly passphrase?: string;
}

interface Measured {
  readonly seconds: number;
  readonly processorSeconds: number;
}

const CANDIDATES: readonly Candidate[] = [
  { name: 'overlay, plain', peer: 'overlay, plain', content: 'overlay' },
  { name: 'overlay, encrypted', peer: 'overlay, plain', content: 'overlay', passphrase: PASSPHRASE },
  { name: 'whole, plain', peer: 'whole, plain', content: 'plain.qcow2' },
  { name: 'whole, encrypted', peer: 'whole, plain', content: 'encrypted.qcow2', passphrase: PASSPHRASE },
];

export async function bench(): Promise<string> {
  if (!existsSync(IMAGE)) throw new Error(`${IMAGE} is missing: make it with "npm run guest"`);
  execFileSync(process.execPath, ['demo/build.mjs'], { stdio: 'inherit' });
  const folder = mkdtempSync(join(tmpdir(), 'qcow2-wasm-bench-'));
  const server = await serveFolder('demo/dist', {
    '/guest': GUEST_FOLDER,
    '/images': folder,
    '/package': 'dist',
  });
  try {
    await makeImages(folder);
    const browser = await launchBrowser();
    try {
      const { page } = await GuestPage.open(browser, `${server.url}/`);
      await whenReady(page);
      const results = await bootInTurns(page);
      return [table(results), await readingAlone(page), await unlocking(page)].join('\n\n');
    } finally {
      await browser.close();
    }
  } finally {
    await server.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The guest's disk as whole images, neither of them compressed, as an encrypted one can't be. */
async function makeImages(folder: string): Promise<void> {
  const encryption = await newEncryption({ format: 'luks', passphrase: PASSPHRASE, iterTime: 100 });
  writeFileSync(join(folder, 'plain.qcow2'), copyOfGuest(null));
  writeFileSync(join(folder, 'encrypted.qcow2'), copyOfGuest(encryption));
}

function copyOfGuest(encryption: NewEncryption | null): Uint8Array {
  const guest = openImage(new MemoryStorage(new Uint8Array(readFileSync(IMAGE))), { readOnly: true });
  const storage = new MemoryStorage();
  createImage(storage, { size: guest.size, ...(encryption && { encryption }) });
  const copy = openImage(storage, encryption ? { encryption: encryption.opened } : {});
  runToEnd(copyDisk(guest, copy));
  copy.close();
  return storage.toBytes();
}

/** The boots of each candidate, round by round. Every other round goes backwards, so that none always follows the same one. */
async function bootInTurns(page: Page): Promise<Measured[][]> {
  const results: Measured[][] = CANDIDATES.map(() => []);
  const session = await page.context().newCDPSession(page);
  await session.send('Performance.enable');
  for (let round = 0; round < ROUNDS; round++) {
    const order = [...CANDIDATES.entries()];
    for (const [index, candidate] of round % 2 === 0 ? order : order.toReversed()) {
      results[index]!.push(await boot(page, session, candidate));
    }
  }
  return results;
}

async function boot(page: Page, session: CDPSession, { content, passphrase }: Candidate): Promise<Measured> {
  const measured = page.evaluate(timeBoot);
  await page.evaluate(
    async ({ image, secret }) => {
      const options = secret === undefined ? {} : { passphrase: secret };
      if (image === 'overlay') await window.demo.reset(options);
      else await window.demo.openImage(await (await fetch(`/images/${image}`)).blob(), options);
    },
    { image: content, secret: passphrase },
  );
  const before = await processorSeconds(session);
  const seconds = (await measured) / 1000;
  return { seconds, processorSeconds: (await processorSeconds(session)) - before };
}

/** Of the page's process, the worker's thread included, since it began. */
async function processorSeconds(session: CDPSession): Promise<number> {
  const { metrics } = await session.send('Performance.getMetrics');
  return metrics.find(({ name }) => name === 'ProcessTime')!.value;
}

/** In the page: milliseconds from the next time that it goes to `booting` until it is `ready`. */
function timeBoot(): Promise<number> {
  let startedAt = 0;
  return new Promise((resolve) => {
    const observer = new MutationObserver(() => {
      const state = document.documentElement.dataset['state'];
      if (state === 'booting') startedAt = performance.now();
      if (state !== 'ready' || startedAt === 0) return;
      observer.disconnect();
      resolve(performance.now() - startedAt);
    });
    observer.observe(document.documentElement, { attributeFilter: ['data-state'] });
  });
}

function table(results: readonly (readonly Measured[])[]): string {
  const rows = CANDIDATES.map(({ name, peer }, index) => {
    const own = results[index]!;
    const peers = results[CANDIDATES.findIndex((one) => one.name === peer)]!;
    const cells = (of: (one: Measured) => number): string[] => {
      const ratios = own.map((one, round) => of(one) / of(peers[round]!));
      const range = `${Math.min(...ratios).toFixed(2)} - ${Math.max(...ratios).toFixed(2)}`;
      return [median(own.map(of)).toFixed(1), `${median(ratios).toFixed(2)} (${range})`];
    };
    return [name, ...cells(({ seconds }) => seconds), ...cells((one) => one.processorSeconds)];
  });
  const head = ['disk', 'boot, s', 'times the plain one', 'processor, s', 'times the plain one'];
  return `Medians of ${ROUNDS} rounds; in brackets, the lowest and the highest.\n\n${markdownTable([head, ...rows])}`;
}

/** In milliseconds, what the reads of a boot take without the guest. */
async function readingAlone(page: Page): Promise<string> {
  const url = new URL('/package/opfs.js', page.url()).href;
  const request = { url, passphrase: PASSPHRASE, places: placesWithData(), length: READ_BYTES, rounds: READ_ROUNDS };
  const { plain, encrypted } = await page.evaluate(timeReads, request);
  const more = median(encrypted.map((time, round) => time - plain[round]!));
  return (
    `${BOOT_READS} reads of ${READ_BYTES / 1024} KiB alone take ${median(plain).toFixed(0)} ms from the plain whole image and ` +
    `${median(encrypted).toFixed(0)} ms from the encrypted one: ${more.toFixed(0)} ms more (medians of ${READ_ROUNDS}).`
  );
}

/** Where the guest's disk holds data, as far as a boot's reads go. */
function placesWithData(): number[] {
  const guest = openImage(new MemoryStorage(new Uint8Array(readFileSync(IMAGE))), { readOnly: true });
  const places: number[] = [];
  for (const { kind, offset, length } of guest.extents(0, guest.size)) {
    if (kind === 'zero' || kind === 'unallocated') continue;
    for (let from = offset; from + READ_BYTES <= offset + length; from += READ_BYTES) places.push(from);
  }
  return places.slice(0, BOOT_READS);
}

interface ReadRequest {
  readonly url: string;
  readonly passphrase: string;
  readonly places: readonly number[];
  readonly length: number;
  readonly rounds: number;
}

/** In the page. */
async function timeReads(request: ReadRequest): Promise<{ plain: number[]; encrypted: number[] }> {
  const { importImage, openDisk } = (await import(request.url)) as typeof import('../src/opfs.js');
  const open = async (name: string): ReturnType<typeof openDisk> => {
    await importImage({ name }, await (await fetch(`/images/${name}`)).blob());
    return openDisk({ name, passphrase: request.passphrase });
  };
  const [one, other] = [await open('plain.qcow2'), await open('encrypted.qcow2')];
  const time = async (disk: typeof one): Promise<number> => {
    const startedAt = performance.now();
    for (const place of request.places) await disk.read(place, request.length);
    return performance.now() - startedAt;
  };
  const [plain, encrypted]: [number[], number[]] = [[], []];
  for (let round = 0; round < request.rounds; round++) {
    plain.push(await time(one));
    encrypted.push(await time(other));
  }
  await Promise.all([one.close(), other.close()]);
  return { plain, encrypted };
}

/** What a visit to a protected disk waits for, and a wrong passphrase. */
async function unlocking(page: Page): Promise<string> {
  await page.evaluate((passphrase) => window.demo.reset({ passphrase }), PASSPHRASE);
  const [right, wrong, plain]: number[][] = [[], [], []];
  for (let visit = 0; visit < UNLOCKS; visit++) {
    await page.reload();
    await page.waitForFunction(() => document.documentElement.dataset['state'] === 'locked');
    wrong!.push(await unlockMilliseconds(page, 'wrong'));
    right!.push(await unlockMilliseconds(page, PASSPHRASE));
  }
  await page.evaluate(() => window.demo.reset());
  for (let visit = 0; visit < UNLOCKS; visit++) {
    await page.reload();
    plain!.push(await page.evaluate(whenBooting));
  }
  const [opened, refused, unprotected] = [right, wrong, plain].map((times) => (median(times!) / 1000).toFixed(1));
  return (
    `From the passphrase to the machine's start ${opened} s; a wrong one is refused in ${refused} s. A visit to a plain disk ` +
    `is at the machine's start ${unprotected} s after the page's.`
  );
}

function unlockMilliseconds(page: Page, passphrase: string): Promise<number> {
  return page.evaluate(async (given) => {
    const startedAt = performance.now();
    await window.demo.unlock(given).catch(() => undefined);
    return performance.now() - startedAt;
  }, passphrase);
}

/** In the page: milliseconds since it began, once it is `booting`. */
async function whenBooting(): Promise<number> {
  while (document.documentElement.dataset['state'] !== 'booting') await new Promise((next) => setTimeout(next, 10));
  return performance.now();
}

async function whenReady(page: Page): Promise<void> {
  await page.waitForFunction(() => document.documentElement.dataset['state'] === 'ready', null, {
    timeout: BOOT_MILLISECONDS,
  });
}
