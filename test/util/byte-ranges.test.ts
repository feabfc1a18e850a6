import { describe, expect, it } from 'vitest';
import { ByteRanges } from '../../src/util/byte-ranges.js';
import { roundsOfThisRun } from '../support/campaign.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';

const SIZE = 60;

describe('a set of byte ranges', () => {
  it('holds what was added, as a list of all bytes does', () =>
    withSeed('byte ranges', seedOfThisRun(810), (random) => {
      for (let round = 0; round < roundsOfThisRun(200); round++) {
        const ranges = new ByteRanges();
        const model = Array.from({ length: SIZE }, () => false);
        for (let step = 0; step < 12; step++) {
          const start = random.below(SIZE);
          const end = Math.min(SIZE, start + random.below(8));
          ranges.add(start, end);
          model.fill(true, start, end);
          const from = random.below(SIZE);
          const to = Math.min(SIZE, from + random.below(8));
          const what = `round ${round}, step ${step}: ${from} to ${to}`;
          expect(ranges.touches(from, to), what).toBe(model.slice(from, to).includes(true));
        }
        for (let at = 0; at < SIZE; at++) expect(ranges.touches(at, at + 1), `round ${round}: ${at}`).toBe(model[at]);
      }
    }));

  it('goes up to the end of everything', () => {
    const ranges = new ByteRanges();
    ranges.add(10, 20);
    expect(ranges.touches(19, Infinity)).toBe(true);
    expect(ranges.touches(20, Infinity)).toBe(false);
  });
});
