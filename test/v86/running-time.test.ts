import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RunningTime } from '../../src/v86/running-time.js';
import { localDisk } from '../../src/v86/v86-disk.js';
import { FakeEmulator } from './fake-emulator.js';
import { MemoryDisk } from './memory-disk.js';

const newEmulator = (): FakeEmulator => new FakeEmulator(localDisk(new MemoryDisk(4096)));

describe('running time', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  const pass = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);
  const stop = async (emulator: FakeEmulator): Promise<void> => {
    const stopped = emulator.stop();
    await pass(1);
    await stopped;
  };

  it('passes while the machine runs', async () => {
    const emulator = newEmulator();
    const time = new RunningTime(emulator);
    await pass(100);
    expect(time.total).toBe(0);
    await emulator.run();
    await pass(50);
    expect(time.total).toBe(50);
    await stop(emulator);
    await pass(1000);
    expect(time.total).toBe(51);
  });

  it('of a machine that ran before anybody looked counts from there', async () => {
    const emulator = newEmulator();
    await emulator.run();
    const time = new RunningTime(emulator);
    await pass(10);
    expect(time.total).toBe(10);
  });

  it('goes on from that of a snapshot, while what ran here never jumps', async () => {
    const emulator = newEmulator();
    const time = new RunningTime(emulator);
    await emulator.run();
    await pass(20);
    time.goOnFrom(5000);
    await pass(10);
    expect([time.total, time.here]).toEqual([5010, 30]);
    await stop(emulator);
    time.goOnFrom(7);
    expect([time.total, time.here]).toEqual([7, 31]);
  });

  it('listens no more when it is disposed of', () => {
    const emulator = newEmulator();
    const time = new RunningTime(emulator);
    expect(emulator.listeners).toBe(2);
    time.dispose();
    expect(emulator.listeners).toBe(0);
  });
});
