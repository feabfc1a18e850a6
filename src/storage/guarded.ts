/**
 * Guarded storage: the decorator that every writable image works through.
 *
 * - After a failed write, truncate or flush it is *poisoned*: what the file holds is not known any more, so every later
 *   change is refused with `POISONED` until the image is opened again (invariant 8 of `metadata/write-order.ts`). Reads
 *   go on: what the guest was told is still in the caches and in the file.
 * - Errors of the host become `Qcow2Error`s, with the cause kept.
 * - An image that was found corrupt *seals* it, with the same effect.
 * - It knows whether anything was written since the last flush, so that a barrier with nothing before it costs nothing.
 */
import { Qcow2Error, isQcow2Error } from '../errors.js';
import { reasonOf } from '../util/reason-of.js';
import type { AccessPurpose } from './access-purpose.js';
import { NotResident } from './not-resident.js';
import type { Storage } from './storage.js';

export class GuardedStorage implements Storage {
  readonly #inner: Storage;
  #failure: unknown = undefined;
  #closed = false;
  #unstable = false;
  #punchesHoles = true;

  constructor(inner: Storage) {
    this.#inner = inner;
  }

  get size(): number {
    return this.#inner.size;
  }

  get readOnly(): boolean {
    return this.#inner.readOnly;
  }

  /** Whether an earlier change failed. */
  get poisoned(): boolean {
    return this.#failure !== undefined;
  }

  read(offset: number, target: Uint8Array): void {
    this.#checkOpen();
    try {
      this.#inner.read(offset, target);
    } catch (error) {
      throw asStorageError(error, `read of ${target.length} bytes at offset ${offset}`);
    }
  }

  write(offset: number, source: Uint8Array): void {
    this.#unstable = true;
    this.#change(`write of ${source.length} bytes at offset ${offset}`, () => this.#inner.write(offset, source));
  }

  truncate(size: number): void {
    this.#unstable = true;
    this.#change(`truncate to ${size} bytes`, () => this.#inner.truncate(size));
  }

  /**
   * Makes the file at least `size` bytes long, where a host keeps room for it, so that what is then written there has its
   * room. One that fails changes nothing and poisons nothing. Throws `NO_SPACE`, or what else the host fails with.
   */
  reserve(size: number): void {
    if (size <= this.size) return;
    this.#checkOpen();
    this.#checkSound(`reserving ${size} bytes`);
    try {
      this.#inner.truncate(size);
      this.#unstable = true;
    } catch (error) {
      throw asStorageError(error, `growing to ${size} bytes`);
    }
  }

  /** Does nothing when nothing was written since the last one. */
  flush(): void {
    if (!this.#unstable && !this.poisoned) {
      this.#checkOpen();
      return;
    }
    this.announce('flush_to_disk');
    this.#change('flush', () => this.#inner.flush());
    this.#unstable = false;
  }

  /** Passed on where the host can. It is a hint: one that fails changes nothing, and is the last. */
  punchHole(offset: number, length: number): void {
    if (!this.#punchesHoles || this.poisoned) return;
    this.#checkOpen();
    try {
      this.#inner.punchHole?.(offset, length);
    } catch {
      this.#punchesHoles = false;
    }
  }

  announce(purpose: AccessPurpose): void {
    this.#inner.announce?.(purpose);
  }

  refresh(): void {
    this.#checkOpen();
    this.#inner.refresh?.();
  }

  /** Refuses every change from now on: the image is known to be damaged, and `reason` says how. */
  seal(reason: Qcow2Error): void {
    this.#failure ??= reason;
  }

  /** Closes the inner storage, once; poisoned or not. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#inner.close();
  }

  #change(what: string, change: () => void): void {
    this.#checkOpen();
    this.#checkSound(what);
    try {
      change();
    } catch (error) {
      this.#failure = asStorageError(error, what);
      throw this.#failure;
    }
  }

  #checkSound(what: string): void {
    if (!this.poisoned) return;
    throw new Qcow2Error('POISONED', `${what} refused: an earlier write failed; close the image and open it again`, {
      cause: this.#failure,
    });
  }

  #checkOpen(): void {
    if (this.#closed) throw new Qcow2Error('CLOSED', 'the storage was used after close()');
  }
}

function asStorageError(error: unknown, what: string): unknown {
  if (error instanceof NotResident || isQcow2Error(error)) return error;
  const reason = reasonOf(error);
  return new Qcow2Error('IO', `${what} failed: ${reason}`, { cause: error });
}
