/** How much a page has to load, minified and compressed as servers do it. 1 KB is 1024 bytes. */
import { build, type Plugin } from 'esbuild';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { ROOT } from './pack.js';

const KB = 1024;

/** The goal is for an engine without zstd, which is a codec of its own: its code and its module, which is in the bundle as text. */
const withoutZstd: Plugin = {
  name: 'without-zstd',
  setup({ onLoad }) {
    onLoad({ filter: /codec\/zstd-codec\.ts$/ }, () => ({ contents: 'export class ZstdCodec {}' }));
  },
};

async function compressedBytes(contents: string, plugins: Plugin[] = []): Promise<number> {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: ROOT },
    ...{ bundle: true, write: false, minify: true, format: 'esm', target: 'es2022', plugins },
  });
  return gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
}

test('the engine and its kernels, to make, read and write images: 60 KB without zstd', async () => {
  const bytes = await compressedBytes("export { createImage, openImage } from './src/index.ts'", [withoutZstd]);
  expect(bytes).toBeGreaterThan(20 * KB);
  expect(bytes).toBeLessThan(60 * KB);
});

test('the adapter for v86 over a disk in a worker, with snapshots of the machine: 10 KB', async () => {
  const bytes = await compressedBytes("export { attach, remoteDisk } from './src/v86.ts'");
  expect(bytes).toBeGreaterThan(5 * KB);
  expect(bytes).toBeLessThan(10 * KB);
});
