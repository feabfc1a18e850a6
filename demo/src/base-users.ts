/**
 * Which disks stand on which version of a base image: the version is part of the name by which a disk records its base
 * (`linux.qcow2#identity=...`). Headers are read past the package, since a disk that another tab writes can't be opened.
 */
import { diskNameOf } from './disk-names.js';
import { imageFacts } from './image-facts.js';

const PIN = '#identity=';

/** By identity of the base, the names of the files of the folder that stand on it. A disk that can't be read now throws: it may stand on any. */
export async function usersOfBases(directory: string): Promise<Map<string, string[]>> {
  const users = new Map<string, string[]>();
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle(directory, { create: true });
  for await (const handle of folder.values()) {
    if (handle.kind !== 'file') continue;
    const facts = await imageFacts(await (handle as FileSystemFileHandle).getFile());
    if (facts === null && diskNameOf(handle.name) !== null) throw new Error(`${handle.name} can't be read now`);
    const identity = identityIn(facts?.backingFile ?? '');
    if (identity !== null) users.set(identity, [...(users.get(identity) ?? []), handle.name]);
  }
  return users;
}

/** Null for a base without one. */
function identityIn(backingFile: string): string | null {
  const at = backingFile.indexOf(PIN);
  return at < 0 ? null : decodeURIComponent(backingFile.slice(at + PIN.length));
}
