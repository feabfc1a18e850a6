import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { WorkerClient } from '../../src/worker/client.js';
import { patternBytes } from '../storage/conformance.js';
import { closeConnections, connect, openRequest } from './connect.js';
import { MemoryFolder } from './memory-files.js';
import { expectSameBytes } from './same-bytes.js';

const MIB = 1 << 20;
const SOURCE = patternBytes(5 * MIB + 100, 1);
const OLD = patternBytes(3000, 2);

let folder: MemoryFolder;
let client: WorkerClient;

beforeEach(() => {
  folder = new MemoryFolder();
  folder.files.set('disk.qcow2', SOURCE.slice());
  client = connect(folder.openDirectory).client;
});
afterEach(closeConnections);

function request(newName: string, options: { name?: string; overwrite?: boolean } = {}) {
  const { name = 'disk.qcow2', overwrite = false } = options;
  return { kind: 'duplicate', directory: 'disks', name, newName, overwrite } as const;
}

/** Nothing has come of it: the files are these, and nobody holds one. */
function expectFiles(...names: string[]): void {
  expect([...folder.files.keys()].sort()).toEqual(names);
  expect(folder.claims.size).toBe(0);
}

describe('the duplicate of a file', () => {
  it('has all its bytes, leaves the file as it was, and tells how far it is', async () => {
    const shares: number[] = [];
    await client.call(request('copy.qcow2'), { onProgress: ({ done, total }) => shares.push(done / total) });
    expectSameBytes(folder.content('copy.qcow2'), SOURCE);
    expectSameBytes(folder.content('disk.qcow2'), SOURCE);
    expect(shares.at(-1)).toBe(1);
    expectFiles('copy.qcow2', 'disk.qcow2');
  });

  it('leaves a file of the new name alone, unless it is to replace it', async () => {
    folder.files.set('copy.qcow2', OLD.slice());
    await expect(client.call(request('copy.qcow2'))).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: '/memory/copy.qcow2 is there already, and is not to be replaced',
    });
    expectSameBytes(folder.content('copy.qcow2'), OLD);
    await client.call(request('copy.qcow2', { overwrite: true }));
    expectSameBytes(folder.content('copy.qcow2'), SOURCE);
    expectFiles('copy.qcow2', 'disk.qcow2');
  });

  it('is refused while somebody writes the file, and not while it is read', async () => {
    const other = connect(folder.openDirectory).client;
    await other.call(openRequest({ name: 'open.qcow2', create: { size: MIB } }));
    const busy = request('copy.qcow2', { name: 'open.qcow2' });
    await expect(client.call(busy)).rejects.toMatchObject({ code: 'IN_USE' });
    await other.call({ kind: 'close' });
    const reader = connect(folder.openDirectory).client;
    await reader.call(openRequest({ name: 'open.qcow2', readOnly: true }));
    await client.call(busy);
    expectSameBytes(folder.content('copy.qcow2'), folder.content('open.qcow2'));
  });

  it('is refused where somebody uses the file that it would replace', async () => {
    const other = connect(folder.openDirectory).client;
    await other.call(openRequest({ name: 'open.qcow2', create: { size: MIB } }));
    const replacing = client.call(request('open.qcow2', { overwrite: true }));
    await expect(replacing).rejects.toMatchObject({ code: 'IN_USE' });
    expect([...folder.claims.keys()]).toEqual(['open.qcow2']);
  });

  it('needs two names, and a file', async () => {
    await expect(client.call(request('disk.qcow2'))).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await expect(client.call(request('a/b'))).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await expect(client.call(request('b', { name: 'none' }))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expectFiles('disk.qcow2');
  });

  it('leaves nothing behind when its signal ends it, and the file that it would have replaced', async () => {
    folder.files.set('copy.qcow2', OLD.slice());
    const abort = new AbortController();
    const options = { signal: abort.signal, onProgress: () => abort.abort() };
    const ended = client.call(request('copy.qcow2', { overwrite: true }), options);
    await expect(ended).rejects.toMatchObject({ code: 'ABORTED' });
    expectSameBytes(folder.content('copy.qcow2'), OLD);
    expectFiles('copy.qcow2', 'disk.qcow2');
  });
});
