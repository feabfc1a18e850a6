/** Names of folders and files in OPFS: what is allowed, what is kept for temporary files, and how the locks of files are called. */
import { Qcow2Error } from '../errors.js';

/** Files that are being written. No caller can name one. */
export const TEMPORARY_PREFIX = '.tmp-';

/** @throws Qcow2Error `BAD_ARGUMENT` unless `name` names a file within a folder. */
export function checkFileName(name: string): void {
  const problem =
    name === '' || name === '.' || name === '..'
      ? 'is no file name'
      : /[/\\]/.test(name)
        ? 'has a slash; the folder goes into "directory"'
        : name.startsWith(TEMPORARY_PREFIX)
          ? `starts with "${TEMPORARY_PREFIX}", which is kept for temporary files`
          : null;
  if (problem !== null) throw new Qcow2Error('BAD_ARGUMENT', `the name "${name}" ${problem}`);
}

/**
 * The parts of a path of folders; none for the root.
 * @throws Qcow2Error `BAD_ARGUMENT` for a part that is no name.
 */
export function directoryParts(directory: string): string[] {
  const parts = directory.split('/').filter((part) => part !== '');
  for (const part of parts) checkFileName(part);
  return parts;
}

/** The Web Lock of a file, as all threads of the origin know it. @throws Qcow2Error `BAD_ARGUMENT` for a bad folder. */
export function fileLock(directory: string, name: string): string {
  return `qcow2-wasm:${directoryParts(directory).join('/')}/${name}`;
}
