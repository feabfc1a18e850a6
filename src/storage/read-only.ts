/** Read-only decorator: a backing file is always opened through one, so that no mistake of ours can change it. */
import { Qcow2Error } from '../errors.js';
import type { Storage } from './storage.js';

export class ReadOnlyStorage implements Storage {
  readonly readOnly = true;
  readonly #inner: Storage;

  constructor(inner: Storage) {
    this.#inner = inner;
  }

  get size(): number {
    return this.#inner.size;
  }

  read(offset: number, target: Uint8Array): void {
    this.#inner.read(offset, target);
  }

  write(offset: number, source: Uint8Array): void {
    throw new Qcow2Error('READ_ONLY', `write of ${source.length} bytes at offset ${offset} of a read-only storage`);
  }

  truncate(size: number): void {
    throw new Qcow2Error('READ_ONLY', `truncate to ${size} bytes of a read-only storage`);
  }

  flush(): void {}

  refresh(): void {
    this.#inner.refresh?.();
  }

  close(): void {
    this.#inner.close();
  }
}
