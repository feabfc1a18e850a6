/**
 * Repair of an image whose dirty bit is set: it was not closed, and its refcounts may be behind its tables (spec,
 * "incompatible_features" bit 0). The whole check with all its repairs (`image-check.ts`), run to its end, as QEMU does.
 *
 * The dirty bit is cleared last, once all of this is stable. Being cut off and run again does no harm.
 */
import { Qcow2Error } from '../errors.js';
import type { Storage } from '../storage/storage.js';
import { ImageCheck } from './image-check.js';
import { ImageUnderCheck } from './image-under-check.js';

/** Throws `CORRUPT` when something is wrong that can't be repaired; the dirty bit is still set then. */
export function repairDirty(storage: Storage): void {
  const pass = new ImageCheck(new ImageUnderCheck(storage), 'all');
  while (pass.step());
  const { corruptions, checkErrors } = pass.tally;
  if (corruptions + checkErrors === 0) return;
  const counts = `${corruptions} corruptions and ${checkErrors} check errors are left`;
  const first = pass.findings.list[0];
  const example = first === undefined ? '' : `, such as: ${first.message}`;
  throw new Qcow2Error('CORRUPT', `the image was left dirty and could not be repaired: ${counts}${example}`);
}
