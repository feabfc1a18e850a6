/**
 * The service worker of one build of the page (demo/src/service-worker.ts): the digests of all files of the page are built into it, so that it
 * keeps these and no others. Any change of any file makes another worker, which is how a browser notices an update.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const DEMO = fileURLToPath(new URL('.', import.meta.url));

const WORKER = join(DEMO, 'src/service-worker.ts');

/** As the page's server has them, beside the guest. */
const FIRMWARE = ['guest/bios/bios.bin', 'guest/bios/vgabios-stdvga.bin'];

/**
 * Writes `service-worker.js` into the folder of a page.
 * @param {string} folder
 * @param {readonly string[]} files of the page, in that folder
 * @throws {Error} where a file is missing
 */
export async function buildServiceWorker(folder, files) {
  const paths = [
    ...files.map((name) => [name, join(folder, name)]),
    ...FIRMWARE.map((name) => [name, join(DEMO, name)]),
  ];
  const missing = paths.filter(([, path]) => !existsSync(path)).map(([name]) => name);
  if (missing.length > 0) throw new Error(`the page has no ${missing.join(', ')}: run "npm run guest" first`);
  // The page is asked for by its folder: a server may send who asks for index.html elsewhere.
  const digests = paths.map(([name, path]) => [name === 'index.html' ? './' : name, integrityOf(path)]);
  // The worker's own code, too: a build must not share its cache with one that is in use.
  const parts = [...digests, ['service-worker.ts', integrityOf(WORKER)]];
  const page = {
    build: createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16),
    files: digests,
  };
  await build({
    entryPoints: [WORKER],
    outfile: join(folder, 'service-worker.js'),
    bundle: true,
    format: 'iife',
    target: 'es2022',
    minify: true,
    define: { PAGE: JSON.stringify(page) },
    logLevel: 'warning',
  });
}

/** As `integrity` of a request has it. */
function integrityOf(path) {
  return `sha256-${createHash('sha256').update(readFileSync(path)).digest('base64')}`;
}
