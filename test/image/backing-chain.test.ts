/** Backing chains: what the opener is asked, what it may refuse, how deep it goes, and who closes what. */
import { describe, expect, it } from 'vitest';
import {
  createImage,
  MemoryStorage,
  openChain,
  openImage,
  RawDisk,
  settle,
  type BackingOpener,
  type BackingReference,
  type CreateOptions,
  type Storage,
} from '../../src/index.js';
import { RemoteStorage } from '../storage/remote.js';

const SIZE = 1 << 20;

/** A storage that can tell whether it was closed and whether anything tried to change it. */
class WatchedStorage extends MemoryStorage {
  closes = 0;
  changes = 0;

  override write(offset: number, source: Uint8Array): void {
    this.changes++;
    super.write(offset, source);
  }

  override truncate(size: number): void {
    this.changes++;
    super.truncate(size);
  }

  override close(): void {
    this.closes++;
  }
}

/** Images by name, each with the one before as its backing file; the first is raw. */
class Shelf {
  readonly files = new Map<string, WatchedStorage>();
  readonly asked: BackingReference[] = [];

  readonly opener: BackingOpener = (reference) => {
    this.asked.push(reference);
    const storage = this.files.get(reference.name);
    if (storage === undefined) throw new Error('not on the shelf');
    return storage;
  };

  add(name: string, backing?: { name: string; format: 'qcow2' | 'raw' }): WatchedStorage {
    const storage = new WatchedStorage();
    createImage(storage, { size: SIZE, clusterSize: 4096, ...(backing ? { backing } : {}) });
    this.files.set(name, storage);
    storage.changes = 0;
    return storage;
  }

  addRaw(name: string, bytes: Uint8Array): WatchedStorage {
    const storage = new WatchedStorage(bytes);
    this.files.set(name, storage);
    return storage;
  }

  /** `depth` images, the last of them on top. */
  addChain(depth: number): WatchedStorage {
    let top = this.add('0');
    for (let index = 1; index < depth; index++) top = this.add(`${index}`, { name: `${index - 1}`, format: 'qcow2' });
    return top;
  }

  get closes(): number[] {
    return [...this.files.values()].map((storage) => storage.closes);
  }
}

function backingError(...patterns: RegExp[]): unknown {
  const message = expect.stringMatching(
    new RegExp(patterns.map((pattern) => pattern.source).join('.*'), 's'),
  ) as string;
  return expect.objectContaining({ name: 'Qcow2Error', code: 'BACKING', message });
}

/** The backing format extension of an image that names a backing file, so that it can be taken away or changed. */
function setFormat(storage: MemoryStorage, format: string | null): void {
  const bytes = storage.toBytes();
  const view = new DataView(bytes.buffer);
  let at = view.getUint32(100);
  while (view.getUint32(at) !== 0xe279_2aca) at += 8 + Math.ceil(view.getUint32(at + 4) / 8) * 8;
  if (format === null) view.setUint32(at, 0x1234_5678);
  else bytes.set(new TextEncoder().encode(format), at + 8);
  storage.write(0, bytes.subarray(0, 4096));
}

