/**
 * Bitmaps and backups in increments across the worker's boundary: client and server over a channel, the engine on files in memory.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryStorage, openChain, openImage } from '../../src/index.js';
import type { WorkerClient } from '../../src/worker/client.js';
import type { ExportedIncrement } from '../../src/worker/opfs-bitmaps.js';
import { OpfsDisk } from '../../src/worker/opfs-disk.js';
import { readWhole } from '../support/disk-actions.js';
import { rawBitmaps } from '../support/raw-bitmaps.js';
import { closeConnections, connect, openRequest } from './connect.js';
import { MemoryFolder } from './memory-files.js';
import { expectSameBytes } from './same-bytes.js';

const MIB = 1 << 20;

let folder: MemoryFolder;
let client: WorkerClient;
let disk: OpfsDisk;

beforeEach(async () => {
  folder = new MemoryFolder();
  client = connect(folder.openDirectory).client;
  disk = await openDisk(client);
});
afterEach(closeConnections);

async function openDisk(of: WorkerClient): Promise<OpfsDisk> {
  return new OpfsDisk(of, await of.call(openRequest({ create: { size: 4 * MIB, clusterSize: 4096 } })));
}

function filled(length: number, value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(length).fill(value);
}

async function bytesOf(blob: Blob): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await blob.arrayBuffer());
}

/** An export, without what only a page can do: the lock of its file. */
async function exported(content: Parameters<OpfsDisk['bitmaps']['exportIncrement']>): Promise<ExportedIncrement> {
  const [bitmap, { backing } = {}] = content;
  const increment = { of: 'increment', bitmap, ...(backing && { backing }) } as const;
  const { blob, token } = await client.call({ kind: 'export', content: increment });
  return { blob, token: token! };
}

describe('bitmaps behind the worker protocol', () => {
  it('are added, listed with how much is marked, changed and removed', async () => {
    const { bitmaps } = disk;
    await bitmaps.add({ name: 'backup' });
    await bitmaps.add({ name: 'other', granularity: 65536, enabled: false });
    await disk.write(10_000, filled(10, 1));
    expect(await bitmaps.list()).toEqual([
      { name: 'backup', granularity: 4096, enabled: true, state: 'consistent', dirtyBytes: 4096 },
      { name: 'other', granularity: 65536, enabled: false, state: 'consistent', dirtyBytes: 0 },
    ]);
    await bitmaps.merge('other', 'backup');
    await bitmaps.enable('other');
    await bitmaps.disable('backup');
    await bitmaps.clear('backup');
    await disk.write(1_000_000, filled(10, 1));
    const usage = (await bitmaps.list()).map(({ name, enabled, dirtyBytes }) => [name, enabled, dirtyBytes]);
    expect(usage).toEqual([['backup', false, 0], ['other', true, 131072]]); // prettier-ignore
    await bitmaps.remove('backup');
    await expect(bitmaps.remove('backup')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(bitmaps.confirmIncrement('other', 'none')).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await client.call({ kind: 'close' });
    expect(rawBitmaps(folder.content('disk.qcow2'))).toMatchObject([{ name: 'other', flags: 2 }]);
  });

  it('are lost with a worker that ends after a change, and not after they were stored', async () => {
    await disk.bitmaps.add({ name: 'backup' });
    await disk.write(0, filled(10, 1));
    expect(rawBitmaps(folder.content('disk.qcow2'))).toMatchObject([{ flags: 3 }]);
    await disk.bitmaps.store();
    expect(rawBitmaps(folder.content('disk.qcow2'))).toMatchObject([{ flags: 2, marked: new Set([0]) }]);
  });
});

describe('a backup in increments', () => {
  it('is the disk, when one was lost on its way, too', async () => {
    await disk.write(0, filled(MIB, 1));
    await disk.bitmaps.add({ name: 'backup' });
    const base = await client.call({ kind: 'export', content: { of: 'disk', snapshots: false } });
    const kept = new Map([['base', await bytesOf(base.blob)]]);
    let last = 'base';
    for (const arrives of [true, false, true]) {
      await disk.write(100_000 * kept.size, filled(5000, 2));
      await disk.writeZeroes(500_000, 100_000 * kept.size);
      const { blob, token } = await exported(['backup', { backing: { name: last, format: 'qcow2' } }]);
      if (!arrives) continue;
      last = `increment ${kept.size}`;
      kept.set(last, await bytesOf(blob));
      await disk.bitmaps.confirmIncrement('backup', token);
    }
    const open = (name: string) => new MemoryStorage(kept.get(name)!);
    const chain = await openChain(open(last), { readOnly: true, opener: ({ name }) => open(name) });
    expectSameBytes(readWhole(chain), await disk.read(0, 4 * MIB));
    expect((await disk.bitmaps.list())[0]?.dirtyBytes).toBe(0);
  });

  it('is of one moment: what is written while an increment is exported waits, and belongs to the next', async () => {
    await disk.bitmaps.add({ name: 'backup' });
    await disk.write(0, filled(4 * MIB, 1));
    const order: string[] = [];
    const export1 = exported(['backup']).finally(() => order.push('export'));
    const write = disk.write(0, filled(8192, 2)).finally(() => order.push('write'));
    const { blob, token } = await export1;
    const increment = openImage(new MemoryStorage(await bytesOf(blob)), { readOnly: true });
    expectSameBytes(readWhole(increment), filled(4 * MIB, 1));
    await write;
    expect(order).toEqual(['export', 'write']);
    await disk.bitmaps.confirmIncrement('backup', token);
    expect((await disk.bitmaps.list())[0]?.dirtyBytes).toBe(8192);
  });

  it('goes on from the last increment alone: a late word on one before is refused', async () => {
    await disk.bitmaps.add({ name: 'backup' });
    await disk.write(0, filled(4096, 1));
    const first = await exported(['backup']);
    await disk.write(8192, filled(4096, 1));
    const second = exported(['backup']);
    const late = disk.bitmaps.confirmIncrement('backup', first.token);
    await expect(late).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    expect((await disk.bitmaps.list())[0]?.dirtyBytes).toBe(8192);
    await disk.bitmaps.confirmIncrement('backup', (await second).token);
    expect((await disk.bitmaps.list())[0]?.dirtyBytes).toBe(0);
    expect((await client.call({ kind: 'export', content: { of: 'file' } })).token).toBeNull();
  });

  it('that is ended by its signal leaves everything marked', async () => {
    await disk.bitmaps.add({ name: 'backup' });
    await disk.write(0, filled(4 * MIB, 1));
    const ending = new AbortController();
    const job = disk.bitmaps.exportIncrement('backup', { signal: ending.signal, onProgress: () => ending.abort() });
    await expect(job).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(disk.bitmaps.confirmIncrement('backup', 'none')).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    expect((await disk.bitmaps.list())[0]?.dirtyBytes).toBe(4 * MIB);
  });
});
