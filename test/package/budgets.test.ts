/** How much a page has to load, minified and compressed as servers do it. 1 KB is 1024 bytes. */
import { build, type Plugin } from 'esbuild';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { ROOT } from './pack.js';

const KB = 1024;

/** zstd is a module of its own that is in the bundle as text: measured without it. */
const withoutZstd: Plugin = {
  name: 'without-zstd',
  setup({ onLoad }) {
    const names = ['ZSTD_EXPORTS = {}', 'ZSTD_IMPORTS = {}', 'ZSTD_WASM_BYTES = 0', "ZSTD_WASM_DEFLATED_BASE64 = ''"];
    onLoad({ filter: /generated\/zstd-wasm\.ts$/ }, () => ({ contents: `export const ${names.join(', ')};` }));
  },
};

async function compressedBytes(contents: string, plugins: Plugin[] = []): Promise<number> {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: ROOT },
    ...{ bundle: true, write: false, minify: true, format: 'esm', target: 'es2022', plugins },
  });
  return gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
}

// The goal is 60 KB: persistent bitmaps, which every image that is opened may have, have taken it 2 KB beyond.
test('the engine and its kernels, to make, read and write images: 64 KB without zstd', async () => {
  const bytes = await compressedBytes("export { createImage, openImage } from './src/index.ts'", [withoutZstd]);
  expect(bytes).toBeGreaterThan(20 * KB);
  expect(bytes).toBeLessThan(64 * KB);
});

test('the adapter for v86 over a disk in a worker, with snapshots of the machine: 10 KB', async () => {
  const bytes = await compressedBytes("export { attach, remoteDisk } from './src/v86.ts'");
  expect(bytes).toBeGreaterThan(5 * KB);
  expect(bytes).toBeLessThan(10 * KB);
});
