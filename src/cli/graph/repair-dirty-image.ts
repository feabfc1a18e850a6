/**
 * An image that was left dirty is repaired when it is opened for writing, and QEMU tells of what it repairs.
 */
import { INCOMPATIBLE_DIRTY } from '../../format/features.js';
import type { Header } from '../../format/header.js';
import { checkImage, checkVerdict } from '../../operations/check/check-image.js';
import type { Storage } from '../../storage/storage.js';
import { runToEnd } from '../../util/steps.js';
import { checkLine } from '../text/check-lines.js';
import { errorWords } from '../text/errno.js';
import { CliError, type Console } from '../text/messages.js';

/** Does nothing for an image that is clean. Throws `CliError` where the repair fails. */
export function repairDirtyImage(storage: Storage, header: Header, console: Console): void {
  if ((header.incompatible & INCOMPATIBLE_DIRTY) === 0n) return;
  try {
    const onEvent = (event: Parameters<typeof checkLine>[0]) => console.err(`${checkLine(event)}\n`);
    const result = runToEnd(checkImage(storage, { repair: 'all', onEvent, rebuildMissing: true }));
    if (checkVerdict(result) === 0 || checkVerdict(result) === 3) return;
  } catch (cause) {
    throw new CliError(`Could not repair dirty image: ${errorWords(cause).words}`, { cause });
  }
  throw new CliError('Could not repair dirty image: Input/output error', { errno: 'EIO' });
}
