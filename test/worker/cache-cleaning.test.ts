/** The worker gives back memory that a disk does not use, on a timer. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { OpfsDisk } from '../../src/worker/opfs-disk.js';
import { closeConnections, connect, openRequest } from './connect.js';
import { MemoryFolder } from './memory-files.js';

const SPAN = 2 << 20;
const TABLES = 128;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
});
afterEach(() => {
  vi.useRealTimers();
  closeConnections();
});

/** A disk with 128 L2 tables of 4 KiB, all of them in memory. */
async function openDisk(options: Parameters<typeof openRequest>[0] = {}): Promise<OpfsDisk> {
  const { client } = connect(new MemoryFolder().openDirectory);
  const create = { size: TABLES * SPAN, clusterSize: 4096 };
  const disk = new OpfsDisk(client, await client.call(openRequest({ create, ...options })));
  for (let table = 0; table < TABLES; table++) await disk.write(table * SPAN, Uint8Array.of(table));
  await disk.flush();
  return disk;
}

async function missesOfARound(disk: OpfsDisk): Promise<number> {
  const before = await disk.stats();
  for (let table = 0; table < TABLES; table++) expect((await disk.read(table * SPAN, 1))[0]).toBe(table);
  return (await disk.stats()).cacheMisses - before.cacheMisses;
}

describe('the worker', () => {
  it('drops the tables of a disk that nobody reads, after ten minutes to twice as long', async () => {
    const disk = await openDisk();
    vi.advanceTimersByTime(599_000);
    expect(await missesOfARound(disk)).toBe(0);
    vi.advanceTimersByTime(600_000);
    expect(await missesOfARound(disk)).toBe(0);
    vi.advanceTimersByTime(1_200_000);
    expect(await missesOfARound(disk)).toBe(TABLES);
  });

  it('does so as often as it is told, or not at all', async () => {
    const often = await openDisk({ cacheCleanInterval: 1 });
    vi.advanceTimersByTime(2000);
    expect(await missesOfARound(often)).toBe(TABLES);
    const never = await openDisk({ cacheCleanInterval: 0 });
    vi.advanceTimersByTime(100_000_000);
    expect(await missesOfARound(never)).toBe(0);
  });

  it('takes an interval longer than timers are for the longest they can do', async () => {
    const disk = await openDisk({ cacheCleanInterval: 0xffff_ffff });
    vi.advanceTimersByTime(2 ** 31 - 2);
    expect(await missesOfARound(disk)).toBe(0);
  });

  it('stops with the disk', async () => {
    const disk = await openDisk();
    expect(vi.getTimerCount()).toBe(1);
    await disk.close();
    expect(vi.getTimerCount()).toBe(0);
  });
});
