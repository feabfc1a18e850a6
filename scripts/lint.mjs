/** npm run lint: build, format, rules and types, all of them even if one fails; exits with 1 if any did. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from './build.mjs';
import { ROOT } from './stale.mjs';

const CHECKS = [
  { name: 'prettier', module: 'prettier/bin/prettier.cjs', options: ['--check', '--log-level', 'warn', '.'] },
  { name: 'oxlint', module: 'oxlint/bin/oxlint', options: [] },
  { name: 'tsc', module: 'typescript/bin/tsc', options: ['--noEmit', '-p', '.'] },
];

/** Runs all checks and returns whether all passed. */
export async function lint() {
  const built = await buildFirst();
  const failed = CHECKS.filter(({ name, module, options }) => {
    console.log(`lint: ${name}`);
    const script = join(ROOT, 'node_modules', module);
    return spawnSync(process.execPath, [script, ...options], { cwd: ROOT, stdio: 'inherit' }).status !== 0;
  });
  console.log(failed.length === 0 ? 'lint: clean' : `lint: ${failed.map(({ name }) => name).join(', ')} failed`);
  return built && failed.length === 0;
}

/** The sources import the generated kernels and the demo the package's types. Without them the other checks still say much. */
async function buildFirst() {
  try {
    await build();
    return true;
  } catch (error) {
    console.error(`lint: the build failed: ${error instanceof Error ? error.message : error}`);
    return false;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  process.exitCode = (await lint()) ? 0 : 1;
}
