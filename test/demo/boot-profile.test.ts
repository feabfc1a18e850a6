/** What the recorded boot profile of the demo's guest is made of; the engine's own recorder is what it has to agree with. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TouchedUnits } from '../../demo/guest/boot-profile.mjs';
import { checkProfile, ProfileRecorder } from '../../src/network/boot-profile.js';
import { ChunkGeometry } from '../../src/network/chunk-geometry.js';

const SIZE = 40 * 65536 + 100;

describe('the boot profile that is recorded without a browser', () => {
  test('has the parts that were read, each once, in the order of their first reading', () => {
    const units = new TouchedUnits(SIZE);
    units.note(5 * 65536, 512);
    units.note(6 * 65536 + 4096, 512);
    units.note(0, 65537);
    units.note(5 * 65536, 65536);
    units.note(SIZE - 1, 512);
    expect(units.runs()).toEqual([
      [5 * 65536, 2 * 65536],
      [0, 2 * 65536],
      [40 * 65536, 100],
    ]);
  });

  test('is what a page would have recorded of the same reads', () => {
    const read = fc.tuple(fc.nat(SIZE - 1), fc.integer({ min: 1, max: 200_000 }));
    fc.assert(
      fc.property(fc.array(read, { maxLength: 30 }), (reads) => {
        const units = new TouchedUnits(SIZE);
        const recorder = new ProfileRecorder(new ChunkGeometry(SIZE, 65536));
        for (const [offset, length] of reads) {
          units.note(offset, length);
          recorder.note(offset, length);
        }
        const profile = recorder.profile();
        expect(units.runs()).toEqual(profile.touched);
        expect(() => checkProfile({ ...profile, touched: units.runs() }, 'it')).not.toThrow();
      }),
      { seed: 7, numRuns: 200 },
    );
  });
});
