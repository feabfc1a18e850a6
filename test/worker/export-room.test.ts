/**
 * Exports where the site has too little room. They prove: the disk comes first. An export that can't have room is refused before it begins; one
 * that takes the room of the guest's writes is given up, and the guest hears nothing of it; nothing is left of either.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkImage, listSnapshots, MemoryStorage, openImage, runToEnd } from '../../src/index.js';
import type { WorkerClient } from '../../src/worker/client.js';
import { OpfsDisk } from '../../src/worker/opfs-disk.js';
import type { ExportContent } from '../../src/worker/protocol.js';
import { patternBytes } from '../storage/conformance.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { closeConnections, connect, openRequest } from './connect.js';
import { TightFolder } from './tight-folder.js';

const MIB = 1 << 20;
const SIZE = 8 * MIB;
const NOW: ExportContent = { of: 'disk', snapshots: false };

let folder: TightFolder;

beforeEach(() => {
  folder = new TightFolder();
});
afterEach(closeConnections);

interface Full {
  readonly client: WorkerClient;
  readonly disk: OpfsDisk;
}

/** A disk full of data. */
async function fullDisk(quota?: number): Promise<Full> {
  const estimateRoom = () => Promise.resolve({ quota: quota!, usage: folder.used });
  const network = { fetch, files: null, ...(quota !== undefined && { estimateRoom }) };
  const { client } = connect(folder.openDirectory, network);
  const disk = new OpfsDisk(client, await client.call(openRequest({ create: { size: SIZE } })));
  await disk.write(0, patternBytes(SIZE).slice());
  await disk.flush();
  return { client, disk };
}

/** The disk holds this, and nothing of an export is left in it or beside it. */
async function expectOnly(disk: OpfsDisk, content: Uint8Array): Promise<void> {
  await disk.close();
  expect([...folder.files.keys()]).toEqual(['disk.qcow2']);
  const bytes = folder.content('disk.qcow2');
  expect(runToEnd(checkImage(new MemoryStorage(bytes.slice())))).toMatchObject({ corruptions: 0, leaks: 0 });
  const image = openImage(new MemoryStorage(bytes.slice()), { readOnly: true });
  expect(listSnapshots(image)).toEqual([]);
  expectSameBytes(readWhole(image), content, 'the disk');
}

describe('an export of a disk that is being written, with too little room for both', () => {
  // With little of it the export ends by itself; with more it is the guest's write that finds none.
  it.each([0.3, 1, 2, 4, 6, 8, 9].map((room) => ({ room })))(
    'costs the guest nothing where there are $room MiB',
    async ({ room }) => {
      const { client, disk } = await fullDisk();
      const expected = patternBytes(SIZE).slice();
      folder.limit = folder.used + room * MIB;
      const exported = client.call({ kind: 'export', content: NOW }).catch((error: { code: string }) => error.code);
      const changes: Promise<void>[] = [];
      for (let at = 0; at + 300_000 <= SIZE; at += MIB / 2) {
        changes.push(disk.write(at + 5, new Uint8Array(300_000).fill(1 + at / MIB)), disk.flush());
        changes.push(disk.discard(at + 262_144, 65_536));
        expected.fill(1 + at / MIB, at + 5, at + 300_005).fill(0, at + 262_144, at + 327_680);
      }
      await Promise.all(changes);
      expect(await exported).toBe('NO_SPACE');
      await disk.write(0, new Uint8Array(MIB).fill(9));
      await expectOnly(disk, expected.fill(9, 0, MIB));
    },
  );

  it('is made where there is room for both', async () => {
    const { client, disk } = await fullDisk();
    folder.limit = folder.used + 20 * MIB;
    const exported = client.call({ kind: 'export', content: NOW });
    await disk.write(0, new Uint8Array(SIZE).fill(1));
    const bytes = new Uint8Array(await (await exported).blob.arrayBuffer());
    const image = openImage(new MemoryStorage(bytes), { readOnly: true });
    expectSameBytes(readWhole(image), patternBytes(SIZE), 'the export');
    await disk.close();
  });
});

describe('an export that can not have room, as the browser tells', () => {
  it('is refused before anything is written; a compressed one is not', async () => {
    const { client, disk } = await fullDisk(24 * MIB);
    const { fileSize } = await disk.stats();
    const refused = client.call({ kind: 'export', content: NOW });
    await expect(refused).rejects.toMatchObject({
      code: 'NO_SPACE',
      message: expect.stringMatching(
        /^the export needs about \d+ bytes, and the browser has room for \d+ more/,
      ) as string,
    });
    expect((await disk.stats()).fileSize).toBe(fileSize);
    await client.call({ kind: 'export', content: { ...NOW, compress: true } });
    await disk.close();
  });

  it('is made where the browser tells nothing', async () => {
    const { client, disk } = await fullDisk();
    await expect(client.call({ kind: 'export', content: NOW })).resolves.toBeDefined();
    await disk.close();
  });
});
