/** The protocol from end to end: client and server over a channel, the engine on files in memory. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Qcow2Error } from '../../src/errors.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import type { Progress } from '../../src/util/progress.js';
import { OpfsDisk } from '../../src/worker/opfs-disk.js';
import { patternBytes } from '../storage/conformance.js';
import { closeConnections, connect, openRequest } from './connect.js';
import { MemoryFolder } from './memory-files.js';
import { expectSameBytes } from './same-bytes.js';

const MIB = 1 << 20;
const NOW = { of: 'disk', snapshots: true } as const;

let folder: MemoryFolder;

beforeEach(() => {
  folder = new MemoryFolder();
});
afterEach(closeConnections);

async function openDisk(options: Parameters<typeof openRequest>[0] = { create: { size: 4 * MIB } }): Promise<OpfsDisk> {
  const { client } = connect(folder.openDirectory);
  return new OpfsDisk(client, await client.call(openRequest(options)));
}

describe('a disk behind the worker protocol', () => {
  it('is created with what was asked for, and says what it is', async () => {
    const disk = await openDisk({
      create: { size: 3 * MIB, clusterSize: 4096, version: 3, refcountBits: 8, lazyRefcounts: false },
    });
    expect(disk.info).toEqual({
      size: 3 * MIB,
      readOnly: false,
      path: '/memory/disk.qcow2',
      version: 3,
      clusterSize: 4096,
      refcountBits: 8,
      lazyRefcounts: false,
      encryption: null,
      cipher: null,
      backingFile: null,
    });
    expect([...folder.files.keys()]).toEqual(['disk.qcow2']);
  });

  it('reads what was written, and has it after it was closed and opened again', async () => {
    const first = await openDisk();
    await first.write(12_345, patternBytes(200_000));
    expectSameBytes(await first.read(12_345, 200_000), patternBytes(200_000));
    await first.close();
    const second = await openDisk({});
    expectSameBytes(await second.read(12_345, 200_000), patternBytes(200_000));
    await second.writeZeroes(12_345, 100_000);
    expectSameBytes(await second.read(12_345, 100_000), new Uint8Array(100_000));
    await second.discard(0, 4 * MIB);
    await second.close();
  });

  it('detaches what is written, and gives every read an array that owns its buffer', async () => {
    const disk = await openDisk();
    const source = patternBytes(4096);
    const written = disk.write(0, source);
    expect(source.byteLength).toBe(0);
    await written;
    const [first, second] = await Promise.all([disk.read(0, 4096), disk.read(0, 4096)]);
    expect(first.buffer.byteLength).toBe(4096);
    first.fill(0xff);
    expectSameBytes(second, patternBytes(4096));
  });

  it('refuses to take over the buffer of a view, which may hold what is not its own', async () => {
    const disk = await openDisk();
    const view = new Uint8Array(8192).subarray(0, 4096);
    await expect(disk.write(0, view)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    expect(view.byteLength).toBe(4096);
  });

  it('carries requests out in the order they were made', async () => {
    const disk = await openDisk();
    const reads: Promise<Uint8Array>[] = [];
    for (let turn = 1; turn <= 20; turn++) {
      void disk.write(0, new Uint8Array(4096).fill(turn));
      reads.push(disk.read(0, 1));
    }
    expect((await Promise.all(reads)).map((bytes) => bytes[0])).toEqual(
      Array.from({ length: 20 }, (_, turn) => turn + 1),
    );
  });

  it('makes what it has flushed last', async () => {
    const disk = await openDisk();
    await disk.write(0, patternBytes(4096));
    await disk.flush();
    // The session is lost here, without a close.
    folder.claims.clear();
    const after = await openDisk({});
    expectSameBytes(await after.read(0, 4096), patternBytes(4096));
  });

  it('counts what was done', async () => {
    const disk = await openDisk();
    await disk.write(0, patternBytes(4096));
    await disk.write(4096, patternBytes(512));
    await disk.read(0, 1024);
    await disk.flush();
    const stats = await disk.stats();
    expect(stats).toMatchObject({ reads: 1, readBytes: 1024, writes: 2, writtenBytes: 4608, flushes: 1 });
    expect(stats.fileSize).toBeGreaterThan(4608);
  });

  it('turns errors of the engine into Qcow2Errors with code and words, and goes on', async () => {
    const disk = await openDisk();
    await expect(disk.read(4 * MIB - 10, 20)).rejects.toMatchObject({ name: 'Qcow2Error', code: 'OUT_OF_RANGE' });
    await expect(disk.read(0, 2 ** 50)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
    await expect(disk.read(-1, 10)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
    await expect(disk.write(4 * MIB, new Uint8Array(1))).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
    expectSameBytes(await disk.read(0, 16), new Uint8Array(16));
  });
});

describe('opening a disk', () => {
  it('says NOT_FOUND for one that does not exist and is not to be created', async () => {
    await expect(openDisk({})).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(folder.claims.size).toBe(0);
  });

  it('says NOT_QCOW2 for a file that is none, leaves it alone, and lets go of it', async () => {
    folder.files.set('disk.qcow2', patternBytes(5000));
    await expect(openDisk()).rejects.toMatchObject({ code: 'NOT_QCOW2' });
    expectSameBytes(folder.content('disk.qcow2'), patternBytes(5000));
    expect(folder.claims.size).toBe(0);
  });

  it('says IN_USE to the second one that wants to write, until the first has closed', async () => {
    const first = await openDisk();
    await expect(openDisk()).rejects.toMatchObject({ code: 'IN_USE' });
    await first.close();
    const second = await openDisk();
    await second.close();
  });

  it('lets several read, who can not write', async () => {
    await (await openDisk()).close();
    const [first, second] = await Promise.all([openDisk({ readOnly: true }), openDisk({ readOnly: true })]);
    expect(first.info.readOnly).toBe(true);
    expectSameBytes(await second.read(0, 4), new Uint8Array(4));
    await expect(first.write(0, new Uint8Array(512))).rejects.toMatchObject({ code: 'READ_ONLY' });
    await expect(openDisk()).rejects.toMatchObject({ code: 'IN_USE' });
  });

  it.each(['', '..', 'a/b', '.tmp-1'])('refuses the file name "%s"', async (name) => {
    await expect(openDisk({ name, create: { size: MIB } })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  });

  it('leaves nothing behind when the new disk can not be made', async () => {
    await expect(openDisk({ create: { size: -1 } })).rejects.toMatchObject({ name: 'Qcow2Error' });
    expect(folder.files.size).toBe(0);
    expect(folder.claims.size).toBe(0);
  });
});

describe('a disk with a backing file', () => {
  beforeEach(() => {
    folder.files.set('base.raw', patternBytes(2 * MIB - 100));
  });

  const overlay = { create: { backing: { name: 'base.raw', format: 'raw' as const } }, backing: ['base.raw'] };

  it('takes its size from the base, in whole sectors, and reads through to it', async () => {
    const disk = await openDisk(overlay);
    expect(disk.info).toMatchObject({ size: 2 * MIB, backingFile: 'base.raw' });
    await disk.write(4096, new Uint8Array(4096).fill(7));
    const expected = patternBytes(2 * MIB - 100).slice(0, 16_384);
    expected.fill(7, 4096, 8192);
    expectSameBytes(await disk.read(0, 16_384), expected);
    await disk.close();
    expectSameBytes(folder.content('base.raw'), patternBytes(2 * MIB - 100));
  });

  it('is refused when the base was not allowed, at creation and later', async () => {
    await expect(openDisk({ ...overlay, backing: [] })).rejects.toMatchObject({ code: 'BACKING' });
    expect([...folder.files.keys()]).toEqual(['base.raw']);
    await (await openDisk(overlay)).close();
    await expect(openDisk({ backing: ['other'] })).rejects.toMatchObject({ code: 'BACKING' });
    expect(folder.claims.size).toBe(0);
  });

  it('is refused with BACKING when the base is gone', async () => {
    await (await openDisk(overlay)).close();
    folder.files.delete('base.raw');
    await expect(openDisk({ backing: ['base.raw'] })).rejects.toMatchObject({ code: 'BACKING' });
  });

  it('keeps the base from being replaced or deleted while it is open', async () => {
    const disk = await openDisk(overlay);
    const { client } = connect(folder.openDirectory);
    const base = { directory: 'disks', name: 'base.raw' };
    await expect(client.call({ kind: 'delete', ...base })).rejects.toMatchObject({ code: 'IN_USE' });
    await expect(client.call({ kind: 'storeBegin', ...base })).rejects.toMatchObject({ code: 'IN_USE' });
    await disk.close();
    await client.call({ kind: 'delete', ...base });
    expect(folder.files.has('base.raw')).toBe(false);
  });
});

describe('an export', () => {
  it('is one standalone image of the moment it was asked for, while the disk is read and written', async () => {
    folder.files.set('base.raw', patternBytes(8 * MIB));
    const { client } = connect(folder.openDirectory);
    await client.call(openRequest({ create: { backing: { name: 'base.raw', format: 'raw' } }, backing: ['base.raw'] }));
    const order: string[] = [];
    const progress: Progress[] = [];
    const exported = client.call({ kind: 'export', content: NOW }, { onProgress: (step) => progress.push(step) });
    const done = [
      exported.then(() => order.push('export')),
      client.call({ kind: 'read', offset: 0, length: 512 }).then(() => order.push('read')),
      client.call({ kind: 'write', offset: 8 * MIB - 512, bytes: new Uint8Array(512) }).then(() => order.push('write')),
      client.call({ kind: 'read', offset: 0, length: 512 }).then(() => order.push('read after write')),
    ];
    await Promise.all(done);
    expect(order).toEqual(['read', 'write', 'read after write', 'export']);
    expect(progress.at(-1)).toMatchObject({ done: expect.any(Number) as number, total: expect.any(Number) as number });

    const { blob } = await exported;
    folder.files.set('export.qcow2', new Uint8Array(await blob.arrayBuffer()));
    const copy = await openDisk({ name: 'export.qcow2' });
    expect(copy.info.backingFile).toBeNull();
    expectSameBytes(await copy.read(0, 8 * MIB), patternBytes(8 * MIB));
  });

  it('ends with ABORTED when its signal says so, and removes what it had written', async () => {
    const { client } = connect(folder.openDirectory);
    await client.call(openRequest({ create: { size: 16 * MIB } }));
    await client.call({ kind: 'write', offset: 0, bytes: patternBytes(16 * MIB) });
    const abort = new AbortController();
    const exported = client.call(
      { kind: 'export', content: NOW },
      { signal: abort.signal, onProgress: () => abort.abort() },
    );
    await expect(exported).rejects.toMatchObject({ code: 'ABORTED' });
    expect([...folder.files.keys()]).toEqual(['disk.qcow2']);
    expectSameBytes(await client.call({ kind: 'read', offset: 1, length: 3 }), patternBytes(4).slice(1));
  });

  it('takes the place of the export before', async () => {
    const { client } = connect(folder.openDirectory);
    await client.call(openRequest({ create: { size: MIB } }));
    await client.call({ kind: 'export', content: NOW });
    await client.call({ kind: 'export', content: NOW });
    expect([...folder.files.keys()].filter((name) => name !== 'disk.qcow2')).toHaveLength(1);
  });
});

describe('the end of a disk', () => {
  it('rejects what comes after close with CLOSED, and reports an orderly end', async () => {
    const disk = await openDisk();
    await disk.close();
    await disk.close();
    await expect(disk.read(0, 1)).rejects.toMatchObject({ code: 'CLOSED' });
    expect(await disk.closed).toBeNull();
    expect(folder.claims.size).toBe(0);
  });

  it('rejects everything pending and later with WORKER_DIED when the worker ends', async () => {
    const { client } = connect(folder.openDirectory);
    const disk = new OpfsDisk(client, await client.call(openRequest({ create: { size: MIB } })));
    const pending = [disk.read(0, 512), disk.flush(), disk.write(0, new Uint8Array(512))];
    client.fail('it was terminated');
    for (const result of await Promise.allSettled(pending)) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'WORKER_DIED' } });
    }
    await expect(disk.stats()).rejects.toMatchObject({ code: 'WORKER_DIED' });
    await expect(disk.close()).rejects.toMatchObject({ code: 'WORKER_DIED' });
    expect((await disk.closed) as Qcow2Error).toMatchObject({ code: 'WORKER_DIED' });
  });

  it('tells a flush that fails at close, and lets go of the file all the same', async () => {
    const disk = await openDisk();
    await disk.write(0, patternBytes(4096));
    const { prototype } = MemoryStorage;
    const original = Object.getOwnPropertyDescriptor(prototype, 'write');
    prototype.write = () => {
      throw new Error('the medium is gone');
    };
    try {
      await expect(disk.close()).rejects.toMatchObject({ name: 'Qcow2Error' });
    } finally {
      if (original !== undefined) Object.defineProperty(prototype, 'write', original);
    }
    expect(folder.claims.size).toBe(0);
  });
});
