/**
 * Snapshots of disks in OPFS, in real Chromium. They prove:
 * - what is saved, VM state included, is there after a reload; images with snapshots go from QEMU to the browser and back;
 * - an export has all snapshots, and QEMU finds nothing wrong with it; the file as it is has them over its backing file;
 * - a worker that is ended at any moment of a save, a restore or a delete leaves the state before or the state after.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectCleanCheck, qemuBytes, qemuCheck, qemuCreate, qemuImg, qemuInfo, qemuIo } from '../interop/qemu.js';
import { expectSameBytes } from '../support/model-disk.js';
import { openFixture, reload, serveFixture } from './fixture-page.js';
import { launchBrowser, showConsoleOnFailure, type FolderServer, type TestBrowser } from './harness.js';

const MIB = 1 << 20;
const STATE_BYTES = 3 * MIB + 1000;

let server: FolderServer;
let browser: TestBrowser;
let scratch: string;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'qcow2-wasm-snapshots-'));
  server = await serveFixture({ '/scratch': scratch });
  browser = await launchBrowser();
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(scratch, { recursive: true, force: true });
});
showConsoleOnFailure(() => browser);

type Content = 'all' | 'disk alone' | 'snapshot B' | 'file';

/** Exports `window.disk` and stores what comes out of the page. Returns the path. */
async function exportTo(page: Page, name: string, content: Content): Promise<string> {
  const text = await page.evaluate(async (what) => {
    const { disk } = window;
    const blob = await (what === 'file'
      ? disk.exportFile()
      : disk.exportImage(
          what === 'snapshot B' ? { snapshot: 'B' } : what === 'disk alone' ? { snapshots: false } : undefined,
        ));
    const bytes = new Uint8Array(await blob.arrayBuffer());
    let binary = '';
    for (let at = 0; at < bytes.length; at += 0x8000) binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
    return btoa(binary);
  }, content);
  const path = join(scratch, name);
  writeFileSync(path, Buffer.from(text, 'base64'));
  return path;
}

/** The base, with 1 MiB of `value` in it. */
function contentWith(value: number): Buffer {
  const bytes = Buffer.alloc(8 * MIB, 0x11);
  return bytes.fill(value, 2 * MIB, 3 * MIB);
}

/** Opens `window.disk`, an overlay over a base that is all 0x11, with the snapshots A and B, both with VM state. */
async function openWithSnapshots(page: Page, name: string): Promise<unknown> {
  writeFileSync(join(scratch, 'base.raw'), Buffer.alloc(8 * MIB, 0x11));
  return page.evaluate(
    async ({ diskName, stateBytes }) => {
      const base = await (await fetch('/scratch/base.raw')).blob();
      await window.qcow2.storeFile({ name: 'base.raw' }, base);
      const disk = await window.qcow2.openDisk({
        name: diskName,
        backing: ['base.raw'],
        create: { backing: { name: 'base.raw', format: 'raw' } },
      });
      window.disk = disk;
      const fill = (length: number, value: number) => new Uint8Array(length).fill(value);
      await disk.write(2 << 20, fill(1 << 20, 0xa));
      const first = await disk.snapshots.writeVmState(0, fill(stateBytes, 0xa), {});
      await disk.snapshots.create({ name: 'A', vmStateBytes: stateBytes, vmClock: 5_000_000_000n });
      await disk.write(2 << 20, fill(1 << 20, 0xb));
      const state = fill(stateBytes, 0xa);
      state.fill(0xb, 0, 1000);
      const second = await disk.snapshots.writeVmState(0, state, { like: '1' });
      await disk.snapshots.create({ name: 'B', vmStateBytes: stateBytes });
      await disk.write(2 << 20, fill(1 << 20, 0xc));
      await disk.flush();
      return { first, second };
    },
    { diskName: name, stateBytes: STATE_BYTES },
  );
}

