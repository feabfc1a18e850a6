/**
 * Snapshots across the worker's boundary: client and server over a channel, the engine on files in memory. Proven here:
 * - everything arrives as it was sent, buffers are handed over both ways, and `info` stays true;
 * - what may be served between the steps of a delete or an export is, and all else keeps its order;
 * - an export has the snapshots, or one of them, or is the file as it is.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  checkImage,
  createImage,
  createSnapshot,
  findSnapshot,
  listSnapshots,
  MemoryStorage,
  openImage,
  openSnapshot,
  resizeImage,
  runToEnd,
  type Qcow2Image,
} from '../../src/index.js';
import type { WorkerClient } from '../../src/worker/client.js';
import { OpfsDisk } from '../../src/worker/opfs-disk.js';
import type { ExportContent } from '../../src/worker/protocol.js';
import { patternBytes } from '../storage/conformance.js';
import { readWhole } from '../support/disk-actions.js';
import { closeConnections, connect, openRequest } from './connect.js';
import { MemoryFolder } from './memory-files.js';
import { expectSameBytes } from './same-bytes.js';

const MIB = 1 << 20;

let folder: MemoryFolder;
let client: WorkerClient;

beforeEach(() => {
  folder = new MemoryFolder();
  client = connect(folder.openDirectory).client;
});
afterEach(closeConnections);

type OpenOptions = Parameters<typeof openRequest>[0];

async function openDisk(options: OpenOptions = { create: { size: 4 * MIB } }): Promise<OpfsDisk> {
  return new OpfsDisk(client, await client.call(openRequest(options)));
}

/** Puts an image into the folder that the engine made in this thread. */
function storeImage(options: Parameters<typeof createImage>[1], fill: (image: Qcow2Image) => void): void {
  const storage = new MemoryStorage();
  createImage(storage, options);
  const image = openImage(storage);
  fill(image);
  image.close();
  folder.files.set('disk.qcow2', storage.toBytes());
}

/** Runs an export and opens what it wrote; a check of it finds nothing. */
async function exported(content: ExportContent): Promise<Qcow2Image> {
  const { blob } = await client.call({ kind: 'export', content });
  const bytes = new Uint8Array(await blob.arrayBuffer());
  expect(runToEnd(checkImage(new MemoryStorage(bytes)))).toMatchObject({ corruptions: 0, leaks: 0 });
  return openImage(new MemoryStorage(bytes), { readOnly: true });
}

function filled(length: number, value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(length).fill(value);
}

/** The order in which requests were answered. */
function answers() {
  const order: string[] = [];
  const done = <T>(what: string, request: Promise<T>): Promise<T> =>
    request.finally(() => {
      order.push(what);
    });
  return { order, done };
}

