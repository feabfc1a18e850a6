/**
 * Snapshots of a machine: the real engine below, an emulator without a processor above. What these prove: memory and disk
 * are of one moment, step by step, one operation at a time; and the list says what there is.
 */
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../src/index.js';
import { DISK_BYTES, expectSound, live, lived, machineOn, names, newMachine } from './snapshot-machine.js';

describe('saving and loading', () => {
  it('brings memory and disk back as one moment, in any order', async () => {
    const machine = await newMachine();
    live(machine, 1);
    await machine.attachment.saveSnapshot('A');
    live(machine, 2);
    await machine.attachment.saveSnapshot('B');
    live(machine, 3);
    await machine.attachment.loadSnapshot('A');
    expect(await lived(machine)).toEqual({ memory: 1, disk: 1 });
    await machine.attachment.loadSnapshot('B');
    expect(await lived(machine)).toEqual({ memory: 2, disk: 2 });
    expect(machine.emulator.is_running()).toBe(true);
    expectSound(machine);
  });

  it('goes step by step: stop, flush, state, disk, run; and what had the name goes last', async () => {
    const machine = await newMachine();
    live(machine, 1);
    const { snapshots, emulator, attachment } = machine;
    snapshots.before = {
      call: 'discardVmState',
      action: async () => {
        expect(emulator.is_running()).toBe(false);
        expect(attachment.activity).toMatchObject({ dirty: false, inFlight: 0 });
      },
    };
    const first = await attachment.saveSnapshot('A');
    expect(emulator.calls).toEqual(['stop', 'save_state', 'run']);
    expect(snapshots.changes).toEqual(['discardVmState', 'create A']);
    live(machine, 2);
    const second = await attachment.saveSnapshot('A');
    expect(snapshots.changes.slice(2)).toEqual(['discardVmState', 'create A', `delete ${first.id}`]);
    expect((await attachment.listSnapshots()).map(({ id }) => id)).toEqual([second.id]);
    emulator.calls.length = 0;
    await attachment.loadSnapshot('A');
    expect(emulator.calls).toEqual(['stop', 'restore_state', 'run']);
    expectSound(machine);
  });

  it('lets a request of the guest end first, which is then undone', async () => {
    const machine = await newMachine();
    live(machine, 1);
    await machine.attachment.saveSnapshot('A');
    const { source } = machine.disk;
    const write = source.write.bind(source);
    const slowly = async (offset: number, data: Uint8Array<ArrayBuffer>): Promise<void> => {
      await new Promise((resolve) => setTimeout(resolve, 30));
      await write(offset, data);
    };
    Object.assign(source, { write: slowly });
    live(machine, 2);
    await machine.attachment.loadSnapshot('A');
    await machine.disk.whenIdle();
    expect(await lived(machine)).toEqual({ memory: 1, disk: 1 });
  });

  it('leaves a machine that stood still standing', async () => {
    const machine = await newMachine();
    await machine.attachment.quiesce();
    await machine.attachment.saveSnapshot('A');
    await machine.attachment.loadSnapshot('A');
    expect(machine.emulator.is_running()).toBe(false);
    expect(machine.emulator.calls).not.toContain('run');
  });

  it('stores what has changed only, against the snapshot that memory comes from', async () => {
    const machine = await newMachine({ memoryBytes: 4 * 2 ** 20 });
    for (let page = 0; page < 1024; page++)
      machine.emulator.memory.fill(1 + (page % 250), page * 4096, page * 4096 + 9);
    const fillAt = (page: number) => (machine.emulator.memory[page * 4096] = 0xa5);
    const cost = async (name: string): Promise<number> => {
      const before = machine.snapshots.writtenBytes;
      await machine.attachment.saveSnapshot(name);
      return machine.snapshots.writtenBytes - before;
    };
    const whole = await cost('A');
    expect(whole).toBeGreaterThan(3 * 2 ** 20);
    expect(await cost('B')).toBeLessThan(whole / 50);
    for (let page = 0; page < 512; page++) machine.emulator.memory[page * 4096 + 9] = 1;
    expect(await cost('C')).toBeGreaterThan(whole / 3);
    // Back at B, C is the newest, but B is like it.
    await machine.attachment.loadSnapshot('B');
    fillAt(700);
    expect(await cost('D')).toBeLessThan(whole / 50);
    await machine.attachment.deleteSnapshot('B');
    await machine.attachment.deleteSnapshot('A');
    await machine.attachment.loadSnapshot('D');
    expect(machine.emulator.memory[700 * 4096]).toBe(0xa5);
    expectSound(machine);
  });

  it('takes a state out of its own image whatever the disk is called by now', async () => {
    const { storage, attachment, image } = await newMachine({ name: 'before' });
    await attachment.saveSnapshot('A');
    image.flush();
    const renamed = await machineOn(new MemoryStorage(storage.toBytes()), { name: 'after' });
    live(renamed, 5);
    expect(await renamed.attachment.loadSnapshot('A')).toMatchObject({ loadable: null });
    expect(await lived(renamed)).toEqual({ memory: 0, disk: 0 });
    // By itself, a state still only fits a disk of its name.
    const state = ['before', DISK_BYTES, 1];
    expect(() => renamed.disk.set_state(state)).toThrow('saved with disk "before"');
  });

  it('forgets what it knew of the disk: the first sector, and writes that were not stable', async () => {
    const machine = await newMachine();
    const { disk, attachment } = machine;
    const cached = () => new Promise<Uint8Array>((resolve) => disk.get_and_cache(0, 512, resolve));
    disk.set(0, new Uint8Array(512).fill(1), () => undefined);
    await attachment.saveSnapshot('A');
    disk.set(0, new Uint8Array(512).fill(2), () => undefined);
    await cached();
    expect(disk.get_from_cache(0, 1)).toEqual(Uint8Array.of(2));
    const { epoch } = disk;
    await attachment.loadSnapshot('A');
    expect(disk.get_from_cache(0, 1)).toBeUndefined();
    expect((await cached())[0]).toBe(1);
    expect(disk.epoch).toBeGreaterThan(epoch);
    expect(attachment.activity.dirty).toBe(false);
  });

  it('counts the time that the machine ran, and goes on from that of the snapshot', async () => {
    const machine = await newMachine();
    const pass = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
    await pass(60);
    const startedAt = performance.now();
    const first = await machine.attachment.saveSnapshot('A');
    expect(first.runningSeconds).toBeGreaterThan(0.05);
    await pass(60);
    await machine.attachment.quiesce();
    const ranAtMost = (performance.now() - startedAt) / 1000;
    await pass(ranAtMost * 1000 + 50);
    const second = await machine.attachment.saveSnapshot('B');
    expect(second.runningSeconds - first.runningSeconds).toBeGreaterThan(0.05);
    expect(second.runningSeconds - first.runningSeconds).toBeLessThan(ranAtMost);
    await machine.attachment.loadSnapshot('A');
    const third = await machine.attachment.saveSnapshot('C');
    expect(third.runningSeconds).toBeCloseTo(first.runningSeconds, 6);
  });
});

