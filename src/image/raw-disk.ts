/** Raw disk: a storage as it is, as a backing file of format "raw" or to copy from and to. */
import type { Disk, Extent, GuestOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import type { Storage } from '../storage/storage.js';
import { checkRange } from './disk-range.js';

const ZERO_CHUNK = 1024 * 1024;

export class RawDisk implements Disk {
  readonly size: number;
  readonly #storage: Storage;

  /** @param options.size bytes of the disk; the storage's size when left out. */
  constructor(storage: Storage, options: { readonly size?: number } = {}) {
    this.#storage = storage;
    this.size = options.size ?? storage.size;
  }

  get readOnly(): boolean {
    return this.#storage.readOnly;
  }

  read(offset: GuestOffset, target: Uint8Array): void {
    checkRange(this.size, offset, target.length);
    this.#storage.read(offset, target);
  }

  write(offset: GuestOffset, source: Uint8Array): void {
    this.#checkChange(offset, source.length);
    this.#storage.write(offset, source);
  }

  writeZeroes(offset: GuestOffset, length: number): void {
    this.#checkChange(offset, length);
    const zeroes = new Uint8Array(Math.min(ZERO_CHUNK, length));
    for (let done = 0; done < length; done += zeroes.length) {
      this.#storage.write(offset + done, zeroes.subarray(0, Math.min(zeroes.length, length - done)));
    }
  }

  /** Does nothing: a raw disk has no clusters to give back. */
  discard(offset: GuestOffset, length: number): void {
    this.#checkChange(offset, length);
  }

  *extents(offset: GuestOffset, length: number): Generator<Extent> {
    checkRange(this.size, offset, length);
    if (length > 0) yield { kind: 'data', offset, length, host: offset };
  }

  flush(): void {
    this.#storage.flush();
  }

  close(): void {
    this.#storage.close();
  }

  #checkChange(offset: GuestOffset, length: number): void {
    checkRange(this.size, offset, length);
    if (this.readOnly) throw new Qcow2Error('READ_ONLY', 'the raw disk was opened read-only');
  }
}
