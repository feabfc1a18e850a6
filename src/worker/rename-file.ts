/** A file of the folder under another name, in one step. */
import type { ImageFiles } from './image-files.js';
import { underBothNames } from './new-name.js';
import type { RenameRequest } from './protocol.js';

/**
 * Does nothing where both names are the same.
 * @throws Qcow2Error `NOT_FOUND`, `IN_USE` while either is in use, `BAD_ARGUMENT` for a file of the new name that is not to be replaced; nothing
 * has changed then.
 */
export async function renameFile(files: ImageFiles, { name, newName, overwrite = true }: RenameRequest): Promise<void> {
  if (name === newName) return;
  await underBothNames(files, { name, newName, overwrite }, 'write', () => files.replace(name, newName));
}
