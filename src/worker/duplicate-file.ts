/**
 * A copy of a file of the folder under another name: what a closed disk is duplicated by. It is whole before its name exists, and a file that
 * it replaces is there until then.
 */
import { Qcow2Error } from '../errors.js';
import { copyFile } from './copy-file.js';
import type { ImageFiles } from './image-files.js';
import { carryOut, type BetweenSteps } from './job.js';
import { underBothNames } from './new-name.js';
import type { DuplicateRequest } from './protocol.js';

/**
 * @throws Qcow2Error `NOT_FOUND`, `IN_USE` while the source is open to be written or the target at all, `BAD_ARGUMENT` for a target that is
 * there and not to be replaced, `NO_SPACE`, `IO`, and what `between` ends it with; nothing has changed then.
 */
export async function duplicateFile(
  files: ImageFiles,
  { name, newName, overwrite }: DuplicateRequest,
  between: BetweenSteps,
): Promise<void> {
  if (name === newName) throw new Qcow2Error('BAD_ARGUMENT', `${files.path(name)} can't be its own duplicate`);
  const names = { name, newName, overwrite };
  await underBothNames(files, names, 'read', () => copyAndReplace(files, name, newName, between));
}

async function copyAndReplace(files: ImageFiles, name: string, newName: string, between: BetweenSteps): Promise<void> {
  const temporary = (await files.createTemporary()).name;
  try {
    const source = await files.open(name, 'read-only');
    try {
      const target = await files.open(temporary, 'read-write');
      try {
        await carryOut(copyFile(source, target), between);
      } finally {
        target.close();
      }
    } finally {
      source.close();
    }
    await files.replace(temporary, newName);
  } catch (error) {
    // A file that stays goes when the folder is next opened; what went wrong is what the caller must hear of.
    await files.remove(temporary).catch(() => undefined);
    throw error;
  }
}
