/** Fuzz of images of our own making; see `fuzz-run.ts` for what it proves. QEMU's are in `test/interop/fuzz.test.ts`. */
import { describe, it } from 'vitest';
import { roundsOfThisRun, timeoutOfThisRun } from '../support/campaign.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { smallImage } from './damaged.js';
import { fuzz } from './fuzz-run.js';

const OPTIONS = { timeout: timeoutOfThisRun(120_000) };

describe('an image with damaged metadata', () => {
  for (const version of [2, 3] as const) {
    it(`ends in success or with a Qcow2Error, soon, and in bounds (version ${version})`, OPTIONS, () =>
      withSeed('fuzz', seedOfThisRun(version), (random) => fuzz(smallImage(version), roundsOfThisRun(2000), random)),
    );
  }
});