describe('a backing chain', () => {
  it('asks for each name with format, depth and what for, and opens nothing else', async () => {
    const shelf = new Shelf();
    shelf.addRaw('raw', new Uint8Array(SIZE).fill(3));
    shelf.add('low', { name: 'raw', format: 'raw' });
    const top = shelf.add('top', { name: 'low', format: 'qcow2' });
    const image = await openChain(top, { opener: shelf.opener });
    expect(shelf.asked).toEqual([
      { name: 'low', format: 'qcow2', depth: 1, role: 'backing', writable: false },
      { name: 'raw', format: 'raw', depth: 2, role: 'backing', writable: false },
    ]);
    const target = new Uint8Array(16);
    image.read(SIZE - 16, target);
    expect([...target]).toEqual(Array.from(target, () => 3));
    image.close();
    expect(shelf.closes).toEqual([1, 1, 1]);
  });

  it('is only ever read below its top, whatever is done there', async () => {
    const shelf = new Shelf();
    const raw = shelf.addRaw('raw', new Uint8Array(SIZE).fill(3));
    const low = shelf.add('low', { name: 'raw', format: 'raw' });
    const image = await openChain(shelf.add('top', { name: 'low', format: 'qcow2' }), { opener: shelf.opener });
    expect(image.readOnly).toBe(false);
    expect(image.backing?.readOnly).toBe(true);
    image.write(5, Uint8Array.of(1));
    image.writeZeroes(4096, 4096, { unmap: true });
    image.discard(8192, 4096);
    image.resize(2 * SIZE);
    expect(() => image.backing?.write(0, Uint8Array.of(1))).toThrow(expect.objectContaining({ code: 'READ_ONLY' }));
    image.close();
    expect([raw.changes, low.changes]).toEqual([0, 0]);
  });

  it('leaves a lower image that is dirty or corrupt as it is, and reads it', async () => {
    const shelf = new Shelf();
    const low = shelf.add('low');
    low.write(79, Uint8Array.of(3));
    low.changes = 0;
    const image = await openChain(shelf.add('top', { name: 'low', format: 'qcow2' }), { opener: shelf.opener });
    image.write(5, Uint8Array.of(1));
    image.close();
    expect(low.changes).toBe(0);
  });

  it('may be 64 files deep under its top, and no deeper', async () => {
    const shelf = new Shelf();
    const deep = await openChain(shelf.addChain(65), { opener: shelf.opener });
    const target = new Uint8Array(1).fill(9);
    deep.read(0, target);
    expect(target[0]).toBe(0);
    deep.close();
    const deeper = new Shelf();
    const top = deeper.addChain(66);
    await expect(openChain(top, { opener: deeper.opener })).rejects.toEqual(backingError(/longer than 64/));
    expect(deeper.closes.filter((closes) => closes > 0)).toHaveLength(64);
    expect(top.closes).toBe(0);
  });

  it('that bites its tail is refused: by the storage where that is one, by the depth where each is another', async () => {
    const storage = new WatchedStorage();
    createImage(storage, { size: SIZE, backing: { name: 'itself', format: 'qcow2' } });
    await expect(openChain(storage, { opener: () => storage })).rejects.toEqual(
      backingError(/back to itself/, /itself/),
    );
    const bytes = storage.toBytes();
    const opener = () => new MemoryStorage(bytes.slice());
    await expect(openChain(opener(), { opener })).rejects.toEqual(backingError(/longer than 64/));
    const shelf = new Shelf();
    const first = shelf.add('first', { name: 'second', format: 'qcow2' });
    shelf.add('second', { name: 'first', format: 'qcow2' });
    await expect(openChain(first, { opener: shelf.opener })).rejects.toEqual(backingError(/back to itself/));
  });

  it('is refused by name without an opener, and when the opener denies it, with its reason', async () => {
    const shelf = new Shelf();
    const top = shelf.add('top', { name: '../../etc/shadow', format: 'raw' });
    await expect(openChain(top)).rejects.toEqual(backingError(/"\.\.\/\.\.\/etc\/shadow"/, /no opener/));
    const cause = new Error('only files of this folder');
    const denied = openChain(top, { opener: () => Promise.reject(cause) });
    await expect(denied).rejects.toEqual(backingError(/"\.\.\/\.\.\/etc\/shadow"/, /only files of this folder/));
    await expect(denied).rejects.toMatchObject({ cause });
    expect(top.closes).toBe(0);
  });

  it('names the file of the chain that can not be opened, and closes what had been opened below the top', async () => {
    const shelf = new Shelf();
    shelf.add('base');
    const middle = shelf.add('middle', { name: 'base', format: 'qcow2' });
    shelf.add('low', { name: 'middle', format: 'qcow2' });
    const top = shelf.add('top', { name: 'low', format: 'qcow2' });
    middle.write(4, Uint8Array.of(0, 0, 0, 9));
    await expect(openChain(top, { opener: shelf.opener })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/"low".*"middle".*version is 9/) as string,
    });
    expect(shelf.closes).toEqual([0, 1, 1, 0]);
  });

  it('opens a format that it knows, and no other', async () => {
    const shelf = new Shelf();
    shelf.addRaw('low', new Uint8Array(SIZE));
    const top = shelf.add('top', { name: 'low', format: 'raw' });
    setFormat(top, 'vdi');
    await expect(openChain(top, { opener: shelf.opener })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('"vdi"') as string,
    });
    expect(shelf.asked).toEqual([]);
  });

  it('without a recorded format looks at the first bytes', async () => {
    const shelf = new Shelf();
    shelf.addRaw('raw', new Uint8Array(SIZE).fill(6));
    const low = shelf.add('low', { name: 'raw', format: 'raw' });
    const top = shelf.add('top', { name: 'low', format: 'qcow2' });
    setFormat(low, null);
    setFormat(top, null);
    const image = await openChain(top, { opener: shelf.opener });
    expect(shelf.asked.map(({ format }) => format)).toEqual([null, null]);
    const target = new Uint8Array(1);
    image.read(100, target);
    expect(target[0]).toBe(6);
    image.close();
  });

  it('takes what the caller has opened instead, or nothing, and does not ask', async () => {
    const shelf = new Shelf();
    const top = shelf.add('top', { name: 'low', format: 'raw' });
    const read = async (backing: RawDisk | null) => {
      const image = await openChain(top, { backing, opener: shelf.opener });
      const target = new Uint8Array(1).fill(9);
      image.read(0, target);
      image.close();
      return target[0];
    };
    expect(await read(new RawDisk(new MemoryStorage(new Uint8Array(SIZE).fill(4))))).toBe(4);
    expect(await read(null)).toBe(0);
    expect(shelf.asked).toEqual([]);
    expect(() => openImage(top)).toThrow(backingError(/"low"/, /none was given/));
  });

  it('may have files that are elsewhere: what is missing is loaded while it is opened', async () => {
    const shelf = new Shelf();
    const low = shelf.add('low');
    const written = openImage(low);
    written.write(70_000, Uint8Array.of(8));
    written.flush();
    const remote: Storage = new RemoteStorage(low.toBytes(), { chunkBytes: 4096 });
    const image = await openChain(shelf.add('top', { name: 'low', format: 'qcow2' }), { opener: () => remote });
    const target = new Uint8Array(1);
    await settle(() => image.read(70_000, target));
    expect(target[0]).toBe(8);
  });
});

