/**
 * Open files: which files of the host this program has open, and for what, by what they are and not by how they are called, so that
 * none is emptied or written to that is being read elsewhere in the same graph. QEMU asks the host for locks, with the same words.
 *
 * Only this process is looked at: Node has no such locks, so what another program does to the file is not seen.
 */
import { fstatSync, statSync, type BigIntStats } from 'node:fs';
import { CliError } from '../text/messages.js';

export interface OpenFile {
  /** An open file descriptor. */
  readonly descriptor: number;
  readonly readOnly: boolean;
}

const OPEN = new Map<OpenFile, string>();

/** Device and inode: the same for a file under all its names. */
export function identityOf(descriptor: number): string {
  return identityIn(fstatSync(descriptor, { bigint: true }));
}

/** That of the file at the end of all links, or null where there is none. */
export function identityAt(path: string): string | null {
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stats === undefined ? null : identityIn(stats);
}

function identityIn({ dev, ino }: BigIntStats): string {
  return `${dev}:${ino}`;
}

/**
 * Notes a file as open, until `forgetFile`. Throws `CliError` in QEMU's words where it is open already and one of the two is for
 * writing, but for `instead`, which it takes the place of.
 */
export function noteFile(file: OpenFile, path: string, instead: OpenFile | null = null): void {
  const identity = identityOf(file.descriptor);
  for (const [other, itsIdentity] of OPEN) {
    if (other === instead || itsIdentity !== identity || (other.readOnly && file.readOnly)) continue;
    throw new CliError(`Failed to get ${file.readOnly ? 'shared "write"' : '"write"'} lock`, {
      hint: `Is another process using the image [${path}]?\n`,
      errno: 'EAGAIN',
    });
  }
  OPEN.set(file, identity);
}

export function forgetFile(file: OpenFile): void {
  OPEN.delete(file);
}
