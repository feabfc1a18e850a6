/**
 * Passphrases that are changed while a guest uses the disk. Deriving keys is held here for as long as a test likes. Proven:
 * - meanwhile the disk is read, written, flushed and exported;
 * - the change comes in one piece, in nobody else's turn, and in the order of the requests;
 * - it does not come at all where the disk was closed meanwhile, or the request given up.
 */
import { pbkdf2Sync } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { MemoryStorage, unlockImage } from '../../src/index.js';
import { webKeyDerivation } from '../../src/crypto/key-derivation.js';
import type { WorkerClient } from '../../src/worker/client.js';
import type { ExportContent } from '../../src/worker/protocol.js';
import { patternBytes } from '../storage/conformance.js';
import { LUKS } from '../support/encrypted-image.js';
import { closeConnections, connect, openRequest } from './connect.js';
import { MemoryFolder } from './memory-files.js';
import { expectSameBytes } from './same-bytes.js';

const MIB = 1 << 20;
const OLD = 'the old one';
const NEW = 'the new one';
const CHANGE = { kind: 'changePassphrase', passphrase: OLD, newPassphrase: NEW, iterTime: 0 } as const;

let folder: MemoryFolder;
let client: WorkerClient;

beforeEach(async () => {
  folder = new MemoryFolder();
  client = connect(folder.openDirectory).client;
  const create = { size: 8 * MIB, clusterSize: 4096, encryption: LUKS };
  await client.call(openRequest({ create, passphrase: OLD }));
});
afterEach(() => {
  vi.restoreAllMocks();
  closeConnections();
});

function signal(): { readonly given: Promise<void>; readonly give: () => void } {
  let give = (): void => {};
  const given = new Promise<void>((resolve) => {
    give = resolve;
  });
  return { given, give };
}

/** Keys are not derived until `release`. `asked` resolves when one is asked for. */
function holdDerivation(): { readonly asked: Promise<void>; readonly release: () => void } {
  const { pbkdf2 } = webKeyDerivation;
  const asked = signal();
  const released = signal();
  vi.spyOn(webKeyDerivation, 'pbkdf2').mockImplementation(async (request) => {
    asked.give();
    await released.given;
    return pbkdf2(request);
  });
  return { asked: asked.given, release: released.give };
}

/** Keys are derived at once, so that a change is ready long before a job of many steps has ended. */
function deriveAtOnce(): void {
  vi.spyOn(webKeyDerivation, 'pbkdf2').mockImplementation(async ({ hash, password, salt, iterations, length }) =>
    Uint8Array.from(pbkdf2Sync(password, salt, iterations, length, hash)),
  );
}

/** Which of the two open the image in `bytes`. */
async function opening(bytes: Uint8Array): Promise<string[]> {
  const found: string[] = [];
  for (const passphrase of [OLD, NEW]) {
    const result = await unlockImage(new MemoryStorage(bytes.slice()), passphrase).catch((error: unknown) => error);
    if (result instanceof Error) expect(result).toMatchObject({ code: 'WRONG_PASSPHRASE' });
    else found.push(passphrase);
  }
  return found;
}

const ofFile = () => opening(folder.content('disk.qcow2'));
const read = (offset: number, length: number) => client.call({ kind: 'read', offset, length });
const write = (offset: number, bytes: Uint8Array<ArrayBuffer>) => client.call({ kind: 'write', offset, bytes });

async function exported(content: ExportContent): Promise<Uint8Array> {
  const { blob } = await client.call({ kind: 'export', content });
  return new Uint8Array(await blob.arrayBuffer());
}

