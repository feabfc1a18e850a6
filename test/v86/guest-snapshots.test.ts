/**
 * A real guest in snapshots of its disk, in Node: its memory, its page cache and its disk come back as one moment, in the
 * machine they were saved in and in one that was just built. One boot serves every test here, in this order.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { V86 } from 'v86';
import { checkImage, localSnapshots, MemoryStorage, runToEnd, type Qcow2Image } from '../../src/index.js';
import { attach, type Attachment } from '../../src/v86/attach.js';
import { localDisk } from '../../src/v86/v86-disk.js';
import { newGuestOverlay, openGuestOverlay } from './guest-disk.js';
import { createMachine, MEMORY_BYTES, readArrayBuffer, SerialConsole } from './machine.js';

const GUEST = fileURLToPath(new URL('../../demo/guest/', import.meta.url));
const IMAGE = join(GUEST, 'linux.qcow2');
const BOOT_MILLISECONDS = 180_000;

interface Machine {
  readonly image: Qcow2Image;
  readonly emulator: V86;
  readonly attachment: Attachment;
  readonly guest: SerialConsole;
}

const built: V86[] = [];
let storage: MemoryStorage;
let machine: Machine;
/** The counter when A and B were saved. */
const counts = { a: 0, b: 0 };

/** A machine on the image in `overlay`; it does not run yet. */
async function build(overlay: MemoryStorage, memoryBytes = MEMORY_BYTES): Promise<Machine> {
  const image = openGuestOverlay(IMAGE, overlay);
  const disk = localDisk(image, { name: `disk ${built.length}`, snapshots: localSnapshots(image) });
  const firmware = {
    bios: readArrayBuffer(join(GUEST, 'bios/bios.bin')),
    vgaBios: readArrayBuffer(join(GUEST, 'bios/vgabios-stdvga.bin')),
  };
  const emulator = createMachine(disk, firmware, memoryBytes);
  built.push(emulator);
  const attachment = await attach(emulator, disk);
  return { image, emulator, attachment, guest: new SerialConsole(emulator) };
}

/** What the guest's own memory, its page cache and its disk hold: the counter, a file not synced, a file synced. */
async function look({ guest }: Machine): Promise<{ count: number; cached: string; stored: string }> {
  const { output } = await guest.run('cat /run/count /root/cached /root/stored');
  const [count = '', cached = '', stored = ''] = output.split('\n');
  return { count: Number(count), cached, stored };
}

async function change({ guest }: Machine, word: string): Promise<void> {
  const { status } = await guest.run(`echo ${word} > /root/stored; sync; echo ${word} > /root/cached`);
  expect(status).toBe(0);
}

beforeAll(async () => {
  storage = newGuestOverlay(IMAGE);
  machine = await build(storage);
  const { emulator, guest } = machine;
  await emulator.run();
  await guest.waitFor(/GUEST-READY/, BOOT_MILLISECONDS);
  await guest.run('echo 1 > /proc/sys/kernel/printk; mount -t tmpfs none /run');
  // A loop that lives in memory alone: its variable, and a file system without a disk.
  await guest.run('(i=0; while :; do i=$((i+1)); echo $i > /run/n; mv /run/n /run/count; sleep 0.05; done) & sleep 1');
}, BOOT_MILLISECONDS);

afterAll(async () => {
  for (const emulator of built) await emulator.destroy();
});

