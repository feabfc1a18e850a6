/** `BaseFiles` in memory: several hosts on one `MemoryBases` are several tabs. Each opens a file for itself, and all see its bytes. */
import { Qcow2Error } from '../../src/errors.js';
import type { Held, TakeLock } from '../../src/network/chunk-cache.js';
import type { BaseFiles, NetworkHost, SharedFile } from '../../src/network/open-base.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import type { Storage } from '../../src/storage/storage.js';
import type { FakeServer } from './fake-server.js';

export class MemoryBases implements BaseFiles {
  readonly files = new Map<string, MemoryStorage>();
  readonly locks = new MemoryLocks();
  /** Opens so far that are not released, by file. */
  readonly opens = new Map<string, number>();
  /** Opening fails with it. */
  refusal: Qcow2Error | null = null;
  /** Bytes that a file may have; writing behind it is refused with `NO_SPACE`. */
  quota = Infinity;

  open(name: string, { create }: { readonly create: boolean }): Promise<SharedFile | null> {
    if (this.refusal !== null) return Promise.reject(this.refusal);
    const known = this.files.get(name);
    if (known === undefined && !create) return Promise.resolve(null);
    const storage = known ?? new MemoryStorage();
    this.files.set(name, storage);
    this.#count(name, 1);
    return Promise.resolve({
      storage: new SharedStorage(storage, this),
      takeLock: (lock, signal) => this.locks.take(`${name}/${lock}`, signal),
      release: () => this.#count(name, -1),
    });
  }

  list(): Promise<string[]> {
    return Promise.resolve([...this.files.keys()].reverse());
  }

  peek(name: string): Promise<Storage | null> {
    return Promise.resolve(this.files.get(name) ?? null);
  }

  isOpen(name: string): Promise<boolean> {
    return Promise.resolve((this.opens.get(name) ?? 0) > 0);
  }

  async remove(name: string): Promise<boolean> {
    if (await this.isOpen(name)) return false;
    this.files.delete(name);
    return true;
  }

  /** Files open, by however many. */
  get held(): number {
    return [...this.opens.values()].reduce((sum, count) => sum + count, 0);
  }

  #count(name: string, change: 1 | -1): void {
    this.opens.set(name, (this.opens.get(name) ?? 0) + change);
  }
}

/** One thread's view of a file: its size is that of the last time it was asked for. */
class SharedStorage implements Storage {
  readonly readOnly = false;
  size: number;
  readonly #inner: MemoryStorage;
  readonly #bases: MemoryBases;
  #closed = false;

  constructor(inner: MemoryStorage, bases: MemoryBases) {
    this.#inner = inner;
    this.#bases = bases;
    this.size = inner.size;
  }

  read(offset: number, target: Uint8Array): void {
    this.#checkOpen();
    this.#inner.read(offset, target);
    target.fill(0, Math.max(0, Math.min(target.length, this.size - offset)));
  }

  write(offset: number, source: Uint8Array): void {
    this.#checkOpen();
    if (offset + source.length > this.#bases.quota) throw new Qcow2Error('NO_SPACE', 'the quota is used up');
    this.#inner.write(offset, source);
    this.size = Math.max(this.size, offset + source.length);
  }

  truncate(size: number): void {
    this.#checkOpen();
    this.#inner.truncate(size);
    this.size = size;
  }

  flush(): void {}

  refresh(): void {
    this.size = this.#inner.size;
  }

  close(): void {
    this.#closed = true;
  }

  #checkOpen(): void {
    if (this.#closed) throw new Qcow2Error('CLOSED', 'the cache file is closed');
  }
}

/** Locks by name, in the order in which they were asked for. */
export class MemoryLocks {
  readonly #last = new Map<string, Promise<void>>();

  readonly take = async (name: string, signal?: AbortSignal): ReturnType<TakeLock> => {
    const before = this.#last.get(name) ?? Promise.resolve();
    let release!: () => void;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    this.#last.set(
      name,
      before.then(() => released),
    );
    await before;
    if (signal?.aborted) {
      release();
      throw signal.reason;
    }
    return { release } satisfies Held;
  };
}

/** Almost without a pause between attempts. A busy machine may take its time. */
export const QUICK = { firstPauseMilliseconds: 1, longestPauseMilliseconds: 2, stallMilliseconds: 20_000 };

export function hostOn(server: FakeServer, files: BaseFiles | null = null): NetworkHost {
  return { fetch: server.fetch, files, patience: QUICK };
}
