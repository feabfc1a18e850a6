/** OPFS storage over a handle of our own; the real handle is in `test/browser/opfs-storage.test.ts`. */
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../src/storage/memory.js';
import { OpfsStorage, fromBrowserError, openOpfsStorage, type SyncAccessHandle } from '../../src/storage/opfs.js';
import { READ_ONLY_CONTENT } from './conformance.js';
import { describeReadOnlyStorage, describeWritableStorage } from './describe-conformance.js';

/** A handle that moves at most `most` bytes a call and fails as it is told. */
class FakeHandle implements SyncAccessHandle {
  readonly mode = 'readwrite';
  readonly calls: string[] = [];
  failure: DOMException | null = null;
  /** Bytes that the medium still takes. */
  room = Infinity;
  readonly #bytes: MemoryStorage;
  readonly #most: number;

  constructor(content: Uint8Array = new Uint8Array(0), most = Infinity) {
    this.#bytes = new MemoryStorage(content);
    this.#most = most;
  }

  read(target: Uint8Array, { at }: { at: number }): number {
    this.#call('read');
    const count = Math.max(0, Math.min(target.length, this.#most, this.#bytes.size - at));
    this.#bytes.read(at, target.subarray(0, count));
    return count;
  }

  write(source: Uint8Array, { at }: { at: number }): number {
    this.#call('write');
    const count = Math.min(source.length, this.#most, this.room);
    this.room -= count;
    this.#bytes.write(at, source.subarray(0, count));
    return count;
  }

  getSize(): number {
    return this.#bytes.size;
  }

  truncate(size: number): void {
    this.#call('truncate');
    this.#bytes.truncate(size);
  }

  flush(): void {
    this.#call('flush');
  }

  close(): void {
    this.#call('close');
  }

  #call(name: string): void {
    this.calls.push(name);
    if (this.failure !== null) throw this.failure;
  }
}

describeWritableStorage('OPFS', () => new OpfsStorage(new FakeHandle(), { name: 'disk' }));
describeWritableStorage('OPFS, when the browser moves 1000 bytes a call,', () => {
  return new OpfsStorage(new FakeHandle(undefined, 1000), { name: 'disk' });
});
describeReadOnlyStorage('OPFS, opened to be read,', () => {
  return new OpfsStorage(new FakeHandle(READ_ONLY_CONTENT.slice()), { name: 'base', readOnly: true });
});

describe('OPFS storage', () => {
  it('says NO_SPACE when the browser takes no more bytes, and knows how many it took', () => {
    const handle = new FakeHandle();
    const storage = new OpfsStorage(handle, { name: 'disk' });
    handle.room = 700;
    expect(() => storage.write(0, new Uint8Array(1000))).toThrow(
      expect.objectContaining({ code: 'NO_SPACE', message: 'disk: no room was left for 300 of 1000 bytes at 0' }),
    );
    expect(storage.size).toBe(700);
  });

  it('says NO_SPACE when the quota of the site is used up, with the cause', () => {
    const handle = new FakeHandle();
    const storage = new OpfsStorage(handle, { name: 'disk' });
    handle.failure = new DOMException('no quota', 'QuotaExceededError');
    const expected = expect.objectContaining({ code: 'NO_SPACE', cause: handle.failure });
    expect(() => storage.write(0, new Uint8Array(1))).toThrow(expected);
    expect(() => storage.truncate(1 << 30)).toThrow(expected);
    expect(storage.size).toBe(0);
  });

  it('says IO when the file ends before its size', () => {
    const handle = new FakeHandle(new Uint8Array(100));
    const storage = new OpfsStorage(handle, { name: 'disk' });
    handle.truncate(50);
    expect(() => storage.read(0, new Uint8Array(80))).toThrow(
      expect.objectContaining({
        code: 'IO',
        message: 'disk: the file ended at 50 of 100 bytes while 30 more were read',
      }),
    );
  });

  it('says CLOSED after close, and closes its handle once', () => {
    const handle = new FakeHandle();
    const storage = new OpfsStorage(handle, { name: 'disk' });
    storage.close();
    storage.close();
    expect(handle.calls).toEqual(['close']);
    for (const use of [() => storage.read(0, new Uint8Array(1)), () => storage.flush(), () => storage.truncate(0)]) {
      expect(use).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    }
  });

  it('does not flush what was opened to be read', () => {
    const handle = new FakeHandle();
    new OpfsStorage(handle, { name: 'base', readOnly: true }).flush();
    expect(handle.calls).toEqual([]);
  });
});

describe('openOpfsStorage', () => {
  const fileWith = (parts: object): FileSystemFileHandle => ({ name: 'disk', ...parts }) as FileSystemFileHandle;

  it('says IN_USE when another handle keeps the file', async () => {
    const file = fileWith({
      createSyncAccessHandle: () => Promise.reject(new DOMException('held', 'NoModificationAllowedError')),
    });
    await expect(openOpfsStorage(file, 'read-write')).rejects.toMatchObject({ code: 'IN_USE' });
  });

  it('says UNSUPPORTED where there are no synchronous handles', async () => {
    await expect(openOpfsStorage(fileWith({}), 'read-write')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('reads the file as a blob where the browser has no shared handles, and lets go of the exclusive one', async () => {
    const handle = new FakeHandle();
    const file = fileWith({
      createSyncAccessHandle: () => Promise.resolve(handle),
      getFile: () => Promise.resolve(new Blob([Uint8Array.of(1, 2, 3)])),
    });
    const storage = await openOpfsStorage(file, 'read-only');
    expect(handle.calls).toEqual(['close']);
    expect(storage).toMatchObject({ size: 3, readOnly: true });
  });
});

describe('fromBrowserError', () => {
  it.each([
    ['QuotaExceededError', 'NO_SPACE'],
    ['NoModificationAllowedError', 'IN_USE'],
    ['NotFoundError', 'NOT_FOUND'],
    ['InvalidStateError', 'IO'],
  ])('takes %s for %s', (name, code) => {
    const cause = new DOMException('as the browser says', name);
    expect(fromBrowserError(cause, 'writing disk')).toMatchObject({ code, cause });
  });
});
