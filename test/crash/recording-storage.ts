/** A storage in memory that keeps a log of what was done to it and of its barriers, for `crash-states.ts` to replay. */
import { MemoryStorage } from '../../src/index.js';
import type { Storage } from '../../src/storage/storage.js';

/** One entry of the log. A `flush` is a barrier: everything before it is stable. */
export type StorageEvent =
  | { readonly kind: 'write'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'truncate'; readonly size: number }
  | { readonly kind: 'flush' };

export class RecordingStorage implements Storage {
  readonly readOnly = false;
  /** The content before the first event. */
  readonly start: Uint8Array<ArrayBuffer>;
  readonly events: StorageEvent[] = [];
  readonly #inner: MemoryStorage;

  /** @param start the content that is stable from the beginning; copied. */
  constructor(start: Uint8Array) {
    this.start = start.slice();
    this.#inner = new MemoryStorage(start.slice());
  }

  get size(): number {
    return this.#inner.size;
  }

  read(offset: number, target: Uint8Array): void {
    this.#inner.read(offset, target);
  }

  write(offset: number, source: Uint8Array): void {
    this.events.push({ kind: 'write', offset, bytes: source.slice() });
    this.#inner.write(offset, source);
  }

  truncate(size: number): void {
    this.events.push({ kind: 'truncate', size });
    this.#inner.truncate(size);
  }

  /** To a crash a hole is a write of zeroes. */
  punchHole(offset: number, length: number): void {
    const end = Math.min(this.size, offset + length);
    if (end > offset) this.write(offset, new Uint8Array(end - offset));
  }

  flush(): void {
    this.events.push({ kind: 'flush' });
  }

  close(): void {}
}
