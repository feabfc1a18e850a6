/**
 * Whether an image that has come from elsewhere can be used: it opens as a disk does, to be written (one that could only be read must not
 * replace one that can be used), and a check of its metadata finds nothing that is corrupt.
 */
import { Qcow2Error } from '../errors.js';
import type { NetworkHost } from '../network/open-base.js';
import { checkImage, checkVerdict } from '../operations/check/check-image.js';
import { inspectImage } from './disk-file.js';
import type { ImageFiles } from './image-files.js';
import { carryOut, type BetweenSteps } from './job.js';
import type { AllowedFiles } from './protocol.js';
import type { DiskInfo } from './remote-disk.js';

export interface Candidate {
  readonly files: ImageFiles;
  /** The name that it is to have, and the one that it has. */
  readonly name: string;
  readonly temporary: string;
  readonly allowed: AllowedFiles;
  readonly network: NetworkHost | undefined;
}

/** @throws Qcow2Error what keeps it from being opened, and `CORRUPT` with the words of the check. */
export async function verifyImage(candidate: Candidate, between: BetweenSteps): Promise<DiskInfo> {
  const { files, name, temporary, allowed, network } = candidate;
  if (allowed.backing.includes(name)) {
    throw new Qcow2Error('BAD_ARGUMENT', `"${name}" can't be its own backing file`);
  }
  const info = await inspectImage(files, await files.open(temporary, 'read-write'), { name, ...allowed, network });
  await checkFile(files, temporary, between);
  return info;
}

async function checkFile(files: ImageFiles, temporary: string, between: BetweenSteps): Promise<void> {
  // Opened above, an image that was left dirty has been repaired; leaks do no harm.
  const storage = await files.open(temporary, 'read-only');
  try {
    const result = await carryOut(checkImage(storage), between);
    const verdict = checkVerdict(result);
    if (verdict === 0 || verdict === 3) return;
    const { corruptions, checkErrors, remaining } = result;
    const worst = remaining.find(({ kind }) => kind !== 'leak')?.message ?? 'no details';
    throw new Qcow2Error('CORRUPT', `the image is damaged: ${corruptions + checkErrors} errors, such as: ${worst}`);
  } finally {
    storage.close();
  }
}