describe('a Linux guest', () => {
  it('is saved twice, and runs on each time', async () => {
    await change(machine, 'one');
    counts.a = (await look(machine)).count;
    expect(counts.a).toBeGreaterThan(0);
    const a = await machine.attachment.saveSnapshot('A');
    expect(a).toMatchObject({ loadable: null, machine: { emulator: 'v86', memoryBytes: MEMORY_BYTES } });
    await machine.guest.run('sleep 1');
    await change(machine, 'two');
    counts.b = (await look(machine)).count;
    expect(counts.b).toBeGreaterThan(counts.a);
    const b = await machine.attachment.saveSnapshot('B');
    expect(b.runningSeconds).toBeGreaterThan(a.runningSeconds);
    await change(machine, 'three');
  });

  it('is back at A with memory, page cache and disk, and its loop goes on from there', async () => {
    await machine.attachment.loadSnapshot('A');
    const before = await look(machine);
    expect(before).toMatchObject({ cached: 'one', stored: 'one' });
    expect(before.count).toBeGreaterThanOrEqual(counts.a);
    expect(before.count).toBeLessThan(counts.b);
    await machine.guest.run('sleep 1');
    expect((await look(machine)).count).toBeGreaterThan(before.count);
  });

  it('is then back at B', async () => {
    await machine.attachment.loadSnapshot('B');
    const { count, ...files } = await look(machine);
    expect(files).toEqual({ cached: 'two', stored: 'two' });
    expect(count).toBeGreaterThanOrEqual(counts.b);
  });

  it('has seen no error of its disk, and reads and writes it', async () => {
    const { output } = await machine.guest.run('dmesg | grep -cE "I/O error|exception|timeout|EXT4-fs error"');
    expect(output).toBe('0');
    const written = await machine.guest.run('dd if=/dev/urandom of=/root/more bs=64k count=16 conv=fsync');
    expect(written.status).toBe(0);
    const again = 'sha256sum /root/more; echo 3 > /proc/sys/vm/drop_caches; sha256sum /root/more';
    const sums = (await machine.guest.run(again)).output.match(/[0-9a-f]{64}/g);
    expect(sums).toHaveLength(2);
    expect(sums![0]).toBe(sums![1]);
  });

  it('costs a few per cent when it did nothing since', async () => {
    const { ownBytes: whole } = await onlySnapshotOf(machine, 'first');
    await machine.guest.run('sleep 1');
    const { ownBytes: idle } = await machine.attachment.saveSnapshot('second');
    expect(idle).toBeLessThan(whole * 0.05);
  });

  it('is refused by a machine with other memory, which runs on untouched', async () => {
    const smaller = await build(await copyOf(machine), MEMORY_BYTES / 2);
    await smaller.emulator.run();
    await expect(smaller.attachment.loadSnapshot('first')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining(`memory size ${MEMORY_BYTES}; here it is ${MEMORY_BYTES / 2}`) as string,
    });
    expect(smaller.emulator.is_running()).toBe(true);
    await smaller.attachment.quiesce();
  });

  it('is at its shell in a machine that was just built, without a boot', async () => {
    const fresh = await build(await copyOf(machine));
    await fresh.attachment.loadSnapshot('second');
    expect(fresh.emulator.is_running()).toBe(false);
    await fresh.emulator.run();
    expect(await look(fresh)).toMatchObject({ cached: 'two', stored: 'two' });
    expect(fresh.guest.text).not.toContain('GUEST-READY');
    expect((await fresh.guest.run('sync; dmesg | grep -c "I/O error"')).output).toBe('0');
    await fresh.attachment.quiesce();
  });

  it('leaves an image without corruptions or leaks, also when all snapshots are deleted', async () => {
    for (const { id } of await machine.attachment.listSnapshots()) await machine.attachment.deleteSnapshot(id);
    await machine.attachment.quiesce();
    machine.image.flush();
    expect(runToEnd(checkImage(storage))).toMatchObject({ corruptions: 0, leaks: 0 });
  });
});

/** Deletes all others and saves one that shares with none. */
async function onlySnapshotOf({ attachment }: Machine, name: string): Promise<{ ownBytes: number }> {
  for (const { id } of await attachment.listSnapshots()) await attachment.deleteSnapshot(id);
  return attachment.saveSnapshot(name);
}

/** The image as another page finds it: what is stable now. */
async function copyOf({ attachment }: Machine): Promise<MemoryStorage> {
  await attachment.flush();
  return new MemoryStorage(storage.toBytes());
}
