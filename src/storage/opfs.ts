/**
 * A file of the browser's origin private file system (OPFS) as a Storage, over a synchronous access handle. Handles of
 * this kind exist in dedicated workers only, and one that writes keeps every other handle of its file out.
 *
 * Invariants:
 * - `size` is kept here: asking the handle costs a call to the browser process, and nobody else can change the file. Who shares
 *   one calls `refresh()` before it is looked at.
 * - A handle may read or write less than asked; the count it returns is looked at, and the rest is asked for again.
 * - Every failure of the browser leaves as a `Qcow2Error`: no room is `NO_SPACE`, a held file `IN_USE`, the rest `IO`.
 */
import { Qcow2Error } from '../errors.js';
import { BlobStorage } from './blob.js';
import type { Storage } from './storage.js';

/**
 * How a file is opened: to be read by any number, to be read and written by one, or to be written by all who agree among
 * themselves how. Where a browser knows exclusive handles only, the last is the same as the second.
 */
export type FileMode = 'read-only' | 'read-write' | 'shared';

const HANDLE_MODES = { 'read-only': 'read-only', 'read-write': 'readwrite', shared: 'readwrite-unsafe' } as const;

/** The part of `FileSystemSyncAccessHandle` used here. TypeScript's library has it for workers only. */
export interface SyncAccessHandle {
  /** What was granted; missing where the browser knows exclusive handles only. */
  readonly mode?: string;
  read(target: Uint8Array, options: { at: number }): number;
  write(source: Uint8Array, options: { at: number }): number;
  getSize(): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

interface SyncAccessFile {
  createSyncAccessHandle?(options?: { mode: (typeof HANDLE_MODES)[FileMode] }): Promise<SyncAccessHandle>;
}

/**
 * Opens `file` in this worker.
 *
 * Where the browser has no shared read-only handles, a file opened to be read is read as a `Blob` instead, so that two
 * disks can stand on one base image everywhere.
 *
 * @throws Qcow2Error `IN_USE` when another handle keeps the file, `UNSUPPORTED` outside of a dedicated worker.
 */
export async function openOpfsStorage(file: FileSystemFileHandle, mode: FileMode): Promise<Storage> {
  const { createSyncAccessHandle } = file as SyncAccessFile;
  if (createSyncAccessHandle === undefined) {
    throw new Qcow2Error('UNSUPPORTED', `${file.name}: files can be opened synchronously in a dedicated worker only`);
  }
  try {
    const readOnly = mode === 'read-only';
    const handle = await createSyncAccessHandle.call(file, { mode: HANDLE_MODES[mode] });
    if (!readOnly || handle.mode === 'read-only') return new OpfsStorage(handle, { name: file.name, readOnly });
    handle.close();
    return new BlobStorage(await file.getFile(), { name: file.name });
  } catch (error) {
    throw fromBrowserError(error, `opening ${file.name}`);
  }
}

export class OpfsStorage implements Storage {
  readonly readOnly: boolean;
  readonly #handle: SyncAccessHandle;
  readonly #name: string;
  #length: number;
  #closed = false;

  /** @param options.name what messages call the file. */
  constructor(handle: SyncAccessHandle, options: { readonly name: string; readonly readOnly?: boolean }) {
    this.#handle = handle;
    this.#name = options.name;
    this.readOnly = options.readOnly ?? false;
    this.#length = handle.getSize();
  }

  get size(): number {
    return this.#length;
  }

  read(offset: number, target: Uint8Array): void {
    this.#checkOpen();
    const inside = Math.max(0, Math.min(target.length, this.#length - offset));
    let done = 0;
    while (done < inside) {
      const count = this.#attempt('reading', () =>
        this.#handle.read(target.subarray(done, inside), { at: offset + done }),
      );
      if (count === 0) {
        const where = `${offset + done} of ${this.#length} bytes`;
        throw new Qcow2Error('IO', `${this.#name}: the file ended at ${where} while ${inside - done} more were read`);
      }
      done += count;
    }
    target.fill(0, inside);
  }

  write(offset: number, source: Uint8Array): void {
    this.#checkWritable();
    let done = 0;
    while (done < source.length) {
      const count = this.#attempt('writing', () => this.#handle.write(source.subarray(done), { at: offset + done }));
      if (count === 0) {
        const rest = `${source.length - done} of ${source.length} bytes at ${offset}`;
        throw new Qcow2Error('NO_SPACE', `${this.#name}: no room was left for ${rest}`);
      }
      done += count;
      // Counted as it goes, so that `size` is true after a write that failed halfway.
      this.#length = Math.max(this.#length, offset + done);
    }
  }

  truncate(size: number): void {
    this.#checkWritable();
    this.#attempt('truncating', () => this.#handle.truncate(size));
    this.#length = size;
  }

  flush(): void {
    this.#checkOpen();
    if (!this.readOnly) this.#attempt('flushing', () => this.#handle.flush());
  }

  refresh(): void {
    this.#checkOpen();
    this.#length = this.#attempt('asking for the size of', () => this.#handle.getSize());
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#attempt('closing', () => this.#handle.close());
  }

  #checkOpen(): void {
    if (this.#closed) throw new Qcow2Error('CLOSED', `${this.#name} is closed`);
  }

  #checkWritable(): void {
    this.#checkOpen();
    if (this.readOnly) throw new Qcow2Error('READ_ONLY', `${this.#name} is open to be read only`);
  }

  #attempt<T>(doing: string, call: () => T): T {
    try {
      return call();
    } catch (error) {
      throw fromBrowserError(error, `${doing} ${this.#name}`);
    }
  }
}

/** The browser's exceptions by what they mean for a file. A `Qcow2Error` passes as it is. */
export function fromBrowserError(error: unknown, doing: string): Qcow2Error {
  if (error instanceof Qcow2Error) return error;
  const name = error instanceof Error || error instanceof DOMException ? error.name : '';
  const text = error instanceof Error || error instanceof DOMException ? error.message : String(error);
  if (name === 'QuotaExceededError') {
    return new Qcow2Error('NO_SPACE', `${doing}: the browser gives this site no more room (${text})`, { cause: error });
  }
  if (name === 'NoModificationAllowedError') {
    return new Qcow2Error('IN_USE', `${doing}: another tab or worker has the file open`, { cause: error });
  }
  if (name === 'NotFoundError') return new Qcow2Error('NOT_FOUND', `${doing}: there is no such file`, { cause: error });
  return new Qcow2Error('IO', `${doing} failed: ${name}: ${text}`, { cause: error });
}
