/**
 * A file of the folder under another name, in one step. Whether there is a file of the new name is looked at under the claim of that name, so
 * nobody can make one between the look and the step.
 */
import { Qcow2Error } from '../errors.js';
import type { ImageFiles } from './image-files.js';
import type { RenameRequest } from './protocol.js';

/**
 * Does nothing where both names are the same.
 * @throws Qcow2Error `NOT_FOUND`, `IN_USE` while either is in use, `BAD_ARGUMENT` for a file of the new name that is not to be replaced; nothing
 * has changed then.
 */
export async function renameFile(files: ImageFiles, { name, newName, overwrite = true }: RenameRequest): Promise<void> {
  if (name === newName) return;
  const from = await files.claim(name, 'write');
  try {
    const to = await files.claim(newName, 'write');
    try {
      if (!overwrite && (await files.exists(newName))) {
        throw new Qcow2Error('BAD_ARGUMENT', `${files.path(newName)} is there already, and is not to be replaced`);
      }
      await files.replace(name, newName);
    } finally {
      to.release();
    }
  } finally {
    from.release();
  }
}
