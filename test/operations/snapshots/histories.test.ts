/**
 * Snapshots, as a model has them: over random histories, in every layout, each snapshot keeps its disk and its VM state, and
 * after every operation the check finds nothing.
 */
import { describe, expect, it } from 'vitest';
import {
  checkImage,
  createImage,
  MemoryStorage,
  openImage,
  RawDisk,
  runToEnd,
  type CreateOptions,
} from '../../../src/index.js';
import { seedOfThisRun, withSeed } from '../../support/seeded-random.js';
import { SnapshotHistory, type HistoryOptions } from '../../support/snapshot-history.js';

interface Shape {
  readonly title: string;
  readonly create: Omit<CreateOptions, 'size'> & { readonly clusterSize: number };
  readonly backing?: boolean;
  readonly options?: HistoryOptions;
}

const SIZE = 200_704;
const SHAPES: readonly Shape[] = [
  { title: 'clusters of 512 bytes', create: { clusterSize: 512 }, options: { resizes: true } },
  { title: 'clusters of 4 KiB', create: { clusterSize: 4096 }, options: { resizes: true, compresses: true } },
  { title: 'clusters of 64 KiB', create: { clusterSize: 65536 } },
  { title: 'version 2', create: { clusterSize: 1024, version: 2 } },
  { title: 'version 2 over a backing file', create: { clusterSize: 512, version: 2 }, backing: true },
  { title: 'a backing file longer than the disk', create: { clusterSize: 2048 }, backing: true },
  {
    title: 'extended L2 entries',
    create: { clusterSize: 16384, extendedL2: true },
    backing: true,
    options: { compresses: true },
  },
  { title: 'zstd', create: { clusterSize: 4096, compressionType: 'zstd' }, options: { compresses: true } },
  { title: 'refcounts of 8 bits', create: { clusterSize: 512, refcountBits: 8 } },
  { title: 'refcounts of 64 bits', create: { clusterSize: 512, refcountBits: 64 }, options: { resizes: true } },
  { title: 'lazy refcounts', create: { clusterSize: 1024, lazyRefcounts: true }, options: { resizes: true } },
];

describe('snapshots', () => {
  for (const [salt, { title, create, backing, options }] of SHAPES.entries()) {
    it(`keep what they hold: ${title}`, async () => {
      await withSeed(title, seedOfThisRun(salt), (random) => {
        const below = backing === true ? random.bytes(2 * SIZE) : undefined;
        const storage = new MemoryStorage();
        const name = { name: 'base.raw', format: 'raw' } as const;
        createImage(storage, { ...create, size: SIZE, ...(below ? { backing: name } : {}) });
        const open = () =>
          openImage(storage, {
            backing: below ? new RawDisk(new MemoryStorage(below.slice())) : null,
            l2CacheSize: 2 * create.clusterSize,
            refcountCacheSize: 2 * create.clusterSize,
          });
        const shape = { size: SIZE, clusterSize: create.clusterSize, version: create.version ?? 3, backing: below };
        const history = new SnapshotHistory(shape, random, options);
        let image = open();
        for (let step = 0; step < 25; step++) {
          history.guest(image, random.between(0, 12));
          const what = history.step(image);
          if (random.oneIn(3)) history.expect(image);
          // Writes everything, also what lazy refcounts leave to the end.
          image.reopen({});
          const { findings } = runToEnd(checkImage(storage));
          expect(findings, `after ${what}, step ${step}`).toEqual([]);
          if (random.oneIn(6)) {
            image.close();
            image = open();
          }
        }
        history.expect(image);
        for (const snapshot of [...history.snapshots].sort(() => random.below(3) - 1)) history.delete(image, snapshot);
        image.close();
        expect(runToEnd(checkImage(storage)).findings).toEqual([]);
      });
    });
  }
});
