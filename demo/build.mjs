/**
 * Builds the demo into demo/dist: one bundle of the page, v86's WASM beside it, the page's own files, and the service worker that keeps all of
 * them. The package is imported by its name, as a user's bundler would find it, so `npm run build` comes first; the BIOS is
 * one of the files that are kept, so `npm run guest` does, too.
 */
import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { buildServiceWorker } from './page-build.mjs';

const DEMO = fileURLToPath(new URL('.', import.meta.url));
const OUTPUT = join(DEMO, 'dist');
const PACKAGE_ENTRIES = ['opfs.js', 'v86.js'].map((name) => join(DEMO, '../dist', name));
const STYLES = ['style.css', 'snapshots.css', 'protection.css', 'offline.css', 'disks.css', 'storage.css'];
const PAGE = ['index.html', ...STYLES, 'favicon.svg'];
const V86_MODULES = ['v86.wasm', 'v86-fallback.wasm'];
/** What a visit needs, and so what is kept for one without a network; maps and licences are not. */
export const PAGE_FILES = [...PAGE, ...V86_MODULES, 'main.js', 'xterm.css'];
const require = createRequire(import.meta.url);

export async function buildDemo() {
  const missing = PACKAGE_ENTRIES.filter((path) => !existsSync(path));
  if (missing.length > 0)
    throw new Error(`the package is not built (${missing.join(', ')}): run "npm run build" first`);
  mkdirSync(OUTPUT, { recursive: true });
  await build({
    entryPoints: [join(DEMO, 'src/main.ts')],
    outfile: join(OUTPUT, 'main.js'),
    bundle: true,
    format: 'esm',
    target: 'es2022',
    minify: true,
    sourcemap: true,
    legalComments: 'linked',
    // v86 reaches for these only where it runs in Node.
    external: ['node:*', 'fs', 'crypto', 'perf_hooks'],
    logLevel: 'warning',
  });
  for (const name of PAGE) copyFileSync(join(DEMO, name), join(OUTPUT, name));
  const v86 = dirname(require.resolve('v86'));
  for (const name of V86_MODULES) copyFileSync(join(v86, name), join(OUTPUT, name));
  copyFileSync(require.resolve('@xterm/xterm/css/xterm.css'), join(OUTPUT, 'xterm.css'));
  await buildServiceWorker(OUTPUT, PAGE_FILES);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildDemo();
