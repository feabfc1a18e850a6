/** Fuzz of encrypted images; see `encrypted-fuzz-run.ts` for what it proves. */
import { describe, expect, it } from 'vitest';
import { roundsOfThisRun, timeoutOfThisRun } from '../support/campaign.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { fuzzEncryption, imageToFuzz } from './encrypted-fuzz-run.js';

const ROUNDS = roundsOfThisRun(90);
const OPTIONS = { timeout: timeoutOfThisRun(300_000) };

describe('an encrypted image with a damaged header, key slots or extension', () => {
  it('ends in success or with a Qcow2Error, soon, and with nothing written elsewhere', OPTIONS, () =>
    withSeed('fuzz of encryption', seedOfThisRun(71), async (random) => {
      const successes = await fuzzEncryption(await imageToFuzz(), ROUNDS, random);
      // Some damages do not matter, and some uses do not meet them.
      expect(successes).toBeGreaterThan(ROUNDS);
      expect(successes).toBeLessThan(ROUNDS * 7);
    }),
  );
});
