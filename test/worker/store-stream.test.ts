import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createImage } from '../../src/image/create.js';
import { storeFile } from '../../src/opfs.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import type { WorkerClient } from '../../src/worker/client.js';
import { storeStream } from '../../src/worker/store-stream.js';
import { patternBytes } from '../storage/conformance.js';
import { closeConnections, connect, openRequest } from './connect.js';
import { MemoryFolder } from './memory-files.js';
import { expectSameBytes } from './same-bytes.js';

const OLD = patternBytes(3000, 1);
const TARGET = { directory: 'disks', name: 'disk.qcow2' };
const NO_IMAGE = { image: null };
const AN_IMAGE = { image: { backing: [] } };

let folder: MemoryFolder;
let client: WorkerClient;

beforeEach(() => {
  folder = new MemoryFolder();
  folder.files.set('disk.qcow2', OLD.slice());
  client = connect(folder.openDirectory).client;
});
afterEach(closeConnections);

function streamOf(...pieces: Uint8Array<ArrayBuffer>[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    pull(controller) {
      const piece = pieces.shift();
      if (piece === undefined) controller.close();
      else controller.enqueue(piece);
    },
  });
}

function imageBytes(options: Parameters<typeof createImage>[1]): Uint8Array<ArrayBuffer> {
  const storage = new MemoryStorage();
  createImage(storage, options);
  return storage.toBytes();
}

function expectOldFile(): void {
  expect([...folder.files.keys()]).toEqual(['disk.qcow2']);
  expectSameBytes(folder.content('disk.qcow2'), OLD);
  expect(folder.claims.size).toBe(0);
}

describe('storing a file', () => {
  it('puts all pieces in place of the old file, and tells how far it is', async () => {
    const seen: number[] = [];
    const stream = streamOf(patternBytes(1000), patternBytes(5000).subarray(1000, 4000), new Uint8Array([7]));
    await storeStream(
      client,
      TARGET,
      { stream, total: 4001 },
      { ...NO_IMAGE, onProgress: ({ done }) => seen.push(done) },
    );
    expect(folder.files.get('disk.qcow2')).toEqual(Uint8Array.of(...patternBytes(5000).subarray(0, 4000), 7));
    expect(seen).toEqual([1000, 4000, 4001]);
    expect([...folder.files.keys()]).toEqual(['disk.qcow2']);
    expect(folder.claims.size).toBe(0);
  });

  it('keeps the old file when the stream breaks', async () => {
    let pulls = 0;
    const stream = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (pulls++ === 0) controller.enqueue(new Uint8Array(10));
        else controller.error(new Error('connection lost'));
      },
    });
    const stored = storeStream(client, TARGET, { stream, total: null }, NO_IMAGE);
    await expect(stored).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('connection lost') as string,
    });
    expectOldFile();
  });

  it('keeps the old file when fewer bytes arrive than were promised', async () => {
    const stored = storeStream(client, TARGET, { stream: streamOf(patternBytes(10)), total: 11 }, NO_IMAGE);
    await expect(stored).rejects.toMatchObject({ code: 'IO', message: 'disk.qcow2: 10 bytes arrived of 11' });
    expectOldFile();
  });

  it('keeps the old file, and ends the download, when its signal says so', async () => {
    const abort = new AbortController();
    let cancelled = false;
    const stream = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new Uint8Array(100)),
      cancel: () => {
        cancelled = true;
      },
    });
    const options = { ...NO_IMAGE, signal: abort.signal, onProgress: () => abort.abort() };
    await expect(storeStream(client, TARGET, { stream, total: null }, options)).rejects.toMatchObject({
      code: 'ABORTED',
    });
    expect(cancelled).toBe(true);
    expectOldFile();
  });

  it('is refused with IN_USE while the disk is open', async () => {
    const other = connect(folder.openDirectory).client;
    await other.call(openRequest({ name: 'open.qcow2', create: { size: 1 << 20 } }));
    const target = { ...TARGET, name: 'open.qcow2' };
    const stored = storeStream(client, target, { stream: streamOf(patternBytes(10)), total: 10 }, NO_IMAGE);
    await expect(stored).rejects.toMatchObject({ code: 'IN_USE' });
  });
});

describe('storing the body of a response', () => {
  it('is refused where the response has none', async () => {
    const stored = storeFile({ name: 'base.qcow2' }, new Response(null, { status: 204 }).body);
    await expect(stored).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: 'the source of "base.qcow2" is null: the response has no body',
    });
  });
});

describe('storing an image', () => {
  it('says what it is when it opens', async () => {
    const bytes = imageBytes({ size: 5 << 20, clusterSize: 4096 });
    const info = await storeStream(client, TARGET, { stream: streamOf(bytes.slice()), total: bytes.length }, AN_IMAGE);
    expect(info).toMatchObject({ size: 5 << 20, clusterSize: 4096, backingFile: null, path: '/memory/disk.qcow2' });
    expect(folder.files.get('disk.qcow2')?.length).toBe(bytes.length);
    expect(folder.claims.size).toBe(0);
  });

  it('keeps the old file when the new one is no qcow2', async () => {
    const stored = storeStream(client, TARGET, { stream: streamOf(patternBytes(100_000)), total: null }, AN_IMAGE);
    await expect(stored).rejects.toMatchObject({ code: 'NOT_QCOW2' });
    expectOldFile();
  });

  it('keeps the old file when the new one names a backing file that was not allowed', async () => {
    const bytes = imageBytes({ size: 1 << 20, backing: { name: '/etc/passwd', format: 'raw' } });
    const stored = storeStream(client, TARGET, { stream: streamOf(bytes), total: null }, AN_IMAGE);
    await expect(stored).rejects.toMatchObject({ code: 'BACKING' });
    expectOldFile();
  });
});

describe('inspecting an image', () => {
  it('opens a blob that is stored nowhere', async () => {
    const blob = new Blob([imageBytes({ size: 3 << 20 })]);
    const info = await client.call({ kind: 'inspect', directory: 'disks', blob, backing: [] });
    expect(info).toMatchObject({ size: 3 << 20, readOnly: true });
    expectOldFile();
  });

  it('says what is wrong with it', async () => {
    const blob = new Blob([patternBytes(1000)]);
    const inspected = client.call({ kind: 'inspect', directory: 'disks', blob, backing: [] });
    await expect(inspected).rejects.toMatchObject({ code: 'NOT_QCOW2' });
  });
});

describe('files of a folder', () => {
  it('are listed, renamed in place of another, and deleted', async () => {
    folder.files.set('a', patternBytes(10));
    const { directory } = TARGET;
    await client.call({ kind: 'rename', directory, name: 'a', newName: 'disk.qcow2' });
    expect(await client.call({ kind: 'list', directory })).toMatchObject([{ name: 'disk.qcow2', size: 10 }]);
    await client.call({ kind: 'delete', ...TARGET });
    await client.call({ kind: 'delete', ...TARGET });
    expect(await client.call({ kind: 'list', directory })).toEqual([]);
    const renamed = client.call({ kind: 'rename', directory, name: 'a', newName: 'b' });
    await expect(renamed).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(folder.claims.size).toBe(0);
  });
});
