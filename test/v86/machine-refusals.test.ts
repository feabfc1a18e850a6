/**
 * Snapshots of a machine that can't be: what fails or does not fit leaves no trace, and the machine runs on. The real engine
 * below, an emulator without a processor above.
 */
import { describe, expect, it } from 'vitest';
import { localSnapshots, MemoryStorage } from '../../src/index.js';
import { attach } from '../../src/v86/attach.js';
import { localDisk } from '../../src/v86/v86-disk.js';
import { FakeEmulator, type FakeMachineOptions } from './fake-emulator.js';
import { MemoryDisk } from './memory-disk.js';
import { expectSound, live, lived, machineOn, names, newMachine, newStorage } from './snapshot-machine.js';

describe('a state that does not belong here', () => {
  /** Saves on one machine, tries to load on another over the same image. */
  async function refused(
    saved: FakeMachineOptions,
    here: FakeMachineOptions,
  ): Promise<{ code: string; message: string }> {
    const first = await newMachine(saved);
    await first.attachment.saveSnapshot('A');
    first.image.flush();
    const machine = await machineOn(new MemoryStorage(first.storage.toBytes()), here);
    live(machine, 9);
    const [listed] = await machine.attachment.listSnapshots();
    const error: unknown = await machine.attachment.loadSnapshot('A').catch((reason: unknown) => reason);
    expect(error).toMatchObject({ message: listed!.loadable });
    expect(machine.emulator.calls).not.toContain('stop');
    expect(machine.emulator.is_running()).toBe(true);
    expect(machine.snapshots.changes).toEqual([]);
    expect(await lived(machine)).toEqual({ memory: 9, disk: 9 });
    return error as { code: string; message: string };
  }

  it('is refused for another memory size, with both', async () => {
    const error = await refused({ memoryBytes: 2 ** 20 }, { memoryBytes: 2 ** 21 });
    expect(error).toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/memory size 1048576.* 2097152/),
    });
  });

  it('is refused for another screen', async () => {
    expect(await refused({ vgaBytes: 65536 }, { vgaBytes: 131_072 })).toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('is refused for other devices, which v86 would take without a look', async () => {
    const error = await refused({ hasNetwork: false }, { hasNetwork: true });
    expect(error).toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/52,61,85; here it is 52,59,61,85/),
    });
  });

  it('is refused for another version of v86', async () => {
    const error = await refused({ version: 6 }, { version: 7 });
    expect(error).toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/state version 6; here it is 7/),
    });
  });

  it('is refused when the disk had another size', async () => {
    const machine = await newMachine();
    await machine.attachment.saveSnapshot('A');
    const { diskSize } = (await machine.attachment.listSnapshots())[0]!;
    machine.snapshots.inner.list = async () => {
      const entries = await localSnapshots(machine.image).list();
      return entries.map((entry) => ({ ...entry, diskSize: diskSize * 2 }));
    };
    await expect(machine.attachment.loadSnapshot('A')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/disk size 2097152; here it is 1048576/),
    });
    expect(machine.emulator.calls).not.toContain('restore_state');
  });

  it('is refused over another backing file, and taken where the image now stands alone', async () => {
    const overlay = newStorage('base-1');
    const first = await machineOn(overlay);
    await first.attachment.saveSnapshot('A');
    first.image.flush();
    const over = async (backingFile: string | null) => {
      const machine = await machineOn(new MemoryStorage(overlay.toBytes()));
      Object.assign(machine.disk.source, { backingFile });
      return machine.attachment.loadSnapshot('A');
    };
    await expect(over('base-2')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/backing file base-1; here it is base-2/),
    });
    expect(await over('base-1')).toMatchObject({ loadable: null });
    expect(await over(null)).toMatchObject({ loadable: null });
  });

  it('is refused when a byte of it was flipped, and the machine runs on untouched', async () => {
    const machine = await newMachine();
    live(machine, 7);
    await machine.attachment.saveSnapshot('A');
    const { inner } = machine.snapshots;
    const read = inner.readVmState.bind(inner);
    inner.readVmState = async (id, offset, length) => {
      const bytes = await read(id, offset, length);
      const flipped = 2 * 2 ** 20 + 8192 + 77 - offset;
      if (flipped >= 0 && flipped < length) bytes[flipped]! ^= 16;
      return bytes;
    };
    live(machine, 8);
    await expect(machine.attachment.loadSnapshot('A')).rejects.toMatchObject({ code: 'BAD_IMAGE' });
    expect(await lived(machine)).toEqual({ memory: 8, disk: 8 });
    expect(machine.emulator.calls).not.toContain('restore_state');
    inner.readVmState = read;
    await machine.attachment.loadSnapshot('A');
    expect(await lived(machine)).toEqual({ memory: 7, disk: 7 });
  });
});

