/**
 * Buffers that came with writes, kept to leave with reads. A guest reads and writes in the same few sizes, and a new
 * buffer of that size would have to be cleared first.
 *
 * A buffer from here holds old data: its taker must fill all of it, or drop it.
 */
import type { Bytes } from './protocol.js';

const KEPT_BUFFERS = 8;
const LARGEST_KEPT_BYTES = 1 << 20;

export class BufferPool {
  readonly #kept: Bytes[] = [];

  take(length: number): Bytes {
    const index = this.#kept.findIndex((bytes) => bytes.length === length);
    if (index < 0) return new Uint8Array(length);
    return this.#kept.splice(index, 1)[0] ?? new Uint8Array(length);
  }

  /** Takes `bytes` over if it is worth keeping. */
  give(bytes: Bytes): void {
    if (bytes.length === 0 || bytes.length > LARGEST_KEPT_BYTES || bytes.length !== bytes.buffer.byteLength) return;
    this.#kept.push(bytes);
    if (this.#kept.length > KEPT_BUFFERS) this.#kept.shift();
  }
}
