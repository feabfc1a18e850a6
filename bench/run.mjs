/**
 * npm run bench [-- name ...]: runs bench/<name>.ts, or all of them. A bench exports `bench()`, which returns its result as
 * markdown (or a promise of it).
 */
import { build as bundle } from 'esbuild';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from '../scripts/build.mjs';

const FOLDER = dirname(fileURLToPath(import.meta.url));
const BUNDLES = join(FOLDER, '../.tmp/bench');

/** The benches there are: the modules that export `bench`; the others here are their helpers. */
function allBenches() {
  return readdirSync(FOLDER)
    .filter((name) => name.endsWith('.ts'))
    .filter((name) => /^export (async )?function bench\(/m.test(readFileSync(join(FOLDER, name), 'utf8')))
    .map((name) => name.slice(0, -'.ts'.length));
}

async function run(name) {
  const outfile = join(BUNDLES, `${name}.mjs`);
  await bundle({
    entryPoints: [join(FOLDER, `${name}.ts`)],
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    packages: 'external',
    logLevel: 'warning',
  });
  const { bench } = await import(pathToFileURL(outfile).href);
  console.log(`\n## ${name}\n\n${await bench()}`);
}

const known = allBenches();
const names = process.argv.length > 2 ? process.argv.slice(2) : known;
const unknown = names.filter((name) => !existsSync(join(FOLDER, `${name}.ts`)));
if (unknown.length > 0) {
  console.error(`no such bench: ${unknown.join(', ')}. There are: ${known.join(', ')}.`);
  process.exitCode = 1;
} else {
  await build({ types: false });
  mkdirSync(BUNDLES, { recursive: true });
  console.log(`${cpus()[0]?.model ?? 'unknown processor'}, ${cpus().length} cores, Node ${process.version}`);
  for (const name of names) await run(name);
}
