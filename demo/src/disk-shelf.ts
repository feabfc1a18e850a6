/**
 * The visitor's disks while no machine has them: which there are, and the making, copying, renaming and deleting of one.
 *
 * Names are given out in one lane for all tabs (`changeNames`), so that what is refused is refused before it is begun. That no disk is put in
 * the place of another is the library's part: a copy takes minutes and holds no lane, so the file of a new name is only ever made where
 * there is none, which is decided under the lock of that file. A disk that is open anywhere is refused with `IN_USE`; the library's locks
 * see to that, and the list only tells what they said a moment ago.
 */
import { deleteFile, listFiles, Qcow2Error, renameFile } from 'qcow2-wasm/opfs';
import { lastUse, renameUse } from './disk-choice.js';
import { forgetDisk } from './disk-ledger.js';
import { diskNameOf, fileNameOf, isSameName } from './disk-names.js';
import { imageFacts } from './image-facts.js';
import { createOverlay, deleteIfPossible, directory, isBase } from './stored-disk.js';

const NAMES_LOCK = 'qcow2-wasm-demo names';

export interface ListedDisk {
  readonly name: string;
  /** Of the file. */
  readonly bytes: number;
  /** As the image names it; null: it stands alone, or `isReadable` is false. */
  readonly backingFile: string | null;
  readonly encryption: 'luks' | 'aes' | null;
  /** Whether the two above are known. */
  readonly isReadable: boolean;
  /** Milliseconds since 1970 when it was started, or else written, last. */
  readonly usedAt: number;
  /** Whether somebody has it open, this tab or another one. */
  readonly isOpen: boolean;
}

/** The one that was used last comes first. */
export async function listDisks(): Promise<ListedDisk[]> {
  const [files, locks] = await Promise.all([storedFiles(), navigator.locks.query()]);
  const held = new Set(locks.held?.map(({ name }) => name));
  const listed = files.map(async ({ name, file }): Promise<ListedDisk> => {
    const facts = await imageFacts(file);
    return {
      name,
      bytes: file.size,
      backingFile: facts?.backingFile ?? null,
      encryption: facts?.encryption ?? null,
      isReadable: facts !== null,
      usedAt: lastUse(name) ?? file.lastModified,
      // As qcow2-wasm names its lock of the file.
      isOpen: held.has(`qcow2-wasm:${directory}/${fileNameOf(name)}`),
    };
  });
  return (await Promise.all(listed)).sort((a, b) => b.usedAt - a.usedAt);
}

/** In no order. */
export async function diskNames(): Promise<string[]> {
  return (await storedFiles()).map(({ name }) => name);
}

/** A fresh disk over the base, protected if there is a passphrase. Rejects with `BAD_ARGUMENT` if the name is taken. */
export function makeDisk(name: string, passphrase?: string): Promise<void> {
  return changeNames(async () => {
    await requireFree(name);
    await (await createOverlay(name, passphrase)).close();
  });
}

/** Rejects with `BAD_ARGUMENT` if the new name is taken. A name may change to what is the same but for capitals. */
export function renameDisk(name: string, newName: string): Promise<void> {
  return changeNames(async () => {
    await requireFree(newName, name);
    await renameFile({ directory, name: fileNameOf(name) }, fileNameOf(newName), { overwrite: false });
    renameUse(name, newName);
    forgetDisk(fileNameOf(name));
  });
}

export async function deleteDisk(name: string): Promise<void> {
  await requireThere(name);
  await deleteFile({ directory, name: fileNameOf(name) });
  renameUse(name, null);
  forgetDisk(fileNameOf(name));
  await clearUnusedBases();
}

/** Clears away the stored bases that no disk stands on. Where a disk can't be read now, all stay. */
export async function clearUnusedBases(): Promise<void> {
  const bases = (await listFiles({ directory })).filter(isBase).map(({ name }) => name);
  if (bases.length === 0) return;
  const disks = await listDisks();
  if (disks.every(({ isReadable }) => isReadable)) {
    const used = new Set(disks.map(({ backingFile }) => backingFile));
    await deleteIfPossible(bases.filter((base) => !used.has(base)));
  }
}

/** Runs `job`, which takes the name `name`, while nobody else takes one. Rejects with `BAD_ARGUMENT` if it is taken. */
export function takeName<T>(name: string, job: () => Promise<T>): Promise<T> {
  return changeNames(async () => {
    await requireFree(name);
    return job();
  });
}

/** Rejects with `NOT_FOUND` unless there is such a disk. */
export async function requireThere(name: string): Promise<void> {
  if (!(await diskNames()).includes(name)) throw new Qcow2Error('NOT_FOUND', `there is no disk “${name}”`);
}

function changeNames<T>(job: () => Promise<T>): Promise<T> {
  return navigator.locks.request(NAMES_LOCK, job);
}

/** Rejects with `BAD_ARGUMENT` if the name is taken. @param except this disk does not count. */
export async function requireFree(name: string, except?: string): Promise<void> {
  const other = (await diskNames()).find((there) => there !== except && isSameName(there, name));
  if (other !== undefined) throw new Qcow2Error('BAD_ARGUMENT', `there is a disk “${other}” already`);
}

async function storedFiles(): Promise<{ readonly name: string; readonly file: File }[]> {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle(directory, { create: true });
  const found: { name: string; file: File }[] = [];
  for await (const handle of folder.values()) {
    const name = diskNameOf(handle.name);
    if (name === null || handle.kind !== 'file') continue;
    found.push({ name, file: await handle.getFile() });
  }
  return found;
}
