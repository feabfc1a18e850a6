import { describe, expect, it } from 'vitest';
import { attach } from '../../src/v86/attach.js';
import { localDisk, V86Disk } from '../../src/v86/v86-disk.js';
import type { V86Emulator, V86Event } from '../../src/v86/v86-types.js';
import { FaultDisk } from './fault-disk.js';
import { MemoryDisk } from './memory-disk.js';

const later = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** An emulator of some other version: it holds the disk, but not where the hook could reach it. */
class StrangeEmulator implements V86Emulator {
  v86?: { cpu: { devices: { ide: object } } };
  running = true;
  readonly #listeners = new Set<() => void>();

  add_listener(event: V86Event, listener: () => void): void {
    if (event === 'emulator-loaded') this.#listeners.add(listener);
  }

  remove_listener(_event: V86Event, listener: () => void): void {
    this.#listeners.delete(listener);
  }

  load(disk: V86Disk): void {
    this.v86 = { cpu: { devices: { ide: { primary: { master: { buffer: disk } } } } } };
    for (const listener of this.#listeners) listener();
  }

  async run(): Promise<void> {
    this.running = true;
  }

  async stop(): Promise<void> {
    this.running = false;
  }

  is_running(): boolean {
    return this.running;
  }

  async save_state(): Promise<ArrayBuffer> {
    return new ArrayBuffer(16);
  }

  async restore_state(): Promise<void> {
    throw new Error('not asked for here');
  }

  get_instruction_counter(): number {
    return 0;
  }
}

describe('attaching to an emulator without the seam', () => {
  it('waits until it is loaded, says so, and makes writes stable by the timer alone', async () => {
    const inner = new FaultDisk(new MemoryDisk(4096));
    const disk = localDisk(inner);
    const emulator = new StrangeEmulator();
    const attaching = attach(emulator, disk, { durability: { quietMilliseconds: 10 } });
    emulator.load(disk);
    const attachment = await attaching;
    expect(attachment.seam).toBe('timer');
    disk.set(0, new Uint8Array(512), () => undefined);
    expect(attachment.activity.dirty).toBe(true);
    await later(60);
    expect(inner.flushes).toBe(1);
    expect(attachment.activity.dirty).toBe(false);
    await attachment.detach();
  });

  it('is refused when the hook is required, with what is missing', async () => {
    const disk = localDisk(new MemoryDisk(4096));
    const emulator = new StrangeEmulator();
    emulator.load(disk);
    await expect(attach(emulator, disk, { flushHook: 'required' })).rejects.toMatchObject({
      code: 'V86_SEAM',
      message: expect.stringContaining('ata_command') as string,
    });
    await (await attach(emulator, disk)).detach();
  });

  it('quiesces: the emulator is stopped and no request is in flight', async () => {
    const disk = localDisk(new MemoryDisk(4096));
    const emulator = new StrangeEmulator();
    emulator.load(disk);
    const attachment = await attach(emulator, disk);
    await attachment.quiesce();
    expect(emulator.is_running()).toBe(false);
    expect(attachment.activity.inFlight).toBe(0);
    await attachment.detach();
  });

  it('flushes once more when it is detached, and the disk can be attached again', async () => {
    const inner = new FaultDisk(new MemoryDisk(4096));
    const disk = localDisk(inner);
    const emulator = new StrangeEmulator();
    emulator.load(disk);
    const attachment = await attach(emulator, disk);
    await expect(attach(emulator, disk)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    disk.set(0, new Uint8Array(512), () => undefined);
    await attachment.detach();
    expect(inner.flushes).toBe(1);
    await (await attach(emulator, disk)).detach();
  });

  it('sends a flush past the requests that wait in the page when the page is left', async () => {
    let flushesSent = 0;
    const neverAnswered = () => new Promise<never>(() => undefined);
    const disk = new V86Disk({
      size: 4096,
      readOnly: false,
      read: neverAnswered,
      write: () => undefined,
      flush: () => {
        flushesSent++;
        return neverAnswered();
      },
      snapshots: null,
      clusterSize: 65536,
      backingFile: null,
    });
    const emulator = new StrangeEmulator();
    emulator.load(disk);
    const window = new EventTarget();
    await attach(emulator, disk, { durability: { quietMilliseconds: 5, page: { window } } });
    window.dispatchEvent(new Event('pagehide'));
    expect(flushesSent).toBe(0);
    disk.set(0, new Uint8Array(512), () => undefined);
    disk.get(0, 512, () => undefined);
    await later(20);
    expect(flushesSent).toBe(0);
    window.dispatchEvent(new Event('pagehide'));
    expect(flushesSent).toBe(1);
  });

  it('reports a flush of its own that failed, and goes on', async () => {
    const inner = new FaultDisk(new MemoryDisk(4096));
    const operations: string[] = [];
    const disk = localDisk(inner, { onError: ({ operation }) => operations.push(operation) });
    const emulator = new StrangeEmulator();
    emulator.load(disk);
    const attachment = await attach(emulator, disk, { durability: { quietMilliseconds: 5 } });
    inner.failFlush = true;
    disk.set(0, new Uint8Array(512), () => undefined);
    await later(40);
    expect(operations).toEqual(['flush']);
    inner.failFlush = false;
    await attachment.flush();
    expect(attachment.activity.dirty).toBe(false);
    await attachment.detach();
  });
});
