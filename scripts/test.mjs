/**
 * npm test [-- project ...]: everything that has to hold, from a fresh clone: tools, build, lint, guest and demo, then the
 * tests of the projects named (unit, interop, browser), or of all; with interop some of QEMU's own suite. The last line says
 * how many passed and failed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from './build.mjs';
import { withFastFolder } from './fast-folder.mjs';
import { passingTests, runIotests } from './iotests.mjs';
import { NoSuite } from './iotests-suite.mjs';
import { lint } from './lint.mjs';
import { ROOT } from './stale.mjs';
import { provideTools } from './test-tools.mjs';

const PROJECTS = ['unit', 'interop', 'browser'];
const RESULTS = join(ROOT, '.tmp/test-results.json');
const GUEST_FOLDER = join(ROOT, 'demo/guest');

/** Runs a script of the project with Node; throws when it fails. */
function runScript(path) {
  const { status } = spawnSync(process.execPath, [join(ROOT, path)], { cwd: ROOT, stdio: 'inherit' });
  if (status !== 0) throw new Error(`${path} failed`);
}

/** The unit tests boot the guest in this process, the browser tests in the demo. */
function prepareGuest() {
  const hasGuest = readdirSync(GUEST_FOLDER).some((name) => name.endsWith('.qcow2'));
  if (!hasGuest) runScript('demo/guest/make-guest.mjs');
}

/** Runs vitest and returns its counts; `ok` is false also for errors outside of any test. */
function runTests(projects) {
  mkdirSync(join(ROOT, '.tmp'), { recursive: true });
  rmSync(RESULTS, { force: true });
  const options = ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${RESULTS}`];
  const script = join(ROOT, 'node_modules/vitest/vitest.mjs');
  const selected = projects.map((project) => `--project=${project}`);
  const { status } = spawnSync(process.execPath, [script, ...options, ...selected], { cwd: ROOT, stdio: 'inherit' });
  if (!existsSync(RESULTS)) return { passed: 0, failed: 0, skipped: 0, ok: false };
  const results = JSON.parse(readFileSync(RESULTS, 'utf8'));
  // A file that could not even be loaded has no tests, but it has failed.
  const unloaded = results.testResults.filter((file) => file.status === 'failed' && file.assertionResults.length === 0);
  return {
    passed: results.numPassedTests,
    failed: results.numFailedTests + unloaded.length,
    skipped: results.numPendingTests + results.numTodoTests,
    ok: status === 0,
  };
}

/** The cheapest tests of QEMU's own suite. Where it can't be had, these are skipped, and it is said why. */
async function runCheapestIotests() {
  const tests = passingTests({ cheapest: true });
  try {
    const passed = await runIotests(tests);
    return { passed, failed: tests.length - passed, skipped: 0 };
  } catch (error) {
    if (!(error instanceof NoSuite)) throw error;
    console.error(`iotests: not run: ${error.message}`);
    return { passed: 0, failed: 0, skipped: tests.length };
  }
}

/** The tests of these projects, with QEMU's suite among those against QEMU. */
async function runAll(projects) {
  const ours = runTests(projects);
  if (!projects.includes('interop')) return ours;
  const theirs = await runCheapestIotests();
  return {
    passed: ours.passed + theirs.passed,
    failed: ours.failed + theirs.failed,
    skipped: ours.skipped + theirs.skipped,
    ok: ours.ok,
  };
}

async function main(projects) {
  const unknown = projects.filter((project) => !PROJECTS.includes(project));
  if (unknown.length > 0) throw new Error(`no such project: ${unknown.join(', ')}; there are ${PROJECTS.join(', ')}`);
  if (!provideTools(projects)) return false;
  await build();
  const clean = await lint();
  if (projects.includes('unit') || projects.includes('browser')) prepareGuest();
  if (projects.includes('browser')) runScript('demo/build.mjs');
  const { passed, failed, skipped, ok } = await withFastFolder(() => runAll(projects));
  if (!clean) console.error('lint failed, see above');
  if (!ok && failed === 0) console.error('vitest failed outside of the tests, see above');
  console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
  return clean && ok && failed === 0 && passed > 0;
}

try {
  const named = process.argv.slice(2);
  process.exitCode = (await main(named.length > 0 ? named : PROJECTS)) ? 0 : 1;
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
