/**
 * Exports that are encrypted with a key of their own: of a plain disk, and of one that is encrypted otherwise. The passphrase of
 * the copy opens it and no other does, snapshots come along, and the disk itself stays as it is.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkImage, listSnapshots, MemoryStorage, openChain, openSnapshot, runToEnd } from '../../src/index.js';
import type { WorkerClient } from '../../src/worker/client.js';
import { OpfsDisk } from '../../src/worker/opfs-disk.js';
import type { ExportContent, NewDisk } from '../../src/worker/protocol.js';
import { patternBytes } from '../storage/conformance.js';
import { AES, LUKS } from '../support/encrypted-image.js';
import { closeConnections, connect, openRequest } from './connect.js';
import { MemoryFolder } from './memory-files.js';
import { expectSameBytes } from './same-bytes.js';

const MIB = 1 << 20;
const PASSPHRASE = 'of the disk';
const OTHER = 'of the copy';
const ENCRYPTION = { format: 'luks', passphrase: OTHER, iterTime: 0 } as const;

let folder: MemoryFolder;
let client: WorkerClient;

beforeEach(() => {
  folder = new MemoryFolder();
  client = connect(folder.openDirectory).client;
});
afterEach(closeConnections);

/** A disk with a pattern, a snapshot of that, and something else over a part of it since. */
async function openWithSnapshot(encryption?: NewDisk['encryption']): Promise<OpfsDisk> {
  const create = { size: 4 * MIB, clusterSize: 4096, ...(encryption && { encryption }) };
  const disk = new OpfsDisk(client, await client.call(openRequest({ create, passphrase: PASSPHRASE })));
  await disk.write(0, patternBytes(30_000));
  await disk.snapshots.writeVmState(0, patternBytes(10_000), {});
  await disk.snapshots.create({ name: 'one', vmStateBytes: 10_000 });
  await disk.write(10_000, new Uint8Array(30_000).fill(7));
  return disk;
}

async function exported(content: ExportContent): Promise<MemoryStorage> {
  const { blob } = await client.call({ kind: 'export', content });
  const bytes = new Uint8Array(await blob.arrayBuffer());
  expect(Buffer.from(bytes).includes(Buffer.from(patternBytes(64)))).toBe(false);
  const storage = new MemoryStorage(bytes);
  expect(runToEnd(checkImage(storage)).findings).toEqual([]);
  await expect(openChain(storage, { passphrase: PASSPHRASE })).rejects.toMatchObject({ code: 'WRONG_PASSPHRASE' });
  return storage;
}

describe.each([
  ['a plain disk', undefined],
  ['a disk with legacy AES', AES],
  ['a disk with LUKS', LUKS],
])('an export of %s', (_, before) => {
  it('is encrypted with a key of its own when it is asked for so, with its snapshots', async () => {
    const disk = await openWithSnapshot(before);
    const { encryption, cipher } = disk.info;
    const image = await openChain(await exported({ of: 'disk', snapshots: true, encryption: ENCRYPTION }), {
      passphrase: OTHER,
    });
    const head = new Uint8Array(10_000);
    const tail = new Uint8Array(30_000);
    image.read(0, head);
    image.read(10_000, tail);
    expectSameBytes(head, patternBytes(30_000).slice(0, 10_000));
    expectSameBytes(tail, new Uint8Array(30_000).fill(7));
    expect(listSnapshots(image).map(({ name }) => name)).toEqual(['one']);
    const then = new Uint8Array(30_000);
    openSnapshot(image, 'one').read(0, then);
    expectSameBytes(then, patternBytes(30_000));
    image.close();
    expect(disk.info).toMatchObject({ encryption, cipher });
    expectSameBytes(await disk.read(0, 10_000), head);
    await disk.close();
  });
});

it('an export of one snapshot is encrypted as it is asked for', async () => {
  const disk = await openWithSnapshot();
  const storage = await exported({ of: 'snapshot', key: 'one', encryption: ENCRYPTION });
  const image = await openChain(storage, { passphrase: OTHER });
  const bytes = new Uint8Array(30_000);
  image.read(0, bytes);
  expectSameBytes(bytes, patternBytes(30_000));
  image.close();
  await disk.close();
});

it('an export with an encryption that can not be made leaves no file behind, and the disk works on', async () => {
  const disk = await openWithSnapshot();
  const encryption = { ...ENCRYPTION, iterTime: -1 };
  const content = { of: 'disk', snapshots: true, encryption } as const;
  await expect(client.call({ kind: 'export', content })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  expect([...folder.files.keys()]).toEqual(['disk.qcow2']);
  expectSameBytes(await disk.read(0, 10_000), patternBytes(30_000).slice(0, 10_000));
  await disk.close();
});

it('a disk says with what its data are encrypted', async () => {
  const disk = await openWithSnapshot(LUKS);
  expect(disk.info.cipher).toMatchObject({ cipher: 'aes-256', mode: 'xts', iv: 'plain64' });
  await disk.close();
  client = connect(folder.openDirectory).client;
  const plain = new OpfsDisk(client, await client.call(openRequest({ name: 'plain', create: { size: MIB } })));
  expect(plain.info.cipher).toBeNull();
  await plain.close();
});
