/**
 * The files in which versions of one base image are kept: found, opened, made, and deleted where what they keep is wrong.
 *
 * A file is called by its URL, identity and layout, so that each version has one of its own, and all threads of the origin find the same.
 */
import { Qcow2Error, isQcow2Error } from '../errors.js';
import type { Storage } from '../storage/storage.js';
import { CacheFile } from './cache-file.js';
import { LAYOUT_VERSION, type CacheHeader } from './cache-header.js';
import type { Held, TakeLock } from './chunk-cache.js';
import { digestText } from './split-manifest.js';

/** A file that all threads of the origin may have open, and their locks for it. */
export interface SharedFile {
  readonly storage: Storage;
  readonly takeLock: TakeLock;
  /** The storage is closed by now. */
  release(): void;
}

/** Where bases are kept, each version in a file of its own. */
export interface BaseFiles {
  /** Null where there is none and none is to be made. @throws Qcow2Error `IN_USE`, `NO_SPACE`, `IO`. */
  open(name: string, options: { readonly create: boolean }): Promise<SharedFile | null>;
  /** The newest first. */
  list(): Promise<string[]>;
  /** A file as it is now, to be looked at whoever has it open; null where there is none. */
  peek(name: string): Promise<Storage | null>;
  /** Whether a thread has it open. */
  isOpen(name: string): Promise<boolean>;
  /** Deletes what nobody has open. @returns whether it is gone. */
  remove(name: string): Promise<boolean>;
}

/** The name of the file that keeps a version of a base. */
export function baseFileName(url: string, identity: string): string {
  return `${baseFilePrefix(url)}${digestText(new TextEncoder().encode(identity)).slice(0, 24)}.v${LAYOUT_VERSION}.base`;
}

export interface KeptBase {
  readonly file: CacheFile;
  readonly shared: SharedFile;
}

export class KeptBases {
  readonly #files: BaseFiles | null;
  readonly #url: string;

  /** @param files null where nothing is kept. */
  constructor(files: BaseFiles | null, url: string) {
    this.#files = files;
    this.#url = url;
  }

  /** That of an earlier visit, if there is one; null where there is no place for one. @throws Qcow2Error as `BaseFiles.open`. */
  async openOrCreate({ geometry, label }: CacheHeader): Promise<KeptBase | null> {
    const name = baseFileName(label.url, label.identity);
    const shared = (await this.#files?.open(name, { create: true })) ?? null;
    if (shared === null) return null;
    return this.#claimed(shared, () => {
      const file = CacheFile.open(shared.storage) ?? CacheFile.create(shared.storage, geometry, label);
      noteUse(file);
      return { file, shared };
    });
  }

  /** Null where that version is not here. @throws Qcow2Error `BASE_CHANGED`. */
  open(identity: string): Promise<KeptBase | null> {
    return this.#openGood(baseFileName(this.#url, identity));
  }

  /** The version that was used last. */
  async newest(): Promise<KeptBase | null> {
    const prefix = baseFilePrefix(this.#url);
    for (const name of (await this.#files?.list()) ?? []) {
      const kept = name.startsWith(prefix) ? await this.#openGood(name) : null;
      if (kept !== null) return kept;
    }
    return null;
  }

  /**
   * As `#tryToOpen`. A file with wrong bytes is deleted, for which nobody may have it open: others have read of it.
   * @throws Qcow2Error `BASE_CHANGED` where another tab has such a file open.
   */
  async #openGood(name: string): Promise<KeptBase | null> {
    const kept = await this.#tryToOpen(name);
    if (kept?.file.notes.digest !== 'wrong') return kept;
    closeShared(kept.shared);
    if ((await this.#files?.remove(name)) !== false) return null;
    throw new Qcow2Error(
      'BASE_CHANGED',
      `what is kept of ${this.#url} is not what its digest says, and another tab still has it open: close that first`,
    );
  }

  /** Null where there is no such file, where it is only half made, and where another tab has it for itself. */
  async #tryToOpen(name: string): Promise<KeptBase | null> {
    try {
      const shared = (await this.#files?.open(name, { create: false })) ?? null;
      if (shared === null) return null;
      return await this.#claimed(shared, () => {
        const file = CacheFile.open(shared.storage);
        if (file === null) return null;
        noteUse(file);
        return { file, shared };
      });
    } catch (error) {
      if (isQcow2Error(error)) return null;
      throw error;
    }
  }

  /** What `make` returns, with the append lock held: nobody else makes the file meanwhile. Where it is null the file is closed. */
  async #claimed<T extends KeptBase | null>(shared: SharedFile, make: () => T): Promise<T> {
    let lock: Held | null = null;
    let made: T | null = null;
    try {
      lock = await shared.takeLock('append');
      made = make();
      return made;
    } finally {
      lock?.release();
      if (made === null) closeShared(shared);
    }
  }
}

function baseFilePrefix(url: string): string {
  return `${digestText(new TextEncoder().encode(url)).slice(0, 24)}-`;
}

/** A base is of use also where that can't be written down. */
function noteUse({ notes }: CacheFile): void {
  try {
    notes.lastUsed = Date.now();
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
  }
}

function closeShared(shared: SharedFile): void {
  try {
    shared.storage.close();
  } finally {
    shared.release();
  }
}