describe('an external data file', () => {
  function withDataFile(shelf: Shelf, name: string, more: Partial<CreateOptions> = {}): WatchedStorage {
    const storage = new WatchedStorage();
    createImage(storage, { size: SIZE, dataFile: { name: 'data', storage: new MemoryStorage() }, ...more });
    shelf.files.set(name, storage);
    storage.changes = 0;
    return storage;
  }

  it.each([true, false])('that is the image itself is refused, opened read-only: %s', async (readOnly) => {
    const shelf = new Shelf();
    const image = withDataFile(shelf, 'image');
    shelf.files.set('data', image);
    const before = image.toBytes();
    const error = backingError(/external data file/, /"data"/, /image itself/);
    await expect(openChain(image, { readOnly, opener: shelf.opener })).rejects.toEqual(error);
    expect(() => openImage(image, { readOnly, dataFile: image })).toThrow(error as Error);
    await expect(openChain(image, { readOnly, dataFile: image })).rejects.toEqual(error);
    expect(Buffer.compare(image.toBytes(), before)).toBe(0);
    expect([image.changes, image.closes]).toEqual([0, 0]);
  });

  it('of a backing file that is an image above it is refused', async () => {
    const shelf = new Shelf();
    withDataFile(shelf, 'base');
    const top = shelf.add('top', { name: 'base', format: 'qcow2' });
    shelf.files.set('data', top);
    await expect(openChain(top, { opener: shelf.opener })).rejects.toEqual(
      backingError(/"base"/, /external data file/),
    );
    expect(top.closes).toBe(0);
  });

  it.each([true, false])('is no backing file at the same time, opened read-only: %s', async (readOnly) => {
    const shelf = new Shelf();
    const top = withDataFile(shelf, 'top', { backing: { name: 'data', format: 'raw' } });
    const data = shelf.addRaw('data', new Uint8Array(SIZE));
    const error = backingError(/back to itself/, /"data"/);
    await expect(openChain(top, { readOnly, opener: shelf.opener })).rejects.toEqual(error);
    expect(data.closes).toBe(1);
    await expect(openChain(top, { readOnly, dataFile: data, opener: shelf.opener })).rejects.toEqual(error);
    expect([data.closes, data.changes]).toEqual([1, 0]);
  });
});
