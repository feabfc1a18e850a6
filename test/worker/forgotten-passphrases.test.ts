/**
 * What is forgotten: nothing that an open disk keeps leads to the request that opened it or changed its key slots, and so to a
 * passphrase. Shown by the garbage collector, which takes the requests while the disk is open.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { openDiskFile, type DiskFileOptions, type OpenDiskFile } from '../../src/worker/disk-file.js';
import type { Request } from '../../src/worker/protocol.js';
import { LUKS } from '../support/encrypted-image.js';
import { directServer, openRequest } from './connect.js';
import { MemoryFolder } from './memory-files.js';

const PASSPHRASE = 'the passphrase';
const NEW = 'the new passphrase';
const create = { size: 1 << 20, encryption: LUKS } as const;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Whether the collector takes what `reference` leads to. */
async function isForgotten(reference: WeakRef<object>): Promise<boolean> {
  for (let round = 0; round < 20 && reference.deref() !== undefined; round++) {
    // A reference that was looked at is kept until the task ends.
    await new Promise((resolve) => setTimeout(resolve, 5));
    collectGarbage();
  }
  return reference.deref() === undefined;
}

async function opened(folder: MemoryFolder, name: string): Promise<[OpenDiskFile, WeakRef<DiskFileOptions>]> {
  const { kind: _, directory: __, ...options } = openRequest({ name, create, passphrase: PASSPHRASE });
  return [await openDiskFile(folder, options), new WeakRef(options)];
}

describe('a disk that is open', () => {
  it('does not keep the options that it was created or opened with, nor do its info and close', async () => {
    const folder = new MemoryFolder();
    for (const state of ['created', 'there already']) {
      const [disk, options] = await opened(folder, 'disk.qcow2');
      expect(await isForgotten(options), state).toBe(true);
      expect(disk.info).toMatchObject({ encryption: 'luks', path: '/memory/disk.qcow2' });
      disk.close();
      expect(folder.claims.size).toBe(0);
    }
  });

  it('is held by a server that keeps no request, answered or refused', async () => {
    const { send, nextAnswer } = directServer(new MemoryFolder().openDirectory);
    await nextAnswer();
    let id = 0;
    const answered = async (make: () => Request): Promise<WeakRef<Request>> => {
      const request = make();
      send({ id: ++id, request });
      await nextAnswer();
      return new WeakRef(request);
    };
    for (const [kind, make] of Object.entries({
      created: () => openRequest({ create, passphrase: PASSPHRASE }),
      'opened again, refused': () => openRequest({ passphrase: PASSPHRASE }),
      changed: () => ({ kind: 'changePassphrase', passphrase: PASSPHRASE, newPassphrase: NEW, iterTime: 0 }) as const,
      'changed, refused': () => ({ kind: 'changePassphrase', passphrase: 'wrong', newPassphrase: NEW }) as const,
      erased: () => ({ kind: 'erasePassphrase', passphrase: NEW }) as const,
    })) {
      expect(await isForgotten(await answered(make)), kind).toBe(true);
    }
    await answered(() => ({ kind: 'close' }));
  });
});
