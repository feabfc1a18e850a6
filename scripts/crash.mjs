/**
 * `npm run crash [states]`: the crash tests, each file of them over many more states than `npm test` takes, with new seeds.
 *
 * A failure prints its seed; `TEST_SEED=<seed> npm run crash` brings it back.
 */
import { spawnSync } from 'node:child_process';

const states = Number(process.argv[2] ?? 30_000);
if (!Number.isInteger(states) || states < 1) {
  console.error(`crash: the number of states is ${process.argv[2]}; it must be a whole number above 0`);
  process.exit(2);
}
const environment = { ...process.env, CRASH_STATES: String(states), TEST_SEED: process.env.TEST_SEED ?? 'random' };
const done = spawnSync('npx', ['vitest', 'run', 'test/crash'], { stdio: 'inherit', env: environment });
process.exit(done.status ?? 1);
