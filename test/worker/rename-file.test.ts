import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { WorkerClient } from '../../src/worker/client.js';
import { patternBytes } from '../storage/conformance.js';
import { closeConnections, connect } from './connect.js';
import { MemoryFolder } from './memory-files.js';
import { expectSameBytes } from './same-bytes.js';

const SOURCE = patternBytes(5000, 1);
const OTHER = patternBytes(3000, 2);

let folder: MemoryFolder;
let client: WorkerClient;

beforeEach(() => {
  folder = new MemoryFolder();
  folder.files.set('disk.qcow2', SOURCE.slice());
  client = connect(folder.openDirectory).client;
});
afterEach(closeConnections);

function rename(newName: string, options: { overwrite?: boolean; name?: string } = {}): Promise<null> {
  return client.call({ kind: 'rename', directory: 'disks', name: 'disk.qcow2', newName, ...options });
}

/** The files are these, and nobody holds one. */
function expectFiles(...names: string[]): void {
  expect([...folder.files.keys()].sort()).toEqual(names);
  expect(folder.claims.size).toBe(0);
}

describe('a file that is renamed', () => {
  it('takes the place of one of the new name, unless it is not to', async () => {
    folder.files.set('other.qcow2', OTHER.slice());
    await expect(rename('other.qcow2', { overwrite: false })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: '/memory/other.qcow2 is there already, and is not to be replaced',
    });
    expectSameBytes(folder.content('other.qcow2'), OTHER);
    expectFiles('disk.qcow2', 'other.qcow2');
    await rename('other.qcow2');
    expectSameBytes(folder.content('other.qcow2'), SOURCE);
    expectFiles('other.qcow2');
  });

  it('leaves alone a file that somebody has made while it waited for the claim', async () => {
    const claim = folder.claim.bind(folder);
    vi.spyOn(folder, 'claim').mockImplementation(async (name, mode) => {
      const held = await claim(name, mode);
      if (name === 'other.qcow2') folder.files.set(name, OTHER.slice());
      return held;
    });
    await expect(rename('other.qcow2', { overwrite: false })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    expectSameBytes(folder.content('other.qcow2'), OTHER);
    expectSameBytes(folder.content('disk.qcow2'), SOURCE);
    expectFiles('disk.qcow2', 'other.qcow2');
  });

  it('has the new name where that is free, or its own', async () => {
    await rename('disk.qcow2', { overwrite: false });
    expectFiles('disk.qcow2');
    await rename('new.qcow2', { overwrite: false });
    expectSameBytes(folder.content('new.qcow2'), SOURCE);
    expectFiles('new.qcow2');
  });

  it('must be there, and both names must be names', async () => {
    await expect(rename('b', { name: 'none', overwrite: false })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(rename('a/b')).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    expectFiles('disk.qcow2');
  });
});