describe('while a key is derived for a new passphrase', () => {
  it('the guest reads, writes, flushes and takes snapshots, and the file has the old passphrase', async () => {
    const { asked, release } = holdDerivation();
    const changed = client.call(CHANGE);
    await asked;
    await write(5000, patternBytes(100_000));
    expectSameBytes(await read(5000, 100_000), patternBytes(100_000));
    await client.call({ kind: 'flush' });
    await client.call({ kind: 'createSnapshot', snapshot: { name: 'meanwhile' } });
    expect(await client.call({ kind: 'listSnapshots' })).toHaveLength(1);
    expect((await client.call({ kind: 'stats' })).writes).toBe(1);
    release();
    vi.restoreAllMocks();
    expect(await ofFile()).toEqual([OLD]);
    expect(await changed).toBe(1);
    expect(await ofFile()).toEqual([NEW]);
    expectSameBytes(await read(5000, 100_000), patternBytes(100_000));
  });

  it('the disk is exported whole, with the passphrases from before', async () => {
    await write(0, patternBytes(3 * MIB));
    const { asked, release } = holdDerivation();
    const changed = client.call(CHANGE);
    await asked;
    const copies = [await exported({ of: 'file' }), await exported({ of: 'disk', snapshots: true })];
    release();
    vi.restoreAllMocks();
    await changed;
    for (const copy of copies) expect(await opening(copy)).toEqual([OLD]);
    expect(await opening(await exported({ of: 'file' }))).toEqual([NEW]);
  });

  it.each([
    ['the file', { of: 'file' }],
    ['the disk', { of: 'disk', snapshots: false }],
  ] as const)('the change does not come between the steps of an export of %s that is under way', async (_, content) => {
    await write(0, patternBytes(7 * MIB));
    deriveAtOnce();
    const order: string[] = [];
    const changes: Promise<unknown>[] = [];
    const onProgress = (): void => {
      if (changes.length === 0) changes.push(client.call(CHANGE).then(() => order.push('change')));
    };
    const { blob } = await client.call({ kind: 'export', content }, { onProgress });
    order.push('export');
    await Promise.all(changes);
    expect(order).toEqual(['export', 'change']);
    expect(await opening(new Uint8Array(await blob.arrayBuffer()))).toEqual([OLD]);
    expect(await ofFile()).toEqual([NEW]);
  });

  it('reads are answered that came behind it during an export', async () => {
    await write(0, patternBytes(7 * MIB));
    const { release } = holdDerivation();
    const order: string[] = [];
    const others: Promise<unknown>[] = [];
    const onProgress = (): void => {
      if (others.length > 0) return;
      others.push(client.call(CHANGE).then(() => order.push('change')));
      others.push(read(0, 512).then(() => order.push('read')));
    };
    await client.call({ kind: 'export', content: { of: 'disk', snapshots: false } }, { onProgress });
    order.push('export');
    release();
    await Promise.all(others);
    expect(order).toEqual(['read', 'export', 'change']);
  });

  it('another request of the kind waits, and sees what it has changed', async () => {
    const { asked, release } = holdDerivation();
    const first = client.call(CHANGE);
    const second = client.call({ ...CHANGE, passphrase: NEW, newPassphrase: OLD });
    const third = client.call({ kind: 'erasePassphrase', passphrase: NEW });
    const rejected = expect(third).rejects.toMatchObject({ code: 'WRONG_PASSPHRASE' });
    await asked;
    await write(0, patternBytes(512));
    release();
    expect(await first).toBe(1);
    expect(await second).toBe(0);
    await rejected;
    expect(await ofFile()).toEqual([OLD]);
  });

  it('a derivation that fails is the end of this request alone', async () => {
    vi.spyOn(webKeyDerivation, 'pbkdf2').mockRejectedValueOnce(new Error('no memory'));
    await expect(client.call(CHANGE)).rejects.toThrow('no memory');
    expect(await client.call(CHANGE)).toBe(1);
    expect(await ofFile()).toEqual([NEW]);
  });

  it('the disk can be closed, and stays as it was, as does another that is opened then', async () => {
    const { asked, release } = holdDerivation();
    const changed = expect(client.call(CHANGE)).rejects.toMatchObject({ code: 'CLOSED' });
    const next = expect(client.call(CHANGE)).rejects.toMatchObject({ code: 'CLOSED' });
    await asked;
    await client.call({ kind: 'close' });
    const before = folder.content('disk.qcow2').slice();
    vi.restoreAllMocks();
    const create = { size: MIB, encryption: LUKS };
    await client.call(openRequest({ name: 'other.qcow2', create, passphrase: OLD }));
    const other = folder.content('other.qcow2').slice();
    release();
    await changed;
    await next;
    await client.call({ kind: 'close' });
    expectSameBytes(folder.content('disk.qcow2'), before);
    expectSameBytes(folder.content('other.qcow2'), other);
    expect(folder.claims.size).toBe(0);
  });

  it('it can be given up, and nothing was changed', async () => {
    const { asked, release } = holdDerivation();
    const giveUp = new AbortController();
    const changed = client.call(CHANGE, { signal: giveUp.signal });
    const rejected = expect(changed).rejects.toMatchObject({ code: 'ABORTED' });
    await asked;
    giveUp.abort();
    await client.call({ kind: 'stats' });
    release();
    await rejected;
    vi.restoreAllMocks();
    expect(await ofFile()).toEqual([OLD]);
    expect(await client.call(CHANGE)).toBe(1);
  });
});
