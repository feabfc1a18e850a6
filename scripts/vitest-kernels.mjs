/** Vitest's global setup for tests that import the sources: they need the generated modules of the kernels and of zstd. */
import { buildKernels } from './build-kernels.mjs';
import { buildZstd } from './build-zstd.mjs';

export default async function setup() {
  await buildKernels();
  buildZstd();
}
