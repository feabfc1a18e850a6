/** Copying a file as it is, in steps between which it may be read but not written. */
import type { Storage } from '../storage/storage.js';
import { stepsOf, type Steps } from '../util/steps.js';

/** Bytes moved in one step. */
const STEP_BYTES = 2 * 1024 * 1024;

/** Copies all of `source` to `target`, an empty file; stable at the end. */
export function copyFile(source: Storage, target: Storage): Steps {
  const total = source.size;
  const buffer = new Uint8Array(Math.min(STEP_BYTES, total));
  let done = 0;
  return stepsOf(() => {
    if (done >= total) {
      target.flush();
      return null;
    }
    const piece = buffer.subarray(0, Math.min(STEP_BYTES, total - done));
    source.read(done, piece);
    target.write(done, piece);
    done += piece.length;
    return { done, total, what: 'copying the file' };
  });
}
