/**
 * Which disks stand on which version of a base image, read out of their headers: the version is part of the name by which a disk records
 * its base (`linux.qcow2#identity=...`). Headers are read past the package, since a disk that another tab writes can't be opened.
 */
const HEADER_BYTES = 20;
const QCOW2_MAGIC = 0x5146_49fb;
const AT = { magic: 0, backingName: 8, backingLength: 16 } as const;
const LONGEST_NAME = 1023;
const PIN = '#identity=';

/** By identity of the base, the names of the files of the folder that stand on it. What can't be read throws. */
export async function usersOfBases(directory: string): Promise<Map<string, string[]>> {
  const users = new Map<string, string[]>();
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle(directory, { create: true });
  for await (const handle of folder.values()) {
    if (handle.kind !== 'file') continue;
    const identity = await identityUnder(await (handle as FileSystemFileHandle).getFile());
    if (identity !== null) users.set(identity, [...(users.get(identity) ?? []), handle.name]);
  }
  return users;
}

/** Of the base that an image names; null for a file that names none. */
async function identityUnder(file: File): Promise<string | null> {
  const header = new DataView(await file.slice(0, HEADER_BYTES).arrayBuffer());
  if (header.byteLength < HEADER_BYTES || header.getUint32(AT.magic) !== QCOW2_MAGIC) return null;
  const start = Number(header.getBigUint64(AT.backingName));
  const length = header.getUint32(AT.backingLength);
  if (start === 0 || length > LONGEST_NAME) return null;
  const name = await file.slice(start, start + length).text();
  const at = name.indexOf(PIN);
  return at < 0 ? null : decodeURIComponent(name.slice(at + PIN.length));
}
