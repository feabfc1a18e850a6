/** npm run reference: the API reference, by typedoc, into .tmp/reference/. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { build } from './build.mjs';
import { ROOT } from './stale.mjs';

const FOLDER = join(ROOT, 'docs/reference');

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: FOLDER, stdio: 'inherit' });
  if (status !== 0) throw error ?? new Error(`${command} ${args.join(' ')} ended with ${status}`);
}

// The sources import what is generated.
await build({ types: false });
run('npm', ['ci', '--no-audit', '--no-fund']);
run(process.execPath, [join(FOLDER, 'node_modules/typedoc/bin/typedoc')]);
