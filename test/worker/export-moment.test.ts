/**
 * Exports of a disk in use, across the worker's boundary: the moment that they are of is held by a snapshot that nobody sees, and that is
 * gone afterwards, whatever has become of the export or of the session.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  checkImage,
  createImage,
  listSnapshots,
  MemoryStorage,
  openImage,
  runToEnd,
  type CreateOptions,
  type Qcow2Image,
} from '../../src/index.js';
import { takeMoment } from '../../src/operations/snapshots/export-moment.js';
import type { WorkerClient } from '../../src/worker/client.js';
import { OpfsDisk } from '../../src/worker/opfs-disk.js';
import type { ExportContent } from '../../src/worker/protocol.js';
import { patternBytes } from '../storage/conformance.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes as expectSame } from '../support/model-disk.js';
import { closeConnections, connect, openRequest } from './connect.js';
import { MemoryFolder } from './memory-files.js';

const MIB = 1 << 20;
const SIZE = 5 * MIB;
const CONTENT = patternBytes(SIZE);
const NOW: ExportContent = { of: 'disk', snapshots: false };
const ALL: ExportContent = { of: 'disk', snapshots: true };
const HIDDEN = 'qcow2-wasm-export';

let folder: MemoryFolder;
let client: WorkerClient;

beforeEach(() => {
  folder = new MemoryFolder();
  client = connect(folder.openDirectory).client;
});
afterEach(closeConnections);

async function openDisk(options: Parameters<typeof openRequest>[0] = {}): Promise<OpfsDisk> {
  return new OpfsDisk(client, await client.call(openRequest(options)));
}

/** A disk that takes an export several steps. */
async function fullDisk(create: Partial<CreateOptions> = {}): Promise<OpfsDisk> {
  const { dataFile: _, encryption: __, ...options } = create;
  const disk = await openDisk({ create: { size: SIZE, ...options } });
  await disk.write(0, CONTENT.slice());
  return disk;
}

/** What an image holds; a check of it finds nothing. */
function imageOf(bytes: Uint8Array): Qcow2Image {
  expect(runToEnd(checkImage(new MemoryStorage(bytes.slice())))).toMatchObject({ corruptions: 0, leaks: 0 });
  return openImage(new MemoryStorage(bytes.slice()), { readOnly: true });
}

async function bytesOf(exported: Promise<{ blob: Blob }>): Promise<Uint8Array> {
  return new Uint8Array(await (await exported).blob.arrayBuffer());
}

function expectSameBytes(actual: Uint8Array, expected: Uint8Array): void {
  expectSame(actual, expected, 'the disk');
}

