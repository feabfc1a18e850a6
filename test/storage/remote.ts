/**
 * A fake remote storage: its bytes are elsewhere until they are loaded, chunk by chunk.
 *
 * A read that misses chunks throws `NotResident` for exactly these; `load()` brings them and counts each. Once here, a
 * chunk stays. Loads can be made to fail, and to be slow enough to overlap.
 */
import { Qcow2Error } from '../../src/errors.js';
import { NotResident } from '../../src/storage/not-resident.js';
import type { Storage } from '../../src/storage/storage.js';

export interface RemoteOptions {
  readonly chunkBytes: number;
  /** Thrown by `load()` as long as it returns something. */
  readonly failure?: () => unknown;
}

export class RemoteStorage implements Storage {
  readonly readOnly = true;
  readonly size: number;
  /** How often each chunk was loaded, by its index. */
  readonly loads = new Map<number, number>();
  /** Reads that faulted. */
  faults = 0;
  closed = false;
  readonly #bytes: Uint8Array;
  readonly #options: RemoteOptions;

  constructor(bytes: Uint8Array, options: RemoteOptions) {
    this.#bytes = bytes.slice();
    this.#options = options;
    this.size = bytes.length;
  }

  read(offset: number, target: Uint8Array): void {
    const end = Math.min(offset + target.length, this.size);
    const missing: number[] = [];
    for (let index = Math.floor(offset / this.#options.chunkBytes); index * this.#options.chunkBytes < end; index++) {
      if (!this.loads.has(index)) missing.push(index);
    }
    if (missing.length > 0) {
      this.faults++;
      throw new NotResident(`chunks ${missing.join(', ')} are not here`, () => this.#load(missing));
    }
    target.fill(0);
    if (offset < end) target.set(this.#bytes.subarray(offset, end));
  }

  write(): void {
    throw new Qcow2Error('READ_ONLY', 'a remote storage is read-only');
  }

  truncate(): void {
    throw new Qcow2Error('READ_ONLY', 'a remote storage is read-only');
  }

  flush(): void {}

  close(): void {
    this.closed = true;
  }

  async #load(chunks: readonly number[]): Promise<void> {
    // A turn of the event loop, as any fetch takes at least.
    await new Promise((resolve) => setTimeout(resolve, 0));
    const failure = this.#options.failure?.();
    if (failure !== undefined) throw failure;
    for (const index of chunks) this.loads.set(index, (this.loads.get(index) ?? 0) + 1);
  }
}
