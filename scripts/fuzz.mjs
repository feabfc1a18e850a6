/**
 * `npm run fuzz [times]`: damaged images, random histories against the model, and turns with QEMU's tools, each so many times as long
 * as in `npm test`, with new seeds. Without a number: 20 times.
 *
 * A failure prints its seed; `TEST_SEED=<seed> npm run fuzz` brings it back.
 */
import { spawnSync } from 'node:child_process';

const FILES = [
  'test/image/fuzz.test.ts',
  'test/image/encrypted-fuzz.test.ts',
  'test/operations/bitmaps/hostile.test.ts',
  'test/operations/snapshots/hostile.test.ts',
  'test/interop/fuzz.test.ts',
  'test/interop/all-operations.test.ts',
  'test/interop/matrix-512.test.ts',
  'test/interop/matrix-4k.test.ts',
  'test/interop/matrix-64k.test.ts',
  'test/interop/matrix-2m.test.ts',
];

const times = Number(process.argv[2] ?? 20);
if (!Number.isInteger(times) || times < 1) {
  console.error(`fuzz: the number of times is ${process.argv[2]}; it must be a whole number above 0`);
  process.exit(2);
}
const environment = { ...process.env, FUZZ_TIMES: String(times), TEST_SEED: process.env.TEST_SEED ?? 'random' };
const options = ['--project=unit', '--project=interop', `--testTimeout=${120_000 * times}`];
const done = spawnSync('npx', ['vitest', 'run', ...options, ...FILES], { stdio: 'inherit', env: environment });
process.exit(done.status ?? 1);
