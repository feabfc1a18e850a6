/**
 * `node scripts/crash-browser.mjs [kills]`: Chromium is killed while the demo saves, loads and deletes snapshots, more often
 * than `npm test` does it, with a new seed. Builds what it needs first.
 *
 * A failure prints its seed; `TEST_SEED=<seed>` brings its choices back, though not the speed of the machine.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './stale.mjs';

const TEST = 'test/browser/snapshot-kills.test.ts';

/** Runs a program of Node; ends this one when it fails. */
function run(path, parameters = [], environment = {}) {
  const options = { cwd: ROOT, stdio: 'inherit', env: { ...process.env, ...environment } };
  const { status } = spawnSync(process.execPath, [join(ROOT, path), ...parameters], options);
  if (status !== 0) process.exit(status ?? 1);
}

const kills = Number(process.argv[2] ?? 50);
if (!Number.isInteger(kills) || kills < 1) {
  console.error(`crash-browser: the number of kills is ${process.argv[2]}; it must be a whole number above 0`);
  process.exit(2);
}
run('scripts/build.mjs');
run('demo/build.mjs');
if (!existsSync(join(ROOT, 'demo/guest/linux.qcow2'))) run('demo/guest/make-guest.mjs');
run('node_modules/vitest/vitest.mjs', ['run', '--project=browser', TEST], {
  KILLS: String(kills),
  TEST_SEED: process.env.TEST_SEED ?? 'random',
});