describe('snapshots of a disk in OPFS', () => {
  it('are there after a reload, disk and VM state of one moment; an equal state takes no room again', async () => {
    const page = await openFixture(browser, server);
    const written = await openWithSnapshots(page, 'reload.qcow2');
    expect(written).toEqual({
      first: { stored: STATE_BYTES, shared: 0, zero: 0 },
      second: { stored: 65_536, shared: STATE_BYTES - 65_536, zero: 0 },
    });
    await reload(page);
    const seen = await page.evaluate(async (stateBytes) => {
      window.disk = await window.qcow2.openDisk({ name: 'reload.qcow2', backing: ['base.raw'] });
      const { disk } = window;
      const summary: unknown[] = [];
      for (const { id, name, vmStateBytes, vmClock, ownBytes } of await disk.snapshots.list()) {
        const state = await disk.snapshots.readVmState(id, 0, stateBytes);
        await disk.snapshots.goto(id);
        const bytes = await disk.read(2 << 20, 1 << 20);
        const whole = bytes.every((byte) => byte === bytes[0]);
        summary.push([name, vmStateBytes, Number(vmClock), ownBytes > 0, state[0], state[1000], bytes[0], whole]);
      }
      await disk.snapshots.delete('1');
      const left = (await disk.snapshots.list()).map(({ name }) => name);
      const state = await disk.snapshots.readVmState('2', 0, stateBytes);
      await disk.close();
      return { summary, left, state: [state[0], state[stateBytes - 1]] };
    }, STATE_BYTES);
    expect(seen).toEqual({
      summary: [
        ['A', STATE_BYTES, 5_000_000_000, true, 0xa, 0xa, 0xa, true],
        ['B', STATE_BYTES, 0, true, 0xb, 0xa, 0xb, true],
      ],
      left: ['B'],
      state: [0xb, 0xa],
    });
    await page.close();
  });

  it('are exported whole: QEMU checks, lists, converts and deletes them', async () => {
    const page = await openFixture(browser, server);
    await openWithSnapshots(page, 'export.qcow2');
    const image = await exportTo(page, 'whole.qcow2', 'all');
    expectCleanCheck(image, 'of the export');
    expect(qemuInfo(image)).toMatchObject({
      snapshots: [
        { id: '1', name: 'A', 'vm-state-size': STATE_BYTES, 'vm-clock-sec': 5 },
        { id: '2', name: 'B', 'vm-state-size': STATE_BYTES },
      ],
    });
    expect(qemuInfo(image)).not.toHaveProperty('backing-filename');
    expectSameBytes(qemuBytes(image), contentWith(0xc), 'the disk');
    expectSameBytes(qemuBytes(image, { snapshot: 'A' }), contentWith(0xa), 'A');
    expectSameBytes(qemuBytes(image, { snapshot: 'B' }), contentWith(0xb), 'B');
    qemuImg('snapshot', '-d', 'A', image);
    expectCleanCheck(image, 'after QEMU deleted A');

    const alone = await exportTo(page, 'alone.qcow2', 'disk alone');
    expect(qemuInfo(alone)).not.toHaveProperty('snapshots');
    expectSameBytes(qemuBytes(alone), contentWith(0xc), 'the disk alone');
    const one = await exportTo(page, 'one.qcow2', 'snapshot B');
    expectCleanCheck(one);
    expect(qemuInfo(one)).not.toHaveProperty('snapshots');
    expectSameBytes(qemuBytes(one), contentWith(0xb), 'the disk of B');
    await page.evaluate(() => window.disk.close());
    await page.close();
  });

  it('are in the file as it is, over the backing file that lies beside it', async () => {
    const page = await openFixture(browser, server);
    await openWithSnapshots(page, 'file.qcow2');
    const image = await exportTo(page, 'file.qcow2', 'file');
    expectCleanCheck(image);
    expect(qemuInfo(image)).toMatchObject({ 'backing-filename': 'base.raw' });
    expectSameBytes(qemuBytes(image), contentWith(0xc), 'the disk');
    expectSameBytes(qemuBytes(image, { snapshot: 'A' }), contentWith(0xa), 'A');
    await page.evaluate(() => window.disk.close());
    await page.close();
  });

  it('that QEMU made are listed, gone to and deleted, also where the disk had another size', async () => {
    const image = join(scratch, 'from-qemu.qcow2');
    qemuCreate(image, { size: MIB });
    qemuIo(image, ['write -P 1 0 1M']);
    qemuImg('snapshot', '-c', 'small', image);
    qemuImg('resize', '-q', image, '3M');
    qemuIo(image, ['write -P 2 0 3M']);
    qemuImg('snapshot', '-c', 'large', image);
    const page = await openFixture(browser, server);
    const seen = await page.evaluate(async () => {
      const blob = await (await fetch('/scratch/from-qemu.qcow2')).blob();
      await window.qcow2.importImage({ name: 'from-qemu.qcow2' }, blob);
      window.disk = await window.qcow2.openDisk({ name: 'from-qemu.qcow2' });
      const { disk } = window;
      const names = (await disk.snapshots.list()).map(({ id, name }) => `${id} ${name}`);
      const sizes = [disk.info.size];
      await disk.snapshots.goto('1');
      sizes.push(disk.info.size);
      const first = (await disk.read(0, 1))[0];
      await disk.write(0, new Uint8Array(512).fill(7));
      await disk.snapshots.delete('1');
      return { names, sizes, first };
    });
    expect(seen).toEqual({ names: ['1 small', '2 large'], sizes: [3 * MIB, MIB], first: 1 });
    const back = await exportTo(page, 'back.qcow2', 'file');
    expectCleanCheck(back);
    expectSameBytes(qemuBytes(back), Buffer.alloc(MIB, 1).fill(7, 0, 512), 'the disk');
    qemuImg('snapshot', '-a', 'large', back);
    expectSameBytes(qemuBytes(back), Buffer.alloc(3 * MIB, 2), 'the snapshot');
    await page.evaluate(() => window.disk.close());
    await page.close();
  });
});

