/**
 * Node file storage: a file of the host through `node:fs`, synchronously.
 *
 * Node has no call that punches a hole. Where it is asked for, `fallocate` of util-linux does it: one process for a hole, about
 * 3 ms (measured), so only holes that are worth it are punched, and none by default.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, constants, fdatasyncSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { Qcow2Error } from '../errors.js';
import type { Storage } from './storage.js';

export interface NodeFileOptions {
  readonly readOnly?: boolean;
  /** Makes the file when it does not exist. Its content is kept when it does. */
  readonly create?: boolean;
  /** Bytes: holes of at least this size are given back to the file system (Linux, with util-linux). Default: none. */
  readonly punchHolesFrom?: number;
}

export class NodeFileStorage implements Storage {
  readonly readOnly: boolean;
  readonly #descriptor: number;
  readonly #punchHolesFrom: number;
  #size: number;
  #closed = false;

  private constructor(descriptor: number, options: NodeFileOptions) {
    this.#descriptor = descriptor;
    this.readOnly = options.readOnly ?? false;
    this.#punchHolesFrom = options.punchHolesFrom ?? Infinity;
    this.#size = fstatSync(descriptor).size;
  }

  /** Throws `NOT_FOUND`, or `IO` with the cause. */
  static open(path: string, options: NodeFileOptions = {}): NodeFileStorage {
    const readOnly = options.readOnly ?? false;
    const flags = (readOnly ? constants.O_RDONLY : constants.O_RDWR) | (options.create ? constants.O_CREAT : 0);
    try {
      return new NodeFileStorage(openSync(path, flags), options);
    } catch (cause) {
      const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
      throw new Qcow2Error(missing ? 'NOT_FOUND' : 'IO', `cannot open ${path}: ${(cause as Error).message}`, { cause });
    }
  }

  get size(): number {
    return this.#size;
  }

  /** The open file, for who asks the host more about it. It is closed with the storage. */
  get descriptor(): number {
    return this.#descriptor;
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

  /** Throws `IO` when there is no `fallocate`, or the file system has no holes. */
  punchHole(offset: number, length: number): void {
    if (length < this.#punchHolesFrom || this.readOnly) return;
    const range = ['--offset', String(offset), '--length', String(length)];
    // The child gets the open file as its standard input: the path may be another file's by now.
    const done = spawnSync('fallocate', ['--punch-hole', ...range, '/proc/self/fd/0'], {
      stdio: [this.#descriptor, 'ignore', 'pipe'],
      encoding: 'utf8',
    });
    if (done.status === 0) return;
    const reason = done.error?.message ?? done.stderr;
    throw new Qcow2Error('IO', `no hole of ${length} bytes at offset ${offset}: ${reason}`, { cause: done.error });
  }

  refresh(): void {
    this.#size = attempt(() => fstatSync(this.#descriptor).size);
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
