/**
 * Exports that are saved: into a file as they are made, or into a stream as a whole. They prove: what is saved is what is exported otherwise;
 * where it goes into a file nothing lies beside the disk meanwhile; the disk is used while a slow file is written; what fails or is ended
 * aborts the target and leaves no trace.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkImage, listSnapshots, MemoryStorage, openChain, openImage, runToEnd } from '../../src/index.js';
import type { Progress } from '../../src/util/progress.js';
import { exportContent } from '../../src/worker/export-options.js';
import { OpfsDisk } from '../../src/worker/opfs-disk.js';
import type { NewDisk } from '../../src/worker/protocol.js';
import { patternBytes } from '../storage/conformance.js';
import { readWhole } from '../support/disk-actions.js';
import { closeConnections, connect, openRequest } from './connect.js';
import { MemoryFolder } from './memory-files.js';
import { expectSameBytes } from './same-bytes.js';

const MIB = 1 << 20;
const SIZE = 6 * MIB;
const CONTENT = patternBytes(SIZE);

let folder: MemoryFolder;

beforeEach(() => {
  folder = new MemoryFolder();
});
afterEach(closeConnections);

async function fullDisk(create: Partial<NewDisk> = {}): Promise<OpfsDisk> {
  const { client } = connect(folder.openDirectory);
  const disk = new OpfsDisk(client, await client.call(openRequest({ create: { size: SIZE, ...create } })));
  await disk.write(0, CONTENT.slice());
  return disk;
}

type Written =
  | { readonly type: 'write'; readonly position: number; readonly data: Uint8Array }
  | { readonly type: 'truncate'; readonly size: number };

/** A file as `showSaveFilePicker` gives one: what is written is in it when its stream is closed. */
class PickedFile {
  readonly kind = 'file';
  readonly name = 'picked.qcow2';
  /** Null until a stream was closed. */
  content: Uint8Array<ArrayBuffer> | null = null;
  aborted = false;
  /** Called before each write. */
  onWrite: (written: Written) => void | Promise<void> = () => {};

  createWritable(): Promise<WritableStream<Written>> {
    const storage = new MemoryStorage();
    const stream = new WritableStream<Written>({
      write: async (written) => {
        await this.onWrite(written);
        if (written.type === 'write') storage.write(written.position, written.data);
        else storage.truncate(written.size);
      },
      close: () => {
        this.content = storage.toBytes();
      },
      abort: () => {
        this.aborted = true;
      },
    });
    return Promise.resolve(stream);
  }

  /** As the page has it. */
  get handle(): FileSystemFileHandle {
    return this as unknown as FileSystemFileHandle;
  }
}

/** A gate that is shut, and how to open it; `reached` when somebody has come to it. */
function gate() {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  let arrive = (): void => {};
  const reached = new Promise<void>((resolve) => {
    arrive = resolve;
  });
  const pass = (): Promise<void> => (arrive(), opened);
  return { open, reached, pass };
}

/** Saves the disk, with the file standing still at its first piece until `use` is done. */
async function saveWhile(disk: OpfsDisk, file: PickedFile, use: () => Promise<void>): Promise<void> {
  const slow = gate();
  file.onWrite = slow.pass;
  const saved = disk.saveTo(file.handle);
  await slow.reached;
  await use();
  slow.open();
  await saved;
}

/** The files beside the disk's own. */
const temporaries = (): string[] => [...folder.files.keys()].filter((name) => name !== 'disk.qcow2');

function expectSound(bytes: Uint8Array): void {
  expect(runToEnd(checkImage(new MemoryStorage(bytes.slice()))).findings).toEqual([]);
}

