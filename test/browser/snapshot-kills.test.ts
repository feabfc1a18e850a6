/**
 * The browser is killed while a snapshot is saved, loaded or deleted (`kill-campaign.ts` says what must hold).
 *
 * `KILLS` sets how often (`scripts/crash-browser.mjs` takes 50), `TEST_SEED` the seed.
 */
import { expect, it } from 'vitest';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { KillCampaign } from './kill-campaign.js';

const KILLS = Number(process.env['KILLS'] ?? 3);

/** A boot, and what a kill with all that is looked at afterwards takes on a busy machine. */
const MILLISECONDS = 300_000 + KILLS * 60_000;

it(
  'a browser that is killed loses no snapshot, and leaves none half there',
  async () => {
    await withSeed('the kills', seedOfThisRun(), async (random) => {
      const report = await KillCampaign.run({ kills: KILLS, random, log: (line) => console.log(line) });
      console.log(report);
      expect(report.kills).toBe(KILLS);
      expect(report.underWay).toBeGreaterThan(0);
    });
  },
  MILLISECONDS,
);
