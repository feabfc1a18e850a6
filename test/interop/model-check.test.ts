/** What the model runs leave behind, judged by qemu-img: no corruption ever, and no leak where nothing crashed. */
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { backingBytes, MODEL_SCALES, runModel } from '../image/model-run.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { inTemporaryDirectory, qemuBytes, qemuCheck } from './qemu.js';

const REFCOUNT_BITS = [64, 32, 16, 8, 4, 2, 1] as const;

describe('after random operations qemu-img finds nothing wrong', () => {
  let salt = 1000;
  for (const { clusterSize, size, operations } of MODEL_SCALES) {
    for (const version of [2, 3] as const) {
      for (const over of ['nothing', 'a backing file'] as const) {
        for (const drops of [false, true]) {
          salt++;
          const seed = seedOfThisRun(salt);
          const refcountBits = version === 2 ? 16 : (REFCOUNT_BITS[salt % REFCOUNT_BITS.length] ?? 16);
          const shape = `version ${version}, clusters of ${clusterSize} bytes, refcounts of ${refcountBits} bits`;
          const title = `${shape}, over ${over}, ${drops ? 'dropped at times' : 'always closed'}`;
          it(title, () =>
            inTemporaryDirectory((path) =>
              withSeed(title, seed, (random) => {
                const backing = over === 'nothing' ? undefined : backingBytes(size, random);
                const base = path('base.raw');
                if (backing) writeFileSync(base, backing);
                const { file, expected } = runModel(
                  {
                    create: {
                      ...{ size, clusterSize, version, refcountBits },
                      ...(backing ? { backing: { name: base, format: 'raw' as const } } : {}),
                    },
                    ...(backing ? { backing } : {}),
                    operations,
                    drops,
                  },
                  random,
                );
                const image = path('image.qcow2');
                writeFileSync(image, file);
                const { leaks, corruptions, checkErrors, output } = qemuCheck(image);
                expect({ corruptions, checkErrors }, output).toEqual({ corruptions: 0, checkErrors: 0 });
                if (!drops) expect(leaks, output).toBe(0);
                expectSameBytes(qemuBytes(image), expected, 'what QEMU reads');
              }),
            ),
          );
        }
      }
    }
  }
});