describe('an export that is saved in a file', () => {
  it('goes there as it is made, and nothing of it lies beside the disk', async () => {
    const disk = await fullDisk();
    const file = new PickedFile();
    const seen: string[] = [];
    const progress: Progress[] = [];
    file.onWrite = () => void seen.push(...temporaries());
    await disk.saveTo(file.handle, { onProgress: (step) => progress.push(step) });
    expect(seen).toEqual([]);
    expectSound(file.content!);
    expectSameBytes(readWhole(openImage(new MemoryStorage(file.content!))), CONTENT);
    const shares = progress.map(({ done, total }) => done / total);
    expect(shares).toEqual(shares.toSorted((a, b) => a - b));
    expect(shares.at(-1)).toBe(1);
    expect(temporaries()).toEqual([]);
  });

  it.each([{ snapshots: false }, { compress: true }, { content: 'overlay' }, { snapshot: 'one' }] as const)(
    'is the file that it is otherwise: %o',
    async (options) => {
      const { client } = connect(folder.openDirectory);
      folder.files.set('base.raw', patternBytes(MIB).slice());
      const create = { backing: { name: 'base.raw', format: 'raw' } } as const;
      const disk = new OpfsDisk(client, await client.call(openRequest({ create, backing: ['base.raw'] })));
      await disk.write(300_000, new Uint8Array(100_000).fill(3));
      await disk.snapshots.create({ name: 'one' });
      await disk.write(350_000, new Uint8Array(100_000).fill(4));
      const file = new PickedFile();
      await disk.saveTo(file.handle, options);
      const { blob } = await client.call({ kind: 'export', content: exportContent(options) });
      expectSameBytes(file.content!, new Uint8Array(await blob.arrayBuffer()));
      await disk.close();
    },
  );

  it('has the snapshots in it, for which it is made as a whole first, with one progress over both parts', async () => {
    const disk = await fullDisk();
    await disk.snapshots.create({ name: 'one' });
    await disk.write(MIB, new Uint8Array(MIB).fill(1));
    const file = new PickedFile();
    const shares: number[] = [];
    const beside: string[][] = [];
    file.onWrite = () => void beside.push(temporaries());
    await disk.saveTo(file.handle, { onProgress: ({ done, total }) => shares.push(done / total) });
    expectSound(file.content!);
    expect(listSnapshots(openImage(new MemoryStorage(file.content!))).map(({ name }) => name)).toEqual(['one']);
    expect(beside.every(({ length }) => length === 1)).toBe(true);
    expect(shares).toEqual(shares.toSorted((a, b) => a - b));
    expect(shares.some((share) => share > 0 && share < 0.5)).toBe(true);
    expect(shares.at(-1)).toBe(1);
    expect(temporaries()).toEqual([]);
  });

  it('is encrypted by what it is given', async () => {
    const disk = await fullDisk();
    const file = new PickedFile();
    await disk.saveTo(file.handle, { encryption: { format: 'luks', passphrase: 'x', iterTime: 0 } });
    expect(Buffer.from(file.content!).includes(Buffer.from(CONTENT.subarray(0, 64)))).toBe(false);
    const copy = await openChain(new MemoryStorage(file.content!), { passphrase: 'x' });
    expectSameBytes(readWhole(copy), CONTENT);
  });

  it('is of the moment it was asked for, and the disk is used while the file takes its time', async () => {
    const disk = await fullDisk();
    const file = new PickedFile();
    await saveWhile(disk, file, async () => {
      await disk.write(0, new Uint8Array(SIZE).fill(9));
      await disk.flush();
      expect((await disk.read(MIB, 1))[0]).toBe(9);
    });
    expectSameBytes(readWhole(openImage(new MemoryStorage(file.content!))), CONTENT);
    await disk.close();
    expectSound(folder.content('disk.qcow2'));
    expect(listSnapshots(openImage(new MemoryStorage(folder.content('disk.qcow2').slice())))).toEqual([]);
  });

  it('holds no write back where the disk can have no snapshot: it is made as a whole first', async () => {
    const disk = await fullDisk({ refcountBits: 1 });
    const file = new PickedFile();
    await saveWhile(disk, file, async () => {
      await disk.write(0, new Uint8Array(SIZE).fill(9));
      await disk.flush();
    });
    expectSameBytes(readWhole(openImage(new MemoryStorage(file.content!))), CONTENT);
    expect(temporaries()).toEqual([]);
  });

  it('is told to be done when all of it is written', async () => {
    const disk = await fullDisk();
    const file = new PickedFile();
    let isTold = false;
    file.onWrite = () => expect(isTold).toBe(false);
    await disk.saveTo(file.handle, { onProgress: ({ done, total }) => (isTold ||= done === total) });
    expect(isTold).toBe(true);
  });

  it('is made no faster than the file takes it', async () => {
    const disk = await fullDisk();
    const file = new PickedFile();
    let [told, written, ahead] = [0, 0, 0];
    file.onWrite = async (piece) => {
      // As long as a step takes, and longer: one that does not wait for the file has its time.
      for (let turn = 0; turn < 20; turn++) await disk.read(0, 65536);
      ahead = Math.max(ahead, told - written);
      if (piece.type === 'write') written += piece.data.length;
    };
    await disk.saveTo(file.handle, { onProgress: ({ done }) => (told = done) });
    expect(written).toBeGreaterThan(SIZE);
    expect(ahead).toBeLessThanOrEqual(4 * MIB);
  });
});

