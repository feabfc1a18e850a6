/**
 * What gives a file of the folder another name, or a copy under one. Whether there is a file of the new name is looked at under the claim of that
 * name, so nobody can make one between the look and the step.
 */
import { Qcow2Error } from '../errors.js';
import type { ClaimMode, ImageFiles } from './image-files.js';

export interface NewName {
  readonly name: string;
  readonly newName: string;
  /** Whether a file of the new name is replaced. */
  readonly overwrite: boolean;
}

/**
 * Runs `step` while both names are claimed, the old one as `mode`, the new one to be written.
 * @throws Qcow2Error `NOT_FOUND`, `IN_USE` for a name that can't be claimed, `BAD_ARGUMENT` for a file of the new name that is not to be
 * replaced, and what `step` throws.
 */
export async function underBothNames(
  files: ImageFiles,
  { name, newName, overwrite }: NewName,
  mode: ClaimMode,
  step: () => Promise<void>,
): Promise<void> {
  const from = await files.claim(name, mode);
  try {
    const to = await files.claim(newName, 'write');
    try {
      if (!overwrite && (await files.exists(newName))) {
        throw new Qcow2Error('BAD_ARGUMENT', `${files.path(newName)} is there already, and is not to be replaced`);
      }
      await step();
    } finally {
      to.release();
    }
  } finally {
    from.release();
  }
}
