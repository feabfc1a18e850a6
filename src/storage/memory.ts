/** Memory storage: for tests, for small images, and for what need not last. `flush` has nothing to do. */
import { Qcow2Error } from '../errors.js';
import type { Storage } from './storage.js';

const SMALLEST_CAPACITY = 64 * 1024;

export class MemoryStorage implements Storage {
  readonly readOnly = false;
  #bytes: Uint8Array;
  #size: number;

  /** @param bytes the content; taken over, not copied. */
  constructor(bytes: Uint8Array = new Uint8Array(0)) {
    this.#bytes = bytes;
    this.#size = bytes.length;
  }

  get size(): number {
    return this.#size;
  }

  read(offset: number, target: Uint8Array): void {
    const available = Math.max(0, Math.min(target.length, this.#size - offset));
    if (available > 0) target.set(this.#bytes.subarray(offset, offset + available));
    target.fill(0, available);
  }

  write(offset: number, source: Uint8Array): void {
    const end = offset + source.length;
    if (end > this.#size) this.truncate(end);
    this.#bytes.set(source, offset);
  }

  truncate(size: number): void {
    if (size > this.#bytes.length) this.#grow(size);
    // What was cut off must not come back when the storage grows again.
    if (size < this.#size) this.#bytes.fill(0, size, this.#size);
    this.#size = size;
  }

  flush(): void {}

  /** Zeroes the range: what is copied or compressed afterwards is smaller for it. */
  punchHole(offset: number, length: number): void {
    this.#bytes.fill(0, offset, Math.min(this.#size, offset + length));
  }

  close(): void {}

  /** A copy of the content. */
  toBytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#size) as Uint8Array<ArrayBuffer>;
  }

  #grow(size: number): void {
    const capacity = Math.max(size, Math.min(this.#bytes.length * 2, size + 256 * 1024 * 1024), SMALLEST_CAPACITY);
    let grown: Uint8Array;
    try {
      grown = new Uint8Array(capacity);
    } catch (cause) {
      throw new Qcow2Error('NO_SPACE', `no memory for a storage of ${size} bytes`, { cause });
    }
    grown.set(this.#bytes.subarray(0, this.#size));
    this.#bytes = grown;
  }
}