describe('an export that is saved in a stream', () => {
  it('comes in the order of its bytes', async () => {
    const disk = await fullDisk();
    const pieces: Uint8Array[] = [];
    let closed = false;
    const stream = new WritableStream<Uint8Array>({
      write: (piece) => void pieces.push(piece),
      close: () => void (closed = true),
    });
    await disk.saveTo(stream);
    expect(closed).toBe(true);
    expectSameBytes(readWhole(openImage(new MemoryStorage(new Uint8Array(Buffer.concat(pieces))))), CONTENT);
    expect(temporaries()).toEqual([]);
    expect(stream.locked).toBe(false);
  });

  it('holds nothing back once it is made, however slow the stream is', async () => {
    const disk = await fullDisk();
    const { id } = await disk.snapshots.create({ name: 'one' });
    const slow = gate();
    let bytes = 0;
    const saved = disk.saveTo(
      new WritableStream<Uint8Array>({ write: (piece) => ((bytes += piece.length), slow.pass()) }),
    );
    await slow.reached;
    await disk.snapshots.delete(id);
    await disk.snapshots.create({ name: 'two' });
    expect(temporaries()).toHaveLength(1);
    slow.open();
    await saved;
    expect(bytes).toBeGreaterThan(SIZE);
    expect(temporaries()).toEqual([]);
  });
});

describe('an export that can not be saved', () => {
  it.each([
    ['a full medium', new DOMException('full', 'QuotaExceededError'), 'NO_SPACE'],
    ['one that is gone', new Error('no medium'), 'IO'],
  ])('leaves the file as it was, and no trace: %s', async (_, error, code) => {
    const disk = await fullDisk();
    await disk.snapshots.create({ name: 'one' });
    for (const options of [{ snapshots: false }, {}]) {
      const file = new PickedFile();
      let count = 0;
      file.onWrite = () => (++count > 1 ? Promise.reject(error) : undefined);
      await expect(disk.saveTo(file.handle, options)).rejects.toMatchObject({ name: 'Qcow2Error', code, cause: error });
      expect(file.content).toBeNull();
      expect(temporaries()).toEqual([]);
    }
    await disk.write(0, new Uint8Array(512));
    await disk.close();
    expectSound(folder.content('disk.qcow2'));
  });

  it('is ended by its signal, and by closing the disk, also where the file never answers', async () => {
    for (const end of ['signal', 'close'] as const) {
      folder = new MemoryFolder();
      const disk = await fullDisk();
      const file = new PickedFile();
      const abort = new AbortController();
      let closed: Promise<void> | undefined;
      file.onWrite = () => {
        if (end === 'signal') abort.abort();
        else closed ??= disk.close();
        return new Promise(() => {});
      };
      await expect(disk.saveTo(file.handle, { signal: abort.signal })).rejects.toMatchObject({ code: 'ABORTED' });
      expect(file.content).toBeNull();
      await (closed ?? disk.close());
      expect(temporaries()).toEqual([]);
      expectSound(folder.content('disk.qcow2'));
    }
  });

  it('is refused before anything is written: a file that pages can not write, a stream in use', async () => {
    const disk = await fullDisk();
    const file = { kind: 'file', name: 'x' } as FileSystemFileHandle;
    await expect(disk.saveTo(file)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    const stream = new WritableStream<Uint8Array>();
    stream.getWriter();
    await expect(disk.saveTo(stream)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    const free = new WritableStream<Uint8Array>();
    const both = await Promise.allSettled([disk.saveTo(free), disk.saveTo(free)]);
    expect(both).toMatchObject([{ status: 'fulfilled' }, { reason: { name: 'Qcow2Error', code: 'BAD_ARGUMENT' } }]);
  });

  it('aborts the target where there is no such export', async () => {
    const disk = await fullDisk();
    const file = new PickedFile();
    await expect(disk.saveTo(file.handle, { content: 'overlay' })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    expect(file.aborted).toBe(true);
  });
});
