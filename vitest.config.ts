/**
 * Three projects: `unit` (everything in this process), `interop` (against QEMU's tools) and `browser` (Chromium; after the others, because a
 * guest needs most of a core, and two files at a time, each with a browser of its own).
 */
import { availableParallelism } from 'node:os';
import { defineConfig, type Plugin } from 'vitest/config';
import { bundleWorkerSource, WORKER_SOURCE_ID } from './scripts/worker-source.mjs';

/** Bundles the worker when a test imports it, as the build does. */
const workerSource: Plugin = {
  name: 'worker-source',
  resolveId: (id) => (id === WORKER_SOURCE_ID ? `\0${id}` : undefined),
  load: async (id) =>
    id === `\0${WORKER_SOURCE_ID}` ? `export default ${JSON.stringify(await bundleWorkerSource())};` : undefined,
};

const sources = { plugins: [workerSource] };
const kernels = './scripts/vitest-kernels.mjs';

/**
 * One process for many test files of a project: a start and its imports cost more than most of the tests. And no optimizing compiler
 * for WebAssembly, which takes longer for the kernels and a guest's code than it saves before the tests are over.
 */
const quickStart = { isolate: false, execArgv: ['--liftoff-only'] };

/** vitest leaves one core alone, which is half of a machine with two; QEMU's tools have time for both. */
const maxWorkers = Math.max(2, availableParallelism() - 1);

export default defineConfig({
  test: {
    maxWorkers,
    projects: [
      {
        ...sources,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/browser/**', 'test/package/**', 'test/interop/**'],
          globalSetup: kernels,
          ...quickStart,
          testTimeout: 60_000,
        },
      },
      {
        ...sources,
        test: {
          name: 'interop',
          include: ['test/interop/**/*.test.ts'],
          globalSetup: kernels,
          ...quickStart,
          testTimeout: 120_000,
        },
      },
      {
        ...sources,
        test: {
          name: 'browser',
          include: ['test/browser/**/*.test.ts', 'test/package/**/*.test.ts'],
          globalSetup: './scripts/vitest-bundles.mjs',
          testTimeout: 600_000,
          hookTimeout: 300_000,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