/** What a round of `endAtRandom` did and found. */
interface Round {
  readonly operation: string;
  /** It was answered before the worker was ended. */
  readonly answered: boolean;
  /** What is neither the state before nor that after; null when all is well. */
  readonly problem: string | null;
}

interface Rounds {
  readonly rounds: Round[];
  /** What the active disk and each snapshot must hold, by name: a byte, all over. */
  readonly active: number;
  readonly snapshots: [string, number][];
}

/**
 * Runs in the page: random operations on snapshots, each of which is cut off by the end of its worker. The disk holds 2 MiB of
 * one byte, and so does each VM state.
 */
async function endAtRandom({ count, seed }: { count: number; seed: number }): Promise<Rounds> {
  const LENGTH = 2 << 20;
  let random = seed;
  const below = (limit: number): number => {
    random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((random / 2 ** 32) * limit);
  };
  const open = () => window.qcow2.openDisk({ name: 'ended.qcow2', create: { size: 8 << 20 } });
  const fill = (value: number) => new Uint8Array(LENGTH).fill(value);
  const valueOf = (bytes: Uint8Array): number => (bytes.every((byte) => byte === bytes[0]) ? bytes[0]! : -1);

  const rounds: Round[] = [];
  const snapshots = new Map<string, number>();
  let active = 0;
  // Two that are whole: there is one to go to and one to delete from the first round on, however slow the machine is.
  window.disk = await open();
  for (const value of [254, 255]) {
    await window.disk.write(0, fill(value));
    await window.disk.snapshots.writeVmState(0, fill(value), { compress: true });
    await window.disk.snapshots.create({ name: `n${value}`, id: String(value), vmStateBytes: LENGTH });
    snapshots.set(String(value), (active = value));
  }
  await window.disk.close();
  // The first of each kind is cut off as soon as it was asked for, however fast the machine is.
  const neverCut = new Set(['save', 'go', 'delete']);
  for (let round = 1; round <= count; round++) {
    let disk = await open();
    const after = new Map(snapshots);
    const ids = [...snapshots.keys()];
    const chosen = ids[below(ids.length)];
    let activeAfter = active;
    let operation: string;
    let running: Promise<unknown>;
    const choice = below(4);
    if (chosen === undefined || choice < 2) {
      active = activeAfter = 1 + (round % 250);
      await disk.write(0, fill(active));
      await disk.flush();
      operation = `save ${round}`;
      after.set(String(round), active);
      running = disk.snapshots
        .writeVmState(0, fill(active), { like: ids.at(-1) ?? null, compress: choice === 0 })
        .then(() => disk.snapshots.create({ name: `n${round}`, id: String(round), vmStateBytes: LENGTH }));
    } else if (choice === 2) {
      operation = `go to ${chosen}`;
      activeAfter = snapshots.get(chosen)!;
      running = disk.snapshots.goto(chosen);
    } else {
      operation = `delete ${chosen}`;
      after.delete(chosen);
      running = disk.snapshots.delete(chosen);
    }
    let answered = false;
    void running.then(
      () => (answered = true),
      () => undefined,
    );
    // Turns of the event loop, so that an answer is noticed; a timer's steps would be too long.
    const milliseconds = below(16_000) / 1000;
    const end = performance.now() + (neverCut.delete(operation.split(' ')[0]!) ? 0 : milliseconds);
    while (performance.now() < end) {
      await new Promise<void>((resolve) => {
        const { port1, port2 } = new MessageChannel();
        port1.addEventListener('message', () => resolve());
        port1.start();
        port2.postMessage(null);
      });
    }
    disk.terminate();

    disk = await open();
    const listed = (await disk.snapshots.list()).map(({ id }) => id).join();
    const value = valueOf(await disk.read(0, LENGTH));
    const isOld = listed === ids.join() && value === active && !answered;
    const isNew = listed === [...after.keys()].join() && value === activeAfter;
    let problem = isOld || isNew ? null : `snapshots ${listed}, disk ${value}; answered: ${answered}`;
    if (isNew) {
      active = activeAfter;
      snapshots.clear();
      for (const [id, held] of after) snapshots.set(id, held);
    }
    for (const [id, held] of snapshots) {
      const state = valueOf(await disk.snapshots.readVmState(id, 0, LENGTH));
      if (state !== held) problem ??= `the VM state of ${id} is ${state}, not ${held}`;
    }
    rounds.push({ operation, answered, problem });
    await disk.close();
  }
  window.disk = await open();
  return { rounds, active, snapshots: [...snapshots].map(([id, value]) => [`n${id}`, value]) };
}

describe('a worker that is ended while it works on snapshots', () => {
  it('leaves the state before or the state after, 24 times, and QEMU finds no corruption', async () => {
    const page = await openFixture(browser, server);
    const { rounds, active, snapshots } = await page.evaluate(endAtRandom, { count: 24, seed: 4 });
    expect(rounds.filter(({ problem }) => problem !== null)).toEqual([]);
    const kinds = new Set(rounds.filter(({ answered }) => !answered).map(({ operation }) => operation.split(' ')[0]));
    expect(kinds).toEqual(new Set(['save', 'go', 'delete']));
    const image = await exportTo(page, 'ended.qcow2', 'file');
    expect(qemuCheck(image)).toMatchObject({ corruptions: 0, checkErrors: 0 });
    const holding = (value: number): Buffer => Buffer.alloc(8 * MIB).fill(value, 0, 2 * MIB);
    expectSameBytes(qemuBytes(image), holding(active), 'the disk');
    for (const [snapshot, value] of snapshots) {
      expectSameBytes(qemuBytes(image, { snapshot }), holding(value), snapshot);
    }
    await page.evaluate(() => window.disk.close());
    await page.close();
  });
});
