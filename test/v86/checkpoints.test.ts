import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { startCheckpoints, type CheckpointMachine } from '../../src/v86/checkpoints.js';
import type { MachineSnapshot, SaveSnapshotOptions } from '../../src/v86/machine-snapshots.js';

/** A machine with snapshots and a clock of its own. A save takes a second in which it does not run. */
class TimedMachine implements CheckpointMachine {
  entries: { id: string; name: string }[] = [];
  readonly options: SaveSnapshotOptions[] = [];
  isRunning = true;
  hasHalted = false;
  failing: 'save' | 'delete' | null = null;
  #isSaving = false;
  #ran = 0;
  #executed = 0;
  #nextId = 1;

  /** Time passes, in steps of 10 ms. */
  async pass(seconds: number): Promise<void> {
    for (let step = 0; step < seconds * 100; step++) {
      await vi.advanceTimersByTimeAsync(10);
      if (!this.isRunning || this.#isSaving) continue;
      this.#ran += 10;
      if (!this.hasHalted) this.#executed += 1000;
    }
  }

  readonly runningTime = (): number => this.#ran;
  readonly instructions = (): number => this.#executed;

  async save(name: string, options: SaveSnapshotOptions): Promise<MachineSnapshot> {
    this.#isSaving = true;
    await new Promise((resolve) => setTimeout(resolve, 1000));
    this.#isSaving = false;
    if (this.failing === 'save') throw new Error('no room');
    this.options.push(options);
    const id = String(this.#nextId++);
    this.entries.push({ id, name });
    const date = new Date(0);
    const none = { runningSeconds: 0, stateBytes: 0, ownBytes: 0, diskSize: 0, machine: null, picture: null };
    return { id, name, date, ...none, loadable: null };
  }

  async delete(id: string): Promise<void> {
    if (this.failing === 'delete') throw new Error('no delete');
    this.entries = this.entries.filter((entry) => entry.id !== id);
  }

  async list(): Promise<{ id: string; name: string }[]> {
    return this.entries;
  }

  get names(): string[] {
    return this.entries.map(({ name }) => name);
  }
}

describe('checkpoints', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('come every so many seconds of running time, and the last few are kept', async () => {
    const machine = new TimedMachine();
    const made: string[] = [];
    const checkpoints = startCheckpoints(machine, { seconds: 5, keep: 2, onCheckpoint: ({ name }) => made.push(name) });
    await machine.pass(4.8);
    expect(made).toEqual([]);
    // 5 seconds of running and 1 of saving each.
    await machine.pass(20);
    expect(made).toEqual(['checkpoint 1', 'checkpoint 2', 'checkpoint 3', 'checkpoint 4'].slice(0, made.length));
    expect(made.length).toBe(4);
    expect(machine.names).toEqual(['checkpoint 3', 'checkpoint 4']);
    await checkpoints.stop();
    await machine.pass(20);
    expect(made.length).toBe(4);
  });

  it('do not come while the machine stands still, or its processor has halted', async () => {
    const machine = new TimedMachine();
    startCheckpoints(machine, { seconds: 2, keep: 5 });
    machine.isRunning = false;
    await machine.pass(30);
    expect(machine.names).toEqual([]);
    machine.isRunning = true;
    await machine.pass(3.5);
    expect(machine.names).toEqual(['checkpoint 1']);
    machine.hasHalted = true;
    await machine.pass(30);
    // What it did before it halted is in the second; after that there is nothing new.
    expect(machine.names.length).toBeLessThanOrEqual(2);
    machine.hasHalted = false;
    await machine.pass(5);
    expect(machine.names.length).toBeGreaterThanOrEqual(2);
  });

  it('never touch what is named otherwise, and go on from the numbers that are there', async () => {
    const machine = new TimedMachine();
    const others = ['mine', 'auto', 'auto x', 'auto 07', 'auto 1e3', 'automatic 1', 'checkpoint 1'];
    machine.entries = [...others, 'auto 10', 'auto 9'].map((name, index) => ({ id: `given ${index}`, name }));
    startCheckpoints(machine, { seconds: 1, keep: 2, prefix: 'auto' });
    await machine.pass(2.5);
    expect(machine.names.slice(0, others.length)).toEqual(others);
    expect(machine.names.slice(others.length)).toEqual(['auto 10', 'auto 11']);
  });

  it('go on after an error, which is told', async () => {
    const machine = new TimedMachine();
    const errors: string[] = [];
    const onError = (error: unknown): void => void errors.push(String(error));
    startCheckpoints(machine, { seconds: 1, keep: 1, onError });
    machine.failing = 'save';
    await machine.pass(3);
    expect(errors).toEqual(['Error: no room']);
    machine.failing = null;
    await machine.pass(2.5);
    expect(machine.names.length).toBe(1);
    machine.failing = 'delete';
    await machine.pass(2.5);
    expect(errors.at(-1)).toBe('Error: no delete');
    machine.failing = null;
    await machine.pass(2.5);
    expect(machine.names.length).toBe(1);
  });

  it('that are stopped in the middle of one end with it', async () => {
    const machine = new TimedMachine();
    const checkpoints = startCheckpoints(machine, { seconds: 1, keep: 3 });
    await machine.pass(1.5);
    expect(machine.names).toEqual([]);
    let hasEnded = false;
    const stopped = checkpoints.stop().then(() => (hasEnded = true));
    await machine.pass(0.1);
    expect(hasEnded).toBe(false);
    await machine.pass(2);
    await stopped;
    expect(machine.names).toEqual(['checkpoint 1']);
    await machine.pass(10);
    expect(machine.names).toEqual(['checkpoint 1']);
  });

  it('are saved as their options say', async () => {
    const machine = new TimedMachine();
    const picture = async () => null;
    startCheckpoints(machine, { seconds: 1, keep: 1, picture, compress: true });
    await machine.pass(3);
    expect(machine.options[0]).toMatchObject({ picture, compress: true });
  });

  it('can be as far apart as one likes', async () => {
    const machine = new TimedMachine();
    startCheckpoints(machine, { seconds: 1e9, keep: 1 });
    expect(vi.getTimerCount()).toBe(1);
    await machine.pass(30);
    expect(machine.names).toEqual([]);
    expect(vi.getTimerCount()).toBe(1);
  });

  it.each([
    { seconds: 0, keep: 1 },
    { seconds: Number.NaN, keep: 1 },
    { seconds: 5, keep: 0 },
    { seconds: 5, keep: 1.5 },
  ])('of %j are refused', (options) => {
    expect(() => startCheckpoints(new TimedMachine(), options)).toThrow(
      expect.objectContaining({ code: 'BAD_ARGUMENT' }),
    );
  });
});