describe('a list of snapshots', () => {
  it('shows who made them, when, for what machine, and the picture', async () => {
    const machine = await newMachine();
    const picture = Uint8Array.from({ length: 5000 }, (_, index) => index);
    const before = Date.now();
    await machine.attachment.saveSnapshot('A', { picture });
    await machine.attachment.saveSnapshot('B', { picture: async () => null });
    const [first, second] = await machine.attachment.listSnapshots();
    expect(first).toMatchObject({
      id: '1',
      name: 'A',
      diskSize: DISK_BYTES,
      machine: { emulator: 'v86', stateVersion: 6, memoryBytes: 2 ** 20 },
      loadable: null,
    });
    expect(Buffer.compare(first!.picture!, picture)).toBe(0);
    expect(first!.date.getTime()).toBeGreaterThanOrEqual(before);
    expect(first!.date.getTime()).toBeLessThanOrEqual(Date.now());
    expect(first!.ownBytes).toBeGreaterThan(0);
    expect(second).toMatchObject({ name: 'B', picture: null });
  });

  it('shows no picture that is damaged, which keeps nobody from loading', async () => {
    const machine = await newMachine();
    await machine.attachment.saveSnapshot('A', { picture: new Uint8Array(100).fill(7) });
    const { inner } = machine.snapshots;
    const read = inner.readVmState.bind(inner);
    inner.readVmState = async (id, offset, length) => {
      const bytes = await read(id, offset, length);
      return length === 100 ? bytes.fill(8, 0, 1) : bytes;
    };
    expect((await machine.attachment.listSnapshots())[0]).toMatchObject({ picture: null, loadable: null });
    await machine.attachment.loadSnapshot('A');
  });

  it('has those of others, too, and says why no machine comes out of them', async () => {
    const machine = await newMachine();
    const { inner } = machine.snapshots;
    await inner.create({ name: 'disk only' });
    const ofQemu = new Uint8Array(4096);
    ofQemu.set(new TextEncoder().encode('QEVM'));
    await inner.writeVmState(0, ofQemu, {});
    await inner.create({ name: 'savevm', vmStateBytes: 4096 });
    await inner.writeVmState(0, new Uint8Array(4096), {});
    await inner.create({ name: 'short', vmStateBytes: 3 });
    const list = await machine.attachment.listSnapshots();
    expect(list.map(({ name, machine: made, loadable }) => [name, made, loadable])).toEqual([
      ['disk only', null, expect.stringContaining('disk alone')],
      ['savevm', null, expect.stringContaining('another program')],
      ['short', null, expect.stringContaining('another program')],
    ]);
    for (const { name, loadable } of list) {
      await expect(machine.attachment.loadSnapshot(name)).rejects.toMatchObject({ message: loadable });
    }
    expect(machine.snapshots.changes).toEqual([]);
    expect(machine.emulator.is_running()).toBe(true);
  });

  it('finds one by its id, or else the newest of a name, and asks which is meant where both are there', async () => {
    const machine = await newMachine();
    const { attachment, snapshots } = machine;
    await snapshots.inner.create({ name: 'twice' });
    await snapshots.inner.create({ name: 'twice' });
    await snapshots.inner.create({ name: '1' });
    await expect(attachment.deleteSnapshot('1')).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await attachment.deleteSnapshot({ id: '1' });
    await attachment.deleteSnapshot('twice');
    expect(await names(machine)).toEqual(['1']);
    await expect(attachment.deleteSnapshot('twice')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(attachment.loadSnapshot('twice')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('operations at the same time', () => {
  it('take turns, in the order in which they were asked for', async () => {
    const machine = await newMachine();
    const { attachment, snapshots } = machine;
    live(machine, 1);
    const ended: string[] = [];
    const noted = (what: string) => () => void ended.push(what);
    await Promise.all([
      attachment.saveSnapshot('A').then(noted('save A')),
      attachment.saveSnapshot('B').then(noted('save B')),
      attachment.loadSnapshot('A').then(noted('load A')),
      attachment.deleteSnapshot('none').catch(noted('delete none')),
      attachment.deleteSnapshot('B').then(noted('delete B')),
      names(machine).then((list) => ended.push(`list ${list.join()}`)),
    ]);
    expect(ended).toEqual(['save A', 'save B', 'load A', 'delete none', 'delete B', 'list A']);
    expect(snapshots.changes).toEqual([
      'discardVmState',
      'create A',
      'discardVmState',
      'create B',
      'goto 1',
      'delete 2',
    ]);
    expect(machine.emulator.is_running()).toBe(true);
  });

  it('end before the machine is stopped for good, or the disk detached', async () => {
    const machine = await newMachine();
    const { attachment, emulator } = machine;
    const saving = attachment.saveSnapshot('A');
    await attachment.quiesce();
    expect(emulator.is_running()).toBe(false);
    expect(await saving).toMatchObject({ name: 'A' });
    expect(emulator.is_running()).toBe(false);
    const again = attachment.saveSnapshot('B');
    await attachment.detach();
    expect(await again).toMatchObject({ name: 'B' });
    await expect(attachment.saveSnapshot('C')).rejects.toMatchObject({ code: 'CLOSED' });
    expect(emulator.listeners).toBe(0);
  });

  it('are checkpoints no more when the disk is detached', async () => {
    const machine = await newMachine();
    const { attachment, emulator } = machine;
    const seen: string[] = [];
    await new Promise<void>((resolve) => {
      const onCheckpoint = ({ name }: { name: string }): void => {
        seen.push(name);
        resolve();
      };
      attachment.checkpoint({ seconds: 0.01, keep: 1, onCheckpoint, onError: (error) => seen.push(String(error)) });
    });
    await attachment.detach();
    emulator.instructions++;
    await new Promise((resolve) => setTimeout(resolve, 250));
    expect(seen).toEqual(['checkpoint 1']);
    expect((await machine.snapshots.inner.list()).map(({ name }) => name)).toEqual(['checkpoint 1']);
  });

  it('tell how far they are', async () => {
    const machine = await newMachine();
    live(machine, 1);
    const seen: number[] = [];
    await machine.attachment.saveSnapshot('A', { onProgress: ({ done, total }) => seen.push(done / total) });
    expect(seen.length).toBeGreaterThan(2);
    expect(seen).toEqual(seen.toSorted((one, other) => one - other));
    expect(seen.at(-1)).toBe(1);
  });
});
