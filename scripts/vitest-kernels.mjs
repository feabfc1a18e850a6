/** Vitest's global setup for tests that import the sources: they need the generated kernels module. */
import { buildKernels } from './build-kernels.mjs';

export default async function setup() {
  await buildKernels();
}
