/**
 * Host file: a regular file as a storage, with what a command-line program wants of one beyond the engine's: holes, flushes
 * that can be left out, and how much room the host has given it.
 */
import { closeSync, constants, fstatSync, openSync, type Stats } from 'node:fs';
import { isQcow2Error } from '../../errors.js';
import { NodeFileStorage } from '../../storage/node-file.js';
import type { Storage } from '../../storage/storage.js';
import { errorWords } from '../text/errno.js';
import { CliError } from '../text/messages.js';
import { HoleMap } from './hole-map.js';
import { forgetFile, noteFile } from './open-files.js';

export interface HostFileOptions {
  readonly readOnly: boolean;
  /** Leaves flushes out (`cache=unsafe`). */
  readonly noFlush: boolean;
  /** Gives back to the host what is not needed. */
  readonly punchHoles: boolean;
}

/** A process is started for each hole: smaller ones are not worth it. */
const SMALLEST_HOLE = 64 * 1024;
const ZERO_CHUNK = 1024 * 1024;
/** The unit of `Stats.blocks`. */
const BLOCK_BYTES = 512;

export class HostFile implements Storage {
  readonly path: string;
  #file: NodeFileStorage;
  readonly #options: HostFileOptions;
  readonly #holes = new HoleMap();

  private constructor(path: string, options: HostFileOptions) {
    this.path = path;
    this.#options = options;
    this.#file = this.#open(options.readOnly, null);
  }

  /** Throws `CliError` in QEMU's words. */
  static open(path: string, options: HostFileOptions): HostFile {
    return new HostFile(path, options);
  }

  /** Throws `CliError` in QEMU's words; it is open as before then. */
  reopen(readOnly: boolean): void {
    if (readOnly === this.readOnly) return;
    const file = this.#open(readOnly, this.#file);
    this.close();
    this.#file = file;
  }

  #open(readOnly: boolean, instead: NodeFileStorage | null): NodeFileStorage {
    checkRegular(this.path, readOnly);
    const holes = this.#options.punchHoles ? { punchHolesFrom: SMALLEST_HOLE } : {};
    const file = NodeFileStorage.open(this.path, { readOnly, ...holes });
    try {
      noteFile(file, this.path, instead);
      return file;
    } catch (error) {
      file.close();
      throw error;
    }
  }

  get size(): number {
    return this.#file.size;
  }

  get readOnly(): boolean {
    return this.#file.readOnly;
  }

  /** Bytes that the host has given the file. */
  get allocatedBytes(): number {
    return fstatSync(this.#file.descriptor).blocks * BLOCK_BYTES;
  }

  /** Whether the host has stored what is at `offset`, and how far that goes on. */
  runAt(offset: number, length: number): { readonly data: boolean; readonly length: number } {
    return this.#holes.runAt(this.#file.descriptor, { offset, length });
  }

  read(offset: number, target: Uint8Array): void {
    this.#file.read(offset, target);
  }

  write(offset: number, source: Uint8Array): void {
    this.#holes.forget();
    this.#file.write(offset, source);
  }

  /** Real zeroes, or a hole where one is worth it. */
  writeZeroes(offset: number, length: number): void {
    this.#holes.forget();
    const end = offset + length;
    if (length >= SMALLEST_HOLE && this.#options.punchHoles && this.#makeHole(offset, length)) {
      if (end > this.#file.size) this.#file.truncate(end);
      return;
    }
    const zeroes = new Uint8Array(Math.min(ZERO_CHUNK, length));
    for (let at = offset; at < end; at += zeroes.length) {
      this.#file.write(at, zeroes.subarray(0, Math.min(zeroes.length, end - at)));
    }
  }

  truncate(size: number): void {
    this.#holes.forget();
    this.#file.truncate(size);
  }

  flush(): void {
    if (!this.#options.noFlush) this.#file.flush();
  }

  punchHole(offset: number, length: number): void {
    this.#holes.forget();
    if (this.#options.punchHoles) this.#file.punchHole(offset, length);
  }

  refresh(): void {
    this.#file.refresh();
  }

  close(): void {
    forgetFile(this.#file);
    this.#file.close();
  }

  /** False where the host can't: not every file system has holes, nor every host the program that makes them. */
  #makeHole(offset: number, length: number): boolean {
    const inside = Math.min(length, this.#file.size - offset);
    // What is cut off at the end of the file may be too short for a hole.
    if (inside > 0 && inside < SMALLEST_HOLE) return false;
    try {
      if (inside > 0) this.#file.punchHole(offset, inside);
      return true;
    } catch (error) {
      if (isQcow2Error(error, 'IO')) return false;
      throw error;
    }
  }
}

/** Opens it once by itself: what it is and whether it may be opened is known by what the host says to that. */
function checkRegular(path: string, readOnly: boolean): void {
  const stats = statsOf(path, readOnly);
  if (!stats.isFile()) throw new CliError(`'file' driver requires '${path}' to be a regular file`);
}

function statsOf(path: string, readOnly: boolean): Stats {
  try {
    const descriptor = openSync(path, (readOnly ? constants.O_RDONLY : constants.O_RDWR) | constants.O_NONBLOCK);
    try {
      return fstatSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
  } catch (cause) {
    const { errno, words } = errorWords(cause);
    throw new CliError(`Could not open '${path}': ${words}`, { errno, cause });
  }
}
