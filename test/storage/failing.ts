/** A storage in memory whose writes, truncates, flushes or reads fail when told to. */
import { MemoryStorage } from '../../src/index.js';
import type { Storage } from '../../src/storage/storage.js';

export type StorageCall = 'read' | 'write' | 'truncate' | 'flush';

export class FailingStorage implements Storage {
  readonly readOnly = false;
  readonly inner: MemoryStorage;
  /** How many times each call came through, failures included. */
  readonly calls: Record<StorageCall | 'close', number> = { read: 0, write: 0, truncate: 0, flush: 0, close: 0 };
  #failing: { readonly call: StorageCall; readonly error: unknown; skip: number } | null = null;

  constructor(bytes?: Uint8Array) {
    this.inner = new MemoryStorage(bytes);
  }

  /** From now on `call` throws `error`, after `skip` more of it have passed. */
  failOn(call: StorageCall, error: unknown, skip = 0): void {
    this.#failing = { call, error, skip };
  }

  heal(): void {
    this.#failing = null;
  }

  get size(): number {
    return this.inner.size;
  }

  read(offset: number, target: Uint8Array): void {
    this.#pass('read');
    this.inner.read(offset, target);
  }

  write(offset: number, source: Uint8Array): void {
    this.#pass('write');
    this.inner.write(offset, source);
  }

  truncate(size: number): void {
    this.#pass('truncate');
    this.inner.truncate(size);
  }

  flush(): void {
    this.#pass('flush');
    this.inner.flush();
  }

  close(): void {
    this.calls.close++;
    this.inner.close();
  }

  #pass(call: StorageCall): void {
    this.calls[call]++;
    if (this.#failing?.call !== call) return;
    if (this.#failing.skip > 0) this.#failing.skip--;
    else throw this.#failing.error;
  }
}