describe('what fails', () => {
  it.each(['writeVmState', 'create'] as const)(
    'while saving, in %s, leaves no snapshot and the machine running',
    async (call) => {
      const machine = await newMachine();
      live(machine, 1);
      await machine.attachment.saveSnapshot('A');
      live(machine, 2);
      machine.snapshots.failing = { call, after: call === 'writeVmState' ? 1 : 0 };
      await expect(machine.attachment.saveSnapshot('A')).rejects.toThrow(`injected failure of ${call}`);
      expect(machine.emulator.is_running()).toBe(true);
      expect(machine.snapshots.changes).toEqual(['discardVmState', 'create A', 'discardVmState', 'discardVmState']);
      expect(await names(machine)).toEqual(['A']);
      await machine.attachment.loadSnapshot('A');
      expect(await lived(machine)).toEqual({ memory: 1, disk: 1 });
      // Nothing is left of the one that failed.
      expectSound(machine);
      await machine.attachment.deleteSnapshot('A');
      live(machine, 3);
      await machine.attachment.saveSnapshot('C');
      expectSound(machine);
    },
  );

  it('when the disk is flushed saves nothing', async () => {
    const machine = await newMachine();
    live(machine, 1);
    machine.inner.failFlush = true;
    await expect(machine.attachment.saveSnapshot('A')).rejects.toMatchObject({ code: 'IO' });
    machine.inner.failFlush = false;
    expect(machine.emulator.is_running()).toBe(true);
    expect(machine.snapshots.changes).toEqual([]);
  });

  it('going to the disk of a snapshot leaves the machine as it was', async () => {
    const machine = await newMachine();
    live(machine, 1);
    await machine.attachment.saveSnapshot('A');
    live(machine, 2);
    machine.snapshots.failing = { call: 'goto', after: 0 };
    await expect(machine.attachment.loadSnapshot('A')).rejects.toThrow('injected failure of goto');
    expect(machine.emulator.is_running()).toBe(true);
    expect(machine.emulator.calls).not.toContain('restore_state');
    expect(await lived(machine)).toEqual({ memory: 2, disk: 2 });
  });

  it('when v86 takes the state leaves the machine standing, says so, and another snapshot can be loaded', async () => {
    const machine = await newMachine();
    live(machine, 1);
    await machine.attachment.saveSnapshot('A');
    machine.emulator.failRestore = true;
    await expect(machine.attachment.loadSnapshot('A')).rejects.toMatchObject({
      code: 'V86_SEAM',
      message: expect.stringMatching(/disk is that of snapshot "A".*stands still: a device is undefined/),
    });
    await expect(machine.attachment.saveSnapshot('torn'), 'of two moments').rejects.toMatchObject({ code: 'V86_SEAM' });
    expect(machine.emulator.is_running()).toBe(false);
    machine.emulator.failRestore = false;
    await machine.attachment.loadSnapshot('A');
    expect(await lived(machine)).toEqual({ memory: 1, disk: 1 });
  });

  it('because somebody starts the machine while it is saved leaves no snapshot of two moments', async () => {
    const machine = await newMachine();
    const { snapshots, emulator } = machine;
    const startAndStop = async (): Promise<void> => {
      await emulator.run();
      await emulator.stop();
    };
    snapshots.before = { call: 'writeVmState', action: startAndStop };
    await expect(machine.attachment.saveSnapshot('A')).rejects.toMatchObject({
      message: expect.stringContaining('started'),
    });
    expect(await names(machine)).toEqual([]);
    expect(snapshots.changes.at(-1)).toBe('discardVmState');
    expect(emulator.is_running()).toBe(true);
    await machine.attachment.saveSnapshot('A');
  });

  it('because somebody starts the machine while it is loaded leaves it standing, for the disk has gone ahead', async () => {
    const machine = await newMachine();
    live(machine, 1);
    await machine.attachment.saveSnapshot('A');
    machine.snapshots.before = { call: 'goto', action: () => machine.emulator.run() };
    await expect(machine.attachment.loadSnapshot('A')).rejects.toMatchObject({ code: 'V86_SEAM' });
    expect(machine.emulator.is_running()).toBe(false);
    expect(machine.emulator.calls).not.toContain('restore_state');
    await machine.attachment.loadSnapshot('A');
    expect(await lived(machine)).toEqual({ memory: 1, disk: 1 });
  });

  it('deleting what had the name is told, and both are there', async () => {
    const machine = await newMachine();
    await machine.attachment.saveSnapshot('A');
    machine.snapshots.failing = { call: 'delete', after: 0 };
    await expect(machine.attachment.saveSnapshot('A')).rejects.toThrow('injected failure of delete');
    expect(await names(machine)).toEqual(['A', 'A']);
    expect(machine.emulator.is_running()).toBe(true);
  });

  it('refuses a picture that is too large, before anything is written', async () => {
    const machine = await newMachine();
    const picture = new Uint8Array(65537);
    await expect(machine.attachment.saveSnapshot('A', { picture })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    expect(machine.snapshots.changes).toEqual([]);
    expect(machine.emulator.is_running()).toBe(true);
  });

  it('has no snapshots without an image, and changes none of a disk that is read-only', async () => {
    const plain = localDisk(new MemoryDisk(4096));
    const attachment = await attach(new FakeEmulator(plain), plain);
    await expect(attachment.saveSnapshot('A')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await expect(attachment.listSnapshots()).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    const machine = await newMachine();
    await machine.attachment.saveSnapshot('A');
    Object.assign(machine.disk, { readOnly: true });
    await expect(machine.attachment.saveSnapshot('B')).rejects.toMatchObject({ code: 'READ_ONLY' });
    await expect(machine.attachment.loadSnapshot('A')).rejects.toMatchObject({ code: 'READ_ONLY' });
    expect((await machine.attachment.listSnapshots())[0]!.loadable).toContain('read-only');
  });
});
