/**
 * A folder of image files, as the worker's server sees it: OPFS in the browser (`opfs-files.ts`), memory in the tests.
 *
 * Invariants:
 * - A file is named by a claim before it is opened, replaced or removed: one `write` claim, or any number of `read` claims.
 *   A claim ends with `release()` or with the thread that holds it.
 * - A file of the folder is complete: a new one is written under a temporary name, which no caller can name, and then put in
 *   place in one step. After a crash the old file or the new one is there.
 * - A temporary file outlives its session only until the folder is opened the next time.
 */
import type { FileMode } from '../storage/opfs.js';
import type { Storage } from '../storage/storage.js';
import type { StoredFile } from './protocol.js';

export type ClaimMode = 'read' | 'write';

export interface Claim {
  release(): void;
}

export interface TemporaryFile {
  readonly name: string;
  /** The name of the lock that keeps the file from being cleaned up; any thread may hold it too. */
  readonly lock: string;
}

export interface ImageFiles {
  /** The path of a file as a user would say it. */
  path(name: string): string;

  /** Waits a moment for one whose holder is just ending. @throws Qcow2Error `IN_USE` when it is held all the same. */
  claim(name: string, mode: ClaimMode): Promise<Claim>;

  exists(name: string): Promise<boolean>;

  /** Opens a claimed or temporary file. @throws Qcow2Error `NOT_FOUND`, `IN_USE`, `IO`. */
  open(name: string, mode: FileMode): Promise<Storage>;

  /** The file as it is now. It can be read for as long as the file stays. */
  blob(name: string): Promise<Blob>;

  /** Makes an empty file, to be opened by its name. */
  createTemporary(): Promise<TemporaryFile>;

  /** Puts `from`, which must be closed, in place of `to`, in one step. */
  replace(from: string, to: string): Promise<void>;

  /** Does nothing when there is no such file. */
  remove(name: string): Promise<void>;

  /** Without the temporary files, by name. */
  list(): Promise<StoredFile[]>;
}

/** Opens a folder, makes it if it is missing, and removes the temporary files that dead sessions left in it. */
export type OpenDirectory = (directory: string) => Promise<ImageFiles>;
