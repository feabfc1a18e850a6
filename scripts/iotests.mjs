/**
 * npm run test:iotests [-- --suite folder] [-- --jobs n] [-- test ...]: QEMU's own test suite against `qcow2-img` and
 * `qcow2-io`, the tests of test/iotests/passing.txt or those that are named. The last line says how many passed.
 *
 * A test passes if it ends with 0, has run, and its output is the suite's reference but for blanks at the ends of lines.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from './build.mjs';
import { Iotests } from './iotests-run.mjs';
import { NoSuite, provideSuite } from './iotests-suite.mjs';
import { ROOT } from './stale.mjs';

const LIST = join(ROOT, 'test/iotests/passing.txt');

/** The names of the tests in the list; `cheapest`: of those alone that `npm test` runs. */
export function passingTests({ cheapest = false } = {}) {
  const lines = readFileSync(LIST, 'utf8').split('\n');
  const entries = lines.filter((line) => /^\w/.test(line));
  const chosen = cheapest ? entries.filter((line) => /^\S+ +\*/.test(line)) : entries;
  return chosen.map((line) => line.split(' ')[0]);
}

/**
 * Runs the tests against what is built, some at a time, and returns how many passed. A line for each says so or why not.
 * Throws `NoSuite` where the suite can't be had.
 */
export async function runIotests(tests, { suite, jobs = 1 } = {}) {
  const iotests = new Iotests(provideSuite(suite));
  const giveUp = (signal) => {
    iotests.close();
    process.exit(signal === 'SIGINT' ? 130 : 143);
  };
  process.once('SIGINT', giveUp).once('SIGTERM', giveUp);
  const waiting = [...tests];
  let passed = 0;
  const work = async () => {
    for (let test = waiting.shift(); test !== undefined; test = waiting.shift()) {
      const started = performance.now();
      const failure = await iotests.run(test);
      if (failure === null) passed++;
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      console.log(
        `iotests: ${test} ${failure === null ? 'passed' : 'FAILED'} (${seconds} s) ${failure ?? ''}`.trimEnd(),
      );
    }
  };
  try {
    await Promise.all(Array.from({ length: jobs }, work));
  } finally {
    iotests.close();
    process.off('SIGINT', giveUp).off('SIGTERM', giveUp);
  }
  return passed;
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { suite: { type: 'string' }, jobs: { type: 'string', default: '1' } },
  });
  const jobs = Number(values.jobs);
  if (!Number.isInteger(jobs) || jobs < 1)
    throw new NoSuite(`--jobs is ${values.jobs}; it must be a whole number above 0`);
  const missing = ['bash', 'python3'].filter((tool) => spawnSync(tool, ['--version']).error !== undefined);
  if (missing.length > 0) throw new NoSuite(`missing: ${missing.join(', ')}`);
  await build({ types: false });
  const tests = positionals.length > 0 ? positionals : passingTests();
  const passed = await runIotests(tests, { suite: values.suite, jobs });
  console.log(`${passed} of ${tests.length} passed`);
  return passed === tests.length;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    process.exitCode = (await main()) ? 0 : 1;
  } catch (error) {
    console.error(`iotests: ${error instanceof Error ? error.message : error}`);
    process.exitCode = 2;
  }
}
