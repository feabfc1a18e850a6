/**
 * `virtual:worker-source`: the worker bundled to one classic script, as text, so that the client can start it from a Blob
 * URL and a user's bundler needs no configuration.
 */
import { build } from 'esbuild';
import { join } from 'node:path';
import { ROOT } from './stale.mjs';

export const WORKER_SOURCE_ID = 'virtual:worker-source';

/** The source of the worker; a script without imports or exports runs in classic and in module workers. */
export async function bundleWorkerSource() {
  const { outputFiles } = await build({
    entryPoints: [join(ROOT, 'src/worker.ts')],
    bundle: true,
    write: false,
    format: 'iife',
    platform: 'browser',
    target: 'es2022',
    minify: true,
    legalComments: 'none',
  });
  return outputFiles[0].text;
}

/** Resolves the import for esbuild. */
export const workerSourcePlugin = {
  name: 'worker-source',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^virtual:worker-source$/ }, ({ path }) => ({ path, namespace: 'worker-source' }));
    onLoad({ filter: /.*/, namespace: 'worker-source' }, async () => ({
      contents: await bundleWorkerSource(),
      loader: 'text',
    }));
  },
};
