/**
 * The model test: an image behaves as a plain array of bytes, whatever is done to it in whatever order.
 *
 * The interop variant (`test/interop/model-check.test.ts`) has qemu-img check what such runs leave behind.
 */
import { describe, it } from 'vitest';
import { referenceKernels } from '../../src/kernels/reference-kernels.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { backingBytes, MODEL_SCALES, runModel } from './model-run.js';

const REFCOUNT_BITS = [1, 2, 4, 8, 16, 32, 64] as const;

describe('an image under random operations reads as a plain byte array', () => {
  let salt = 0;
  for (const { clusterSize, size, operations } of MODEL_SCALES) {
    for (const version of [2, 3] as const) {
      for (const over of ['nothing', 'a backing file'] as const) {
        for (const kernels of ['wasm', 'reference'] as const) {
          salt++;
          const seed = seedOfThisRun(salt);
          const refcountBits = version === 2 ? 16 : (REFCOUNT_BITS[salt % REFCOUNT_BITS.length] ?? 16);
          const lazyRefcounts = version === 3 && salt % 3 === 0;
          const shape = `version ${version}, clusters of ${clusterSize} bytes, refcounts of ${refcountBits} bits`;
          const title = `${shape}${lazyRefcounts ? ' (lazy)' : ''}, over ${over}, ${kernels} kernels`;
          it(title, () =>
            withSeed(title, seed, (random) => {
              const backing = over === 'nothing' ? undefined : backingBytes(size, random);
              runModel(
                {
                  create: {
                    ...{ size, clusterSize, version, refcountBits, lazyRefcounts },
                    ...(backing ? { backing: { name: 'base.raw', format: 'raw' as const } } : {}),
                  },
                  ...(backing ? { backing } : {}),
                  ...(kernels === 'reference' ? { kernels: referenceKernels } : {}),
                  operations,
                  drops: true,
                },
                random,
              );
            }),
          );
        }
      }
    }
  }
});
