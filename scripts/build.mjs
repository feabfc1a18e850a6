/**
 * npm run build: makes what is missing or out of date in dist/. `--force` makes all of it.
 *
 *   kernels   assembly/ -> dist/kernels.wasm and the generated module that inlines it
 *   zstd      a package's module -> the generated module that inlines it
 *   bundles   src/*.ts  -> dist/*.js: ES modules; code they share is in dist/chunks/, so a class is one class everywhere
 *   worker    src/worker.ts -> dist/worker.js, in one piece
 *   global    src/global.ts -> dist/qcow2-wasm.global.js, a classic script for pages without a bundler
 *   programs  src/cli/*.ts -> dist/cli/*.js, which Node runs; commands, and what only some of them need, are in dist/cli/chunks/
 *   notices   the licences of what the bundles contain -> dist/THIRD-PARTY-NOTICES.txt
 *   types     src/      -> dist/types/
 */
import { build as esbuild } from 'esbuild';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildKernels } from './build-kernels.mjs';
import { buildZstd } from './build-zstd.mjs';
import { isStale, ROOT } from './stale.mjs';
import { thirdPartyNotices } from './third-party-notices.mjs';
import { workerSourcePlugin } from './worker-source.mjs';

const BROWSER_ENTRIES = ['index', 'opfs', 'v86'];
const NODE_ENTRY = 'node';
const WORKER_ENTRY = 'worker';
const GLOBAL_SCRIPT = { entry: 'global', file: 'qcow2-wasm.global.js', name: 'Qcow2Wasm' };
const PROGRAMS = ['qcow2-img', 'qcow2-io', 'qcow2-split'];
const NOTICES = 'dist/THIRD-PARTY-NOTICES.txt';
const INPUTS = ['src', 'scripts', 'package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json'];

/** @type {import('esbuild').BuildOptions} */
const COMMON = {
  absWorkingDir: ROOT,
  bundle: true,
  format: 'esm',
  platform: 'browser',
  target: 'es2022',
  external: ['node:*'],
  outdir: 'dist',
  sourcemap: true,
  legalComments: 'linked',
  logLevel: 'warning',
  metafile: true,
};

/** Builds what is stale. `types: false` leaves the declarations out, for tests that only run the bundles. */
export async function build({ force = false, types = true } = {}) {
  const report = (what) => console.log(`built ${what}`);
  if (await buildKernels({ force })) report('dist/kernels.wasm');
  if (buildZstd({ force })) report('src/kernels/generated/zstd-wasm.ts');
  if (force || isStale(bundleOutputs(), INPUTS)) {
    await buildBundlesOrNone();
    report(`dist/{${[...BROWSER_ENTRIES, NODE_ENTRY, WORKER_ENTRY]}}.js and dist/cli/{${PROGRAMS}}.js`);
  }
  if (types && (force || isStale(typeOutputs(), INPUTS))) {
    buildTypes();
    report('dist/types');
  }
}

function bundleOutputs() {
  const programs = PROGRAMS.map((program) => `dist/cli/${program}.js`);
  const modules = [...BROWSER_ENTRIES, NODE_ENTRY, WORKER_ENTRY].map((entry) => `dist/${entry}.js`);
  return [...modules, `dist/${GLOBAL_SCRIPT.file}`, ...programs, NOTICES];
}

function typeOutputs() {
  return [...BROWSER_ENTRIES, NODE_ENTRY, WORKER_ENTRY].map((entry) => `dist/types/${entry}.d.ts`);
}

/** A bundle that was refused must not be there, or the next build would take it for done. */
async function buildBundlesOrNone() {
  removeBundles();
  try {
    await buildBundles();
  } catch (error) {
    removeBundles();
    throw error;
  }
}

async function buildBundles() {
  const source = (entry) => `src/${entry}.ts`;
  // The worker comes first: the entries inline it, and its errors are clearer here.
  // It exports nothing, and is a module all the same, which tools can only see by this.
  const footer = { js: 'export {};' };
  const worker = await esbuild({ ...COMMON, entryPoints: [source(WORKER_ENTRY)], footer });
  const library = await esbuild({
    ...COMMON,
    entryPoints: [...BROWSER_ENTRIES, NODE_ENTRY].map(source),
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
    plugins: [workerSourcePlugin],
  });
  const script = await buildGlobalScript();
  const programs = await buildPrograms();
  for (const entry of BROWSER_ENTRIES) refuseNodeImports(library.metafile, `dist/${entry}.js`);
  refuseNodeImports(worker.metafile, `dist/${WORKER_ENTRY}.js`);
  refuseNodeImports(script.metafile, `dist/${GLOBAL_SCRIPT.file}`);
  // The worker that the entries inline has the contents of dist/worker.js.
  writeFileSync(join(ROOT, NOTICES), thirdPartyNotices([worker.metafile, library.metafile, programs.metafile]));
}

/** Small, for it is loaded as it is. */
function buildGlobalScript() {
  const { entry, file, name } = GLOBAL_SCRIPT;
  return esbuild({
    ...COMMON,
    entryPoints: [`src/${entry}.ts`],
    outdir: undefined,
    outfile: `dist/${file}`,
    format: 'iife',
    globalName: name,
    minify: true,
    plugins: [workerSourcePlugin],
  });
}

/**
 * The programs, into `outdir`. They start faster without white space, and nobody debugs them in a browser. Tests have them
 * built into folders of their own.
 */
export function buildPrograms({ outdir = 'dist/cli' } = {}) {
  return esbuild({
    ...COMMON,
    entryPoints: PROGRAMS.map((program) => `src/cli/${program}.ts`),
    outdir,
    platform: 'node',
    target: 'node20',
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
    banner: { js: '#!/usr/bin/env node' },
    minify: true,
    sourcemap: false,
  });
}

/** Chunks have hashes in their names, so old ones would stay. */
function removeBundles() {
  rmSync(join(ROOT, 'dist/cli'), { recursive: true, force: true });
  rmSync(join(ROOT, 'dist/chunks'), { recursive: true, force: true });
  rmSync(join(ROOT, NOTICES), { force: true });
  if (!existsSync(join(ROOT, 'dist'))) return;
  for (const name of readdirSync(join(ROOT, 'dist'))) {
    if (/\.js(\.map|\.LEGAL\.txt)?$/.test(name)) rmSync(join(ROOT, 'dist', name));
  }
}

/** A bundle for browsers that imports a node module, itself or through a chunk, would fail to load there. */
function refuseNodeImports(metafile, output) {
  const seen = new Set();
  const visit = (path) => {
    if (seen.has(path)) return;
    seen.add(path);
    for (const imported of metafile.outputs[path]?.imports ?? []) {
      if (imported.path.startsWith('node:')) throw new Error(`${output} must not import ${imported.path} (in ${path})`);
      if (!imported.external) visit(imported.path);
    }
  };
  visit(output);
}

function buildTypes() {
  rmSync(join(ROOT, 'dist/types'), { recursive: true, force: true });
  const compiler = join(ROOT, 'node_modules/typescript/bin/tsc');
  const { status } = spawnSync(process.execPath, [compiler, '-p', 'tsconfig.build.json'], {
    cwd: ROOT,
    stdio: 'inherit',
  });
  if (status !== 0) throw new Error('the declarations could not be made: see the errors of tsc above');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    await build({ force: process.argv.includes('--force') });
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
