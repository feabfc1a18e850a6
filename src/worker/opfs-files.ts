/**
 * A folder of OPFS as `ImageFiles`.
 *
 * A claim is a Web Lock, `qcow2-wasm:<folder>/<name>`. Locks say who may use a file, the browser's own exclusive handles
 * only enforce it: after a tab was killed both are freed, but not in the same moment, so both are waited for.
 *
 * `move()` puts a file in place of another in one step (the browser renames within one transaction of its directory). Every
 * browser that has synchronous access handles today has it; where it is missing `replace` refuses with `UNSUPPORTED`
 * before anything is changed, since copying over the old file could leave half of the new one.
 */
import { Qcow2Error, isQcow2Error } from '../errors.js';
import { fromBrowserError, openOpfsStorage, type FileMode } from '../storage/opfs.js';
import type { Storage } from '../storage/storage.js';
import { TEMPORARY_PREFIX, directoryParts, fileLock } from './file-names.js';
import type { Claim, ClaimMode, ImageFiles, TemporaryFile } from './image-files.js';
import type { StoredFile } from './protocol.js';
import { takeLock } from './web-locks.js';

/** How long a file may stay held after its tab was killed or reloaded. */
const PATIENCE_MILLISECONDS = 2500;
const RETRY_MILLISECONDS = 50;

/** Not in TypeScript's library yet. */
interface MovableFile {
  move?(newName: string): Promise<void>;
}

/**
 * Opens a folder of OPFS, making it and its parents.
 * @throws Qcow2Error `UNSUPPORTED` where the page has no OPFS, `BAD_ARGUMENT` for a bad name.
 */
export async function openOpfsDirectory(directory: string): Promise<ImageFiles> {
  const parts = directoryParts(directory);
  requireBrowserStorage();
  try {
    let handle = await navigator.storage.getDirectory();
    for (const part of parts) handle = await handle.getDirectoryHandle(part, { create: true });
    const files = new OpfsFiles(handle, parts.join('/'));
    await files.sweep();
    return files;
  } catch (error) {
    throw fromBrowserError(error, `opening the folder /${parts.join('/')}`);
  }
}

/** @throws Qcow2Error `UNSUPPORTED` when this browser, or this page, has no OPFS or no Web Locks. */
export function requireBrowserStorage(): void {
  if (typeof navigator.storage?.getDirectory !== 'function' || navigator.locks === undefined) {
    throw new Qcow2Error(
      'UNSUPPORTED',
      'this page has no private file system (OPFS): it needs a current browser, and https or localhost',
    );
  }
}

class OpfsFiles implements ImageFiles {
  readonly #folder: FileSystemDirectoryHandle;
  readonly #directory: string;
  readonly #temporary = new Map<string, Claim>();

  constructor(folder: FileSystemDirectoryHandle, directory: string) {
    this.#folder = folder;
    this.#directory = directory;
  }

  path(name: string): string {
    return this.#directory === '' ? `/${name}` : `/${this.#directory}/${name}`;
  }

  async claim(name: string, mode: ClaimMode): Promise<Claim> {
    const claim = await takeLock(this.#lock(name), mode === 'write' ? 'exclusive' : 'shared', PATIENCE_MILLISECONDS);
    if (claim !== null) return claim;
    throw new Qcow2Error(
      'IN_USE',
      `${this.path(name)} is in use, in this tab or another one: close it there, then try again`,
    );
  }

  async exists(name: string): Promise<boolean> {
    try {
      await this.#handle(name);
      return true;
    } catch (error) {
      if (isQcow2Error(error, 'NOT_FOUND')) return false;
      throw error;
    }
  }

  async open(name: string, mode: FileMode): Promise<Storage> {
    const handle = await this.#handle(name);
    return whileInUse(() => openOpfsStorage(handle, mode));
  }

  async blob(name: string): Promise<Blob> {
    const handle = await this.#handle(name);
    return handle.getFile();
  }

  async createTemporary(): Promise<TemporaryFile> {
    const name = `${TEMPORARY_PREFIX}${crypto.randomUUID()}`;
    const lock = this.#lock(name);
    // Held before the file exists, so that no other session takes it for one of a dead session.
    const claim = await takeLock(lock, 'shared', 0);
    if (claim !== null) this.#temporary.set(name, claim);
    try {
      await this.#folder.getFileHandle(name, { create: true });
    } catch (error) {
      throw fromBrowserError(error, `creating ${this.path(name)}`);
    }
    return { name, lock };
  }

  async replace(from: string, to: string): Promise<void> {
    const handle = (await this.#handle(from)) as FileSystemFileHandle & MovableFile;
    if (handle.move === undefined) {
      throw new Qcow2Error('UNSUPPORTED', `this browser can't put a file in place of ${this.path(to)} in one step`);
    }
    const move = handle.move.bind(handle);
    await whileInUse(() => this.#attempt(`replacing ${this.path(to)}`, () => move(to)));
    this.#releaseTemporary(from);
  }

  async remove(name: string): Promise<void> {
    try {
      await whileInUse(() => this.#attempt(`deleting ${this.path(name)}`, () => this.#folder.removeEntry(name)));
    } catch (error) {
      if (!isQcow2Error(error, 'NOT_FOUND')) throw error;
    }
    this.#releaseTemporary(name);
  }

  async list(): Promise<StoredFile[]> {
    const files: StoredFile[] = [];
    for await (const handle of this.#folder.values()) {
      if (handle.kind !== 'file' || handle.name.startsWith(TEMPORARY_PREFIX)) continue;
      const { name, size, lastModified } = await handle.getFile();
      files.push({ name, size, lastModified });
    }
    return files.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Removes the temporary files that nobody holds. */
  async sweep(): Promise<void> {
    const names: string[] = [];
    for await (const name of this.#folder.keys()) if (name.startsWith(TEMPORARY_PREFIX)) names.push(name);
    for (const name of names) {
      const claim = await takeLock(this.#lock(name), 'exclusive', 0);
      if (claim === null) continue;
      // One that can't be removed now is removed the next time; it must not keep the disk from being opened.
      await this.#folder.removeEntry(name).catch(() => undefined);
      claim.release();
    }
  }

  #lock(name: string): string {
    return fileLock(this.#directory, name);
  }

  #handle(name: string): Promise<FileSystemFileHandle> {
    return this.#attempt(`opening ${this.path(name)}`, () => this.#folder.getFileHandle(name));
  }

  #releaseTemporary(name: string): void {
    this.#temporary.get(name)?.release();
    this.#temporary.delete(name);
  }

  async #attempt<T>(doing: string, call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      throw fromBrowserError(error, doing);
    }
  }
}

/** Runs `operation` again while another handle keeps the file, until patience ends. */
async function whileInUse<T>(operation: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + PATIENCE_MILLISECONDS;
  for (;;) {
    try {
      return await operation();
    } catch (error) {
      if (!isQcow2Error(error, 'IN_USE') || performance.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
    }
  }
}
