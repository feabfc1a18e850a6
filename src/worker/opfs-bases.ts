/**
 * Where base images from servers are kept: one folder of OPFS for the whole origin, whatever folders its disks are in. How several tabs share
 * a file is written down in `network/chunk-cache.ts`; here are the handles and the locks.
 *
 * Whoever has a file open holds its lock, shared; who deletes it must have that lock alone.
 */
import { Qcow2Error, isQcow2Error } from '../errors.js';
import type { Held } from '../network/chunk-cache.js';
import type { BaseFiles, SharedFile } from '../network/open-base.js';
import { BlobStorage } from '../storage/blob.js';
import { fromBrowserError, openOpfsStorage } from '../storage/opfs.js';
import type { Storage } from '../storage/storage.js';
import { takeLock } from './web-locks.js';

export const BASES_DIRECTORY = 'qcow2-wasm-bases';

/** A header and a map are small beside the chunks. */
const PEEK_BYTES = 64 * 1024;

export class OpfsBases implements BaseFiles {
  async open(name: string, { create }: { readonly create: boolean }): Promise<SharedFile | null> {
    const held = await takeLock(lockOf(name), 'shared', Infinity);
    try {
      const file = await this.#handle(name, create);
      const storage = file === null ? null : await openOpfsStorage(file, 'shared');
      if (storage === null) {
        held?.release();
        return null;
      }
      return {
        storage,
        takeLock: (lock, signal) => waitForLock(`${lockOf(name)}/${lock}`, signal),
        release: () => held?.release(),
      };
    } catch (error) {
      held?.release();
      throw fromBrowserError(error, `opening the cache /${BASES_DIRECTORY}/${name}`);
    }
  }

  async list(): Promise<string[]> {
    const folder = await this.#folder(false);
    const files: File[] = [];
    if (folder === null) return [];
    for await (const handle of folder.values()) {
      if (handle.kind === 'file') files.push(await handle.getFile());
    }
    return files.toSorted((one, other) => other.lastModified - one.lastModified).map(({ name }) => name);
  }

  /** What is written to the file later can make reading it fail. */
  async peek(name: string): Promise<Storage | null> {
    const file = await this.#handle(name, false);
    return file === null ? null : new BlobStorage(await file.getFile(), { chunkBytes: PEEK_BYTES });
  }

  async isOpen(name: string): Promise<boolean> {
    const alone = await takeLock(lockOf(name), 'exclusive', 0);
    alone?.release();
    return alone === null;
  }

  async remove(name: string): Promise<boolean> {
    const alone = await takeLock(lockOf(name), 'exclusive', 0);
    if (alone === null) return false;
    try {
      const folder = await this.#folder(false);
      await folder?.removeEntry(name);
      return true;
    } catch (error) {
      const failure = fromBrowserError(error, `deleting the cache /${BASES_DIRECTORY}/${name}`);
      if (isQcow2Error(failure, 'NOT_FOUND')) return true;
      throw failure;
    } finally {
      alone.release();
    }
  }

  async #handle(name: string, create: boolean): Promise<FileSystemFileHandle | null> {
    const folder = await this.#folder(create);
    if (folder === null) return null;
    return nullIfMissing(() => folder.getFileHandle(name, { create }));
  }

  async #folder(create: boolean): Promise<FileSystemDirectoryHandle | null> {
    const root = await navigator.storage.getDirectory();
    return nullIfMissing(() => root.getDirectoryHandle(BASES_DIRECTORY, { create }));
  }
}

function lockOf(name: string): string {
  return `qcow2-wasm:base:${name}`;
}

async function waitForLock(name: string, signal: AbortSignal | undefined): Promise<Held> {
  const held = await takeLock(name, 'exclusive', Infinity, signal);
  if (held !== null) return held;
  throw new Qcow2Error('ABORTED', `waiting for the lock ${name} was given up`);
}

async function nullIfMissing<T>(open: () => Promise<T>): Promise<T | null> {
  try {
    return await open();
  } catch (error) {
    if (error instanceof DOMException && error.name === 'NotFoundError') return null;
    throw error;
  }
}
