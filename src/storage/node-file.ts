/** Node file storage: a file of the host through `node:fs`, synchronously. */
import { closeSync, constants, fdatasyncSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { Qcow2Error } from '../errors.js';
import type { Storage } from './storage.js';

export interface NodeFileOptions {
  readonly readOnly?: boolean;
  /** Makes the file when it does not exist. Its content is kept when it does. */
  readonly create?: boolean;
}

export class NodeFileStorage implements Storage {
  readonly readOnly: boolean;
  readonly #descriptor: number;
  #size: number;
  #closed = false;

  private constructor(descriptor: number, readOnly: boolean) {
    this.#descriptor = descriptor;
    this.readOnly = readOnly;
    this.#size = fstatSync(descriptor).size;
  }

  /** Throws `NOT_FOUND`, or `IO` with the cause. */
  static open(path: string, options: NodeFileOptions = {}): NodeFileStorage {
    const readOnly = options.readOnly ?? false;
    const flags = (readOnly ? constants.O_RDONLY : constants.O_RDWR) | (options.create ? constants.O_CREAT : 0);
    try {
      return new NodeFileStorage(openSync(path, flags), readOnly);
    } catch (cause) {
      const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
      throw new Qcow2Error(missing ? 'NOT_FOUND' : 'IO', `cannot open ${path}: ${(cause as Error).message}`, { cause });
    }
  }

  get size(): number {
    return this.#size;
  }

  read(offset: number, target: Uint8Array): void {
    const wanted = Math.max(0, Math.min(target.length, this.#size - offset));
    let done = 0;
    while (done < wanted) {
      const count = attempt(() => readSync(this.#descriptor, target, done, wanted - done, offset + done));
      if (count === 0) break; // somebody else cut the file
      done += count;
    }
    target.fill(0, done);
  }

  write(offset: number, source: Uint8Array): void {
    if (this.readOnly) throw new Qcow2Error('READ_ONLY', `write at offset ${offset} of a file opened read-only`);
    let done = 0;
    while (done < source.length) {
      done += attempt(() => writeSync(this.#descriptor, source, done, source.length - done, offset + done));
    }
    this.#size = Math.max(this.#size, offset + source.length);
  }

  truncate(size: number): void {
    if (this.readOnly) throw new Qcow2Error('READ_ONLY', `truncate to ${size} bytes of a file opened read-only`);
    attempt(() => ftruncateSync(this.#descriptor, size));
    this.#size = size;
  }

  flush(): void {
    attempt(() => fdatasyncSync(this.#descriptor));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#descriptor);
  }
}

function attempt<T>(call: () => T): T {
  try {
    return call();
  } catch (cause) {
    const full = ['ENOSPC', 'EDQUOT', 'EFBIG'].includes((cause as NodeJS.ErrnoException).code ?? '');
    throw new Qcow2Error(full ? 'NO_SPACE' : 'IO', (cause as Error).message, { cause });
  }
}
