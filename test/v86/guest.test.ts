/**
 * A real guest on our disk, in Node: what Linux sees of flushes and errors. One boot serves every test here; the last
 * one leaves the guest's file system broken.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { V86 } from 'v86';
import { attach, type Attachment } from '../../src/v86/attach.js';
import { localDisk, type DiskFault, type V86Disk } from '../../src/v86/v86-disk.js';
import { FaultDisk } from './fault-disk.js';
import { guestDisk } from './guest-disk.js';
import { createMachine, readArrayBuffer, SerialConsole } from './machine.js';

const GUEST = fileURLToPath(new URL('../../demo/guest/', import.meta.url));
const BOOT_MILLISECONDS = 180_000;

const faults: DiskFault[] = [];
let inner: FaultDisk;
let disk: V86Disk;
let emulator: V86;
let attachment: Attachment;
let guest: SerialConsole;

beforeAll(async () => {
  const image = join(GUEST, 'linux.qcow2');
  if (!existsSync(image)) throw new Error('demo/guest/linux.qcow2 is missing: make it with `npm run guest`');
  inner = new FaultDisk(guestDisk(image));
  disk = localDisk(inner, { name: 'guest', onError: (fault) => faults.push(fault) });
  emulator = createMachine(disk, {
    bios: readArrayBuffer(join(GUEST, 'bios/bios.bin')),
    vgaBios: readArrayBuffer(join(GUEST, 'bios/vgabios-stdvga.bin')),
  });
  guest = new SerialConsole(emulator);
  // Long timers: what reaches the disk's flush in these tests, the guest has sent.
  attachment = await attach(emulator, disk, { durability: { quietMilliseconds: 1e6, maximumMilliseconds: 1e6 } });
  await emulator.run();
  await guest.waitFor(/GUEST-READY/, BOOT_MILLISECONDS);
  await guest.run('echo 1 > /proc/sys/kernel/printk');
}, BOOT_MILLISECONDS);

afterAll(async () => {
  await emulator?.destroy();
});

describe('a Linux guest', () => {
  it('sees a write cache, and its sync reaches the flush of our disk', async () => {
    expect(attachment.seam).toBe('flush-hook');
    expect((await guest.run('cat /sys/block/sda/queue/write_cache')).output).toBe('write back');
    const before = inner.flushes;
    expect((await guest.run('echo kept > /root/kept; sync')).status).toBe(0);
    expect(inner.flushes).toBeGreaterThan(before);
  });

  it('reads back what it wrote, through its page cache and from the disk', async () => {
    const write = await guest.run(
      'dd if=/dev/urandom of=/root/random bs=64k count=16 conv=fsync && sha256sum /root/random',
    );
    const again = await guest.run('echo 3 > /proc/sys/vm/drop_caches; sha256sum /root/random');
    const sum = /[0-9a-f]{64}/;
    expect(sum.exec(again.output)?.[0]).toBeDefined();
    expect(sum.exec(again.output)?.[0]).toBe(sum.exec(write.output)?.[0]);
  });

  it('can be stopped with nothing in flight, and goes on', async () => {
    await attachment.quiesce();
    expect(emulator.is_running()).toBe(false);
    expect(disk.activity.inFlight).toBe(0);
    await emulator.run();
    expect((await guest.run('echo alive')).output).toBe('alive');
  });

  it('gets an I/O error for a read that failed, at once instead of after a time-out', async () => {
    inner.failReadAt = disk.byteLength - 4096;
    const skip = inner.failReadAt / 4096;
    const direct = await guest.run(`dd if=/dev/sda of=/dev/null bs=4096 skip=${skip} count=1`);
    inner.failReadAt = null;
    expect(direct.output).toContain('Input/output error');
    expect(direct.status).not.toBe(0);
    expect(direct.milliseconds).toBeLessThan(10_000);
    expect(faults.at(-1)).toMatchObject({ operation: 'read' });
    expect((await guest.run(`dd if=/dev/sda of=/dev/null bs=4096 skip=${skip} count=1`)).status).toBe(0);
  });

  it('gets EIO from fsync when the flush of the disk fails', async () => {
    inner.failFlush = true;
    const failed = await guest.run('dd if=/dev/zero of=/root/lost bs=4k count=1 conv=fsync');
    inner.failFlush = false;
    expect(failed.status).not.toBe(0);
    expect(failed.output).toMatch(/Input\/output error|Read-only file system/);
    expect(failed.milliseconds).toBeLessThan(10_000);
    expect(faults.at(-1)).toMatchObject({ operation: 'flush' });
  });
});