/** The file of the disk after an orderly close: no trace of an export is in it. */
async function expectNoTrace(disk: OpfsDisk, names: string[] = []): Promise<Qcow2Image> {
  await disk.close();
  const image = imageOf(folder.content('disk.qcow2'));
  expect(listSnapshots(image).map(({ name }) => name)).toEqual(names);
  return image;
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

/** A disk whose session ended in the middle of an export, with a snapshot of its owner's. */
function storeInterrupted(): void {
  const storage = new MemoryStorage();
  createImage(storage, { size: SIZE });
  const image = openImage(storage);
  image.write(0, CONTENT);
  takeMoment(image);
  image.write(0, new Uint8Array(MIB).fill(7));
  image.close();
  folder.files.set('disk.qcow2', storage.toBytes());
}

describe('an export of a disk in use', () => {
  it('has nothing of what is written, zeroed or discarded while it runs; the disk has all of it', async () => {
    const disk = await fullDisk();
    const expected = CONTENT.slice();
    const exported = client.call({ kind: 'export', content: NOW });
    const changes: Promise<void>[] = [];
    for (let at = 0; at + 3 * 65_536 <= SIZE; at += MIB / 2) {
      changes.push(disk.write(at + 5, new Uint8Array(65_536).fill(1 + (2 * at) / MIB)));
      changes.push(disk.writeZeroes(at + 65_541, 1000), disk.discard(at + 131_072, 65_536), disk.flush());
      expected.fill(1 + (2 * at) / MIB, at + 5, at + 65_541).fill(0, at + 65_541, at + 66_541);
      expected.fill(0, at + 131_072, at + 196_608);
    }
    await Promise.all(changes);
    expectSameBytes(readWhole(imageOf(await bytesOf(exported))), CONTENT);
    expectSameBytes(readWhole(await expectNoTrace(disk)), expected);
  });

  it('is not seen among the snapshots, and snapshots are made meanwhile', async () => {
    const disk = await fullDisk();
    await disk.snapshots.create({ name: 'mine' });
    const exported = client.call({ kind: 'export', content: ALL });
    const [before, made, after] = await Promise.all([
      disk.snapshots.list(),
      disk.snapshots.create({ name: 'late' }),
      disk.snapshots.list(),
    ]);
    expect(before.map(({ name }) => name)).toEqual(['mine']);
    expect(made.id).toBe('2');
    expect(after.map(({ name }) => name)).toEqual(['mine', 'late']);
    expect(listSnapshots(imageOf(await bytesOf(exported))).map(({ name }) => name)).toEqual(['mine']);
    await expectNoTrace(disk, ['mine', 'late']);
  });

  it('lets a VM state that is being written come to its snapshot', async () => {
    const disk = await fullDisk();
    await disk.snapshots.writeVmState(0, patternBytes(MIB));
    const exported = client.call({ kind: 'export', content: ALL });
    await disk.snapshots.writeVmState(MIB, patternBytes(MIB, 1));
    const { id } = await disk.snapshots.create({ name: 'machine', vmStateBytes: 2 * MIB });
    await exported;
    expectSameBytes(await disk.snapshots.readVmState(id, 0, MIB), patternBytes(MIB));
    expectSameBytes(await disk.snapshots.readVmState(id, MIB, MIB), patternBytes(MIB, 1));
    expect(listSnapshots(imageOf(await bytesOf(exported)))).toEqual([]);
    await expectNoTrace(disk, ['machine']);
  });

  it('makes the delete of a snapshot wait, which holds nothing back', async () => {
    const disk = await fullDisk();
    await disk.snapshots.create({ name: 'old' });
    const { order, done } = answers();
    await Promise.all([
      done('export', client.call({ kind: 'export', content: ALL })),
      done('delete', disk.snapshots.delete('1')),
      done('write', disk.write(0, new Uint8Array(512).fill(1))),
      done('read', disk.read(0, 512)),
      done('list', disk.snapshots.list()),
    ]);
    expect(order).toEqual(['write', 'read', 'export', 'delete', 'list']);
    await expectNoTrace(disk);
  });

  it('makes writes wait where the image can have no snapshots', async () => {
    const disk = await fullDisk({ refcountBits: 1 });
    const { order, done } = answers();
    const exported = done('export', client.call({ kind: 'export', content: NOW }));
    await Promise.all([
      exported,
      done('read', disk.read(0, 512)),
      done('write', disk.write(0, new Uint8Array(512).fill(1))),
    ]);
    expect(order).toEqual(['read', 'export', 'write']);
    expectSameBytes(readWhole(imageOf(await bytesOf(exported))), CONTENT);
    await expectNoTrace(disk);
  });

  it('leaves no trace when its signal ends it', async () => {
    const disk = await fullDisk();
    const abort = new AbortController();
    const options = { signal: abort.signal, onProgress: () => abort.abort() };
    await expect(client.call({ kind: 'export', content: NOW }, options)).rejects.toMatchObject({ code: 'ABORTED' });
    await expectNoTrace(disk);
    expect([...folder.files.keys()]).toEqual(['disk.qcow2']);
  });

  it('lets the disk be written while another export waits for it', async () => {
    const disk = await fullDisk();
    const { order, done } = answers();
    const first = done('first', client.call({ kind: 'export', content: NOW }));
    const second = done('second', client.call({ kind: 'export', content: ALL }));
    const written = new Uint8Array(MIB).fill(1);
    await Promise.all([first, second, done('write', disk.write(0, written.slice())), done('flush', disk.flush())]);
    expect(order).toEqual(['write', 'flush', 'first', 'second']);
    const expected = CONTENT.slice();
    expected.set(written);
    expectSameBytes(readWhole(imageOf(await bytesOf(second))), expected);
    await expectNoTrace(disk);
  });

  it('makes writes wait behind an export of the file, also one that waits itself', async () => {
    const disk = await fullDisk();
    const { order, done } = answers();
    await Promise.all([
      done('first', client.call({ kind: 'export', content: NOW })),
      done('file', client.call({ kind: 'export', content: { of: 'file' } })),
      done('write', disk.write(0, new Uint8Array(512).fill(1))),
    ]);
    expect(order).toEqual(['first', 'file', 'write']);
    await expectNoTrace(disk);
  });

  it('of one snapshot lets the disk be written', async () => {
    const disk = await fullDisk();
    await disk.snapshots.create({ name: 'mine' });
    const { order, done } = answers();
    const exported = done('export', client.call({ kind: 'export', content: { of: 'snapshot', key: 'mine' } }));
    await Promise.all([exported, done('write', disk.write(0, new Uint8Array(MIB).fill(1)))]);
    expect(order).toEqual(['write', 'export']);
    expectSameBytes(readWhole(imageOf(await bytesOf(exported))), CONTENT);
  });
});

describe('the snapshot that an ended session has left', () => {
  it('is removed when the disk is next opened, and its room is free', async () => {
    storeInterrupted();
    const disk = await openDisk();
    expect(await disk.snapshots.list()).toEqual([]);
    const image = await expectNoTrace(disk);
    const expected = CONTENT.slice().fill(7, 0, MIB);
    expectSameBytes(readWhole(image), expected);
  });

  it('can not be used in any way while it is there', async () => {
    storeInterrupted();
    const disk = await openDisk({ readOnly: true });
    expect(await disk.snapshots.list()).toEqual([]);
    await expect(disk.snapshots.goto(HIDDEN)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(disk.snapshots.delete(HIDDEN)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(disk.snapshots.readVmState(HIDDEN, 0, 1)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const content: ExportContent = { of: 'snapshot', key: 'qcow2-wasm export in progress' };
    await expect(client.call({ kind: 'export', content })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const copy = imageOf(await bytesOf(client.call({ kind: 'export', content: ALL })));
    expect(listSnapshots(copy)).toEqual([]);
    await disk.close();
    expect(listSnapshots(imageOf(folder.content('disk.qcow2')))).toHaveLength(1);
  });

  it('is not taken for one of somebody else', async () => {
    const disk = await fullDisk();
    await disk.snapshots.create({ name: 'qcow2-wasm export in progress' });
    await expect(disk.snapshots.create({ id: HIDDEN, name: 'x' })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await client.call({ kind: 'export', content: NOW });
    await disk.close();
    client = connect(folder.openDirectory).client;
    const again = await openDisk();
    expect(await again.snapshots.list()).toMatchObject([{ id: '1', name: 'qcow2-wasm export in progress' }]);
  });
});

describe('what an export can not be', () => {
  it('is compressed and encrypted', async () => {
    await fullDisk();
    const encryption = { format: 'luks', passphrase: 'x', iterTime: 0 } as const;
    const content: ExportContent = { ...NOW, encryption, compress: true };
    await expect(client.call({ kind: 'export', content })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  });

  it('is an overlay of a disk without a backing file', async () => {
    await fullDisk();
    await expect(client.call({ kind: 'export', content: { of: 'overlay' } })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
    });
  });
});