describe('snapshots behind the worker protocol', () => {
  it('are made, listed with all that is known of them, gone to and deleted', async () => {
    const disk = await openDisk();
    await disk.write(0, filled(MIB, 1));
    const before = Date.now();
    const made = await disk.snapshots.create({ name: 'a näme', vmClock: 2n ** 63n, instructionCount: 5n });
    expect(made).toMatchObject({ id: '1', name: 'a näme', vmClock: 2n ** 63n, instructionCount: 5n, vmStateBytes: 0 });
    expect(made.diskSize).toBe(4 * MIB);
    expect(Math.abs(made.date.seconds - before / 1000)).toBeLessThan(60);
    await disk.write(0, filled(MIB, 2));
    await disk.snapshots.create({ name: 'second', id: 'two' });
    const list = await disk.snapshots.list();
    expect(list.map(({ id, name }) => [id, name])).toEqual([
      ['1', 'a näme'],
      ['two', 'second'],
    ]);
    expect(list[0]!.ownBytes).toBeGreaterThanOrEqual(MIB);
    expect(await disk.snapshots.goto('1')).toEqual(made);
    expectSameBytes(await disk.read(0, MIB), filled(MIB, 1));
    await disk.snapshots.delete('1');
    expect((await disk.snapshots.list()).map(({ id }) => id)).toEqual(['two']);
    expectSameBytes(await disk.read(0, MIB), filled(MIB, 1));
    await disk.snapshots.goto('two');
    expectSameBytes(await disk.read(0, MIB), filled(MIB, 2));
  });

  it('are there after the disk was lost without a close', async () => {
    const disk = await openDisk();
    await disk.write(0, filled(512, 1));
    await disk.snapshots.create({ name: 'one' });
    await disk.write(0, filled(512, 2));
    await disk.snapshots.create({ name: 'two' });
    await disk.snapshots.goto('1');
    folder.claims.clear();
    client = connect(folder.openDirectory).client;
    const after = await openDisk({});
    expect((await after.snapshots.list()).map(({ name }) => name)).toEqual(['one', 'two']);
    expectSameBytes(await after.read(0, 512), filled(512, 1));
  });

  it('keep their order with the requests on the disk', async () => {
    const disk = await openDisk();
    const reads: Promise<Uint8Array>[] = [];
    for (let turn = 1; turn <= 5; turn++) {
      void disk.write(0, filled(4096, turn));
      void disk.snapshots.create({ name: `turn ${turn}` });
    }
    for (let turn = 5; turn >= 1; turn--) {
      void disk.snapshots.goto(String(turn));
      reads.push(disk.read(0, 1));
      void disk.snapshots.delete(String(turn));
    }
    expect((await Promise.all(reads)).map((bytes) => bytes[0])).toEqual([5, 4, 3, 2, 1]);
    expect(await disk.snapshots.list()).toEqual([]);
  });

  it('tell what is wrong, and go on', async () => {
    const disk = await openDisk();
    const { snapshots } = disk;
    await snapshots.create({ name: 'one', id: 'x' });
    await expect(snapshots.goto('y')).rejects.toMatchObject({ name: 'Qcow2Error', code: 'NOT_FOUND' });
    await expect(snapshots.goto('one')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(snapshots.delete('y')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(snapshots.readVmState('y', 0, 1)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(snapshots.create({ name: 'again', id: 'x' })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await expect(snapshots.readVmState('x', 0, 2 ** 50)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
    await expect(snapshots.readVmState('x', -1, 1)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
    expect(await snapshots.list()).toHaveLength(1);
    await disk.close();
    await expect(snapshots.list()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it('can be read, and not be changed, on a disk that is read-only', async () => {
    storeImage({ size: MIB }, (image) => createSnapshot(image, { name: 'one' }));
    const { snapshots } = await openDisk({ readOnly: true });
    expect((await snapshots.list()).map(({ name }) => name)).toEqual(['one']);
    await expect(snapshots.create({ name: 'two' })).rejects.toMatchObject({ code: 'READ_ONLY' });
    await expect(snapshots.goto('1')).rejects.toMatchObject({ code: 'READ_ONLY' });
    await expect(snapshots.delete('1')).rejects.toMatchObject({ code: 'READ_ONLY' });
  });
});

describe('VM state behind the worker protocol', () => {
  it('is written, shared with an earlier one, and read; buffers are handed over both ways', async () => {
    const { snapshots } = await openDisk();
    const source = patternBytes(MIB);
    const written = snapshots.writeVmState(0, source, { like: null });
    expect(source.byteLength).toBe(0);
    expect(await written).toEqual({ stored: MIB, shared: 0, zero: 0 });
    await snapshots.create({ name: 'one', vmStateBytes: MIB });
    const next = patternBytes(MIB);
    next.fill(0, 0, 65_536).fill(7, MIB - 65_536);
    expect(await snapshots.writeVmState(0, next.slice(), { like: '1' })).toEqual({
      stored: 65_536,
      shared: MIB - 2 * 65_536,
      zero: 65_536,
    });
    const { id } = await snapshots.create({ name: 'two', vmStateBytes: MIB });
    const read = await snapshots.readVmState(id, 0, MIB);
    expect(read.buffer.byteLength).toBe(MIB);
    expectSameBytes(read, next);
    expectSameBytes(await snapshots.readVmState('1', 1000, 5000), patternBytes(6000).slice(1000));
  });

  it('takes less room compressed, and none once it is discarded', async () => {
    const disk = await openDisk();
    const size = async (): Promise<number> => (await disk.stats()).fileSize;
    const start = await size();
    await disk.snapshots.writeVmState(0, filled(MIB, 1), { compress: true });
    await disk.flush();
    expect((await size()) - start).toBeLessThan(MIB / 4);
    await disk.snapshots.discardVmState();
    const { id } = await disk.snapshots.create({ name: 'empty', vmStateBytes: MIB });
    expectSameBytes(await disk.snapshots.readVmState(id, 0, MIB), new Uint8Array(MIB));
  });

  it('refuses to take over the buffer of a view', async () => {
    const { snapshots } = await openDisk();
    const view = filled(8192, 1).subarray(0, 4096);
    await expect(snapshots.writeVmState(0, view, {})).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    expect(view.byteLength).toBe(4096);
  });
});

describe('going to a snapshot with another disk size', () => {
  it('makes info tell the size it has then', async () => {
    storeImage({ size: MIB }, (image) => {
      createSnapshot(image, { name: 'small' });
      runToEnd(resizeImage(image, { size: 3 * MIB }));
      image.write(2 * MIB, filled(512, 9));
      createSnapshot(image, { name: 'large' });
    });
    const disk = await openDisk({});
    expect(disk.info.size).toBe(3 * MIB);
    const { diskSize } = await disk.snapshots.goto('1');
    expect([diskSize, disk.info.size]).toEqual([MIB, MIB]);
    await expect(disk.read(2 * MIB, 512)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
    const seen = disk.snapshots.goto('2').then(() => disk.info.size);
    expect(await seen).toBe(3 * MIB);
    expectSameBytes(await disk.read(2 * MIB, 512), filled(512, 9));
    expect(disk.info).toMatchObject({ path: '/memory/disk.qcow2', readOnly: false });
  });
});

/** Its L2 tables have 2 MiB each, so that a delete has several steps. */
const LARGE = { size: 3 * 2 ** 40, clusterSize: 2 * MIB };

async function openLargeDisk(): Promise<OpfsDisk> {
  const disk = await openDisk({ create: LARGE });
  for (let at = 0; at < LARGE.size; at += 2 ** 39) await disk.write(at, filled(1, 1));
  await disk.snapshots.create({ name: 'one' });
  return disk;
}

describe('the delete of a snapshot', () => {
  it('lets the disk be read and written meanwhile; what is about snapshots waits', async () => {
    const disk = await openLargeDisk();
    const { order, done } = answers();
    const progress: number[] = [];
    await Promise.all([
      done('delete', disk.snapshots.delete('1', { onProgress: (step) => progress.push(step.done / step.total) })),
      done('write', disk.write(0, filled(512, 2))),
      done('read', disk.read(0, 512)),
      done('flush', disk.flush()),
      done('list', disk.snapshots.list()),
      done('read behind it', disk.read(0, 1)),
    ]);
    expect(order).toEqual(['write', 'read', 'flush', 'delete', 'list', 'read behind it']);
    expect(progress.length).toBeGreaterThan(1);
    expect(progress.at(-1)).toBe(1);
    expectSameBytes(await disk.read(0, 512), filled(512, 2));
    expect((await disk.read(2 ** 39, 1))[0]).toBe(1);
    expect(await disk.snapshots.list()).toEqual([]);
    const image = await exported({ of: 'file' });
    expect(image.header.snapshotCount).toBe(0);
  });

  it('makes an export and the close wait', async () => {
    const disk = await openLargeDisk();
    const order: string[] = [];
    const deleted = disk.snapshots.delete('1').then(() => order.push('delete'));
    const image = exported({ of: 'file' });
    const closed = disk.close().then(() => order.push('close'));
    expect(listSnapshots(await image)).toEqual([]);
    await Promise.all([deleted, closed]);
    expect(order).toEqual(['delete', 'close']);
  });

  it('is not ended by a signal that comes when all is done', async () => {
    const disk = await openDisk();
    await disk.snapshots.create({ name: 'one' });
    const abort = new AbortController();
    const onProgress = ({ done, total }: { done: number; total: number }): void => {
      if (done === total) abort.abort();
    };
    await disk.snapshots.delete('1', { signal: abort.signal, onProgress });
    expect(abort.signal.aborted).toBe(true);
    expect(await disk.snapshots.list()).toEqual([]);
  });

  it('leaves the snapshot as it was when its signal ends it', async () => {
    const disk = await openLargeDisk();
    await disk.write(0, filled(1, 2));
    const abort = new AbortController();
    const deleted = disk.snapshots.delete('1', { signal: abort.signal, onProgress: () => abort.abort() });
    await expect(deleted).rejects.toMatchObject({ code: 'ABORTED' });
    expect((await disk.snapshots.list()).map(({ id }) => id)).toEqual(['1']);
    await disk.snapshots.goto('1');
    expect((await disk.read(0, 1))[0]).toBe(1);
    await disk.snapshots.delete('1');
    await disk.flush();
    await exported({ of: 'file' });
  });
});

describe('an export of a disk with snapshots', () => {
  /** Data that takes an export several steps, one snapshot with VM state and one without. */
  async function diskWithSnapshots(): Promise<OpfsDisk> {
    folder.files.set('base.raw', patternBytes(8 * MIB));
    const backing = { name: 'base.raw', format: 'raw' } as const;
    const disk = await openDisk({ create: { backing }, backing: ['base.raw'] });
    await disk.write(MIB, filled(MIB, 1));
    await disk.snapshots.writeVmState(0, filled(100_000, 5), {});
    await disk.snapshots.create({ name: 'A', vmStateBytes: 100_000 });
    await disk.write(MIB, filled(MIB, 2));
    await disk.snapshots.create({ name: 'B' });
    await disk.write(MIB, filled(MIB, 3));
    return disk;
  }

  function content(value: number): Uint8Array {
    const bytes = patternBytes(8 * MIB);
    bytes.fill(value, MIB, 2 * MIB);
    return bytes;
  }

  it('has all of them and stands alone', async () => {
    const disk = await diskWithSnapshots();
    const image = await exported({ of: 'disk', snapshots: true });
    expect(image.header.backingFile).toBeNull();
    expectSameBytes(readWhole(image), content(3));
    expectSameBytes(readWhole(openSnapshot(image, { name: 'A' })), content(1));
    expectSameBytes(readWhole(openSnapshot(image, { name: 'B' })), content(2));
    const state = new Uint8Array(100_000);
    openSnapshot(image, { name: 'A' }).readVmState(0, state);
    expectSameBytes(state, filled(100_000, 5));
    expect(findSnapshot(image, 'A')).toMatchObject({ id: '1', vmStateBytes: 100_000 });
    expect((await disk.snapshots.list()).map(({ name }) => name)).toEqual(['A', 'B']);
  });

  it('has none of them if they are left out', async () => {
    await diskWithSnapshots();
    const image = await exported({ of: 'disk', snapshots: false });
    expect(listSnapshots(image)).toEqual([]);
    expectSameBytes(readWhole(image), content(3));
  });

  it('is the disk of one of them, by id or by name', async () => {
    await diskWithSnapshots();
    for (const [key, value] of [['1', 1] as const, ['B', 2] as const, [{ name: 'A' }, 1] as const]) {
      const image = await exported({ of: 'snapshot', key });
      expect(listSnapshots(image)).toEqual([]);
      expectSameBytes(readWhole(image), content(value));
    }
    const none = client.call({ kind: 'export', content: { of: 'snapshot', key: 'none' } });
    await expect(none).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect([...folder.files.keys()].filter((name) => name.startsWith('.tmp-'))).toEqual([]);
  });

  it('is of one moment: snapshots are looked at and made meanwhile, and what would take one away waits', async () => {
    const disk = await diskWithSnapshots();
    const { order, done } = answers();
    const [{ blob }] = await Promise.all([
      done('export', client.call({ kind: 'export', content: { of: 'disk', snapshots: true } })),
      done('list', disk.snapshots.list()),
      done('state', disk.snapshots.readVmState('1', 0, 1000)),
      done('create', disk.snapshots.create({ name: 'late' })),
      done('goto', disk.snapshots.goto('1')),
      done('list behind them', disk.snapshots.list()),
    ]);
    expect(order).toEqual(['list', 'state', 'create', 'export', 'goto', 'list behind them']);
    const image = openImage(new MemoryStorage(new Uint8Array(await blob.arrayBuffer())), { readOnly: true });
    expect(listSnapshots(image).map(({ name }) => name)).toEqual(['A', 'B']);
    expectSameBytes(readWhole(image), content(3));
    expectSameBytes(await disk.read(MIB, MIB), filled(MIB, 1));
    expect((await disk.snapshots.list()).map(({ name }) => name)).toEqual(['A', 'B', 'late']);
  });

  it('can be the file as it is, marked clean, with its snapshots over its backing file', async () => {
    folder.files.set('base.raw', patternBytes(MIB));
    const backing = { name: 'base.raw', format: 'raw' } as const;
    const disk = await openDisk({ create: { backing, lazyRefcounts: true }, backing: ['base.raw'] });
    await disk.write(0, filled(4096, 1));
    await disk.snapshots.create({ name: 'A' });
    await disk.write(0, filled(4096, 2));
    const { blob } = await client.call({ kind: 'export', content: { of: 'file' } });
    const bytes = new Uint8Array(await blob.arrayBuffer());
    expectSameBytes(bytes, folder.content('disk.qcow2'));
    const image = openImage(new MemoryStorage(bytes), { backing: null, readOnly: true });
    expect(image.header.backingFile).toMatchObject({ name: 'base.raw' });
    // Bit 0: the refcounts may be behind.
    expect(image.header.incompatible & 1n).toBe(0n);
    expect(runToEnd(checkImage(new MemoryStorage(bytes)))).toMatchObject({ corruptions: 0, leaks: 0 });
    expectSameBytes(readWhole(openSnapshot(image, 'A')).subarray(0, 4096), filled(4096, 1));
    await disk.write(0, filled(4096, 3));
    expectSameBytes(await disk.read(0, 4096), filled(4096, 3));
  });
});
