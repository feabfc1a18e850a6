/**
 * All versions of base images that are kept here, whichever disk they are for. A new version of an image is kept beside the old one, on which
 * disks may stand; nobody but the site knows when an old one is of no use any more.
 */
import { Qcow2Error, isQcow2Error } from '../errors.js';
import { CacheFile } from './cache-file.js';
import { baseFileName, type BaseFiles } from './kept-bases.js';

/** A version of a base image that is kept, all of it or a part. */
export interface StoredBase {
  /** Of the image; of the manifest, if it is split. */
  readonly url: string;
  /** Which version it is. */
  readonly identity: string;
  /** Bytes of the image. */
  readonly size: number;
  /** Bytes of the image that are here. */
  readonly presentBytes: number;
  /** Bytes of the file that keeps them. */
  readonly bytes: number;
  /** When a disk last opened it, in milliseconds since 1970. */
  readonly lastUsed: number | null;
  /** Whether a disk has it open now, in whichever tab. */
  readonly inUse: boolean;
}

/** Of a file that is being written to while it is looked at. */
const MOST_LOOKS = 10;

/**
 * Those opened last come first. Files that keep nothing that can be read, of a crash or of an older layout, are deleted meanwhile.
 * @param files null where nothing is kept. @throws Qcow2Error `IO`.
 */
export async function listStoredBases(files: BaseFiles | null): Promise<StoredBase[]> {
  const stored: StoredBase[] = [];
  for (const name of (await files?.list()) ?? []) {
    const base = await lookAt(files!, name);
    if (base === null) await files!.remove(name);
    else stored.push(base);
  }
  return stored.toSorted((one, other) => (other.lastUsed ?? 0) - (one.lastUsed ?? 0));
}

/** Deletes what is kept of a version; nothing happens if nothing is. @throws Qcow2Error `IN_USE` while a disk has it open, `IO`. */
export async function removeStoredBase(
  files: BaseFiles | null,
  { url, identity }: Pick<StoredBase, 'url' | 'identity'>,
): Promise<void> {
  if (files === null || (await files.remove(baseFileName(url, identity)))) return;
  throw new Qcow2Error('IN_USE', `what is kept of ${url} (${identity}) can't be deleted: a disk has it open`);
}

/** Null for what keeps nothing. */
async function lookAt(files: BaseFiles, name: string): Promise<StoredBase | null> {
  for (let look = 1; ; look++) {
    const storage = await files.peek(name);
    if (storage === null) return null;
    try {
      const file = CacheFile.open(storage);
      if (file === null) return null;
      const { label, geometry, notes } = file;
      const found = { url: label.url, identity: label.identity, size: geometry.size, lastUsed: notes.lastUsed };
      // The map is read, of which nothing goes: a file that grows meanwhile has room for all of it afterwards.
      const bytes = await sizeOf(files, name);
      if (bytes === null) return null;
      return { ...found, bytes, presentBytes: file.knownBytes(), inUse: await files.isOpen(name) };
    } catch (error) {
      if (!isQcow2Error(error, 'IO') || look === MOST_LOOKS) throw error;
    } finally {
      storage.close();
    }
  }
}

/** Bytes of a file as it is now; null where there is none. */
async function sizeOf(files: BaseFiles, name: string): Promise<number | null> {
  const storage = await files.peek(name);
  try {
    return storage?.size ?? null;
  } finally {
    storage?.close();
  }
}
