/** Preallocated images and zero clusters, plain and allocated: what is there but reads as something else. */
import { statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Extent } from '../../src/disk.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCreate, qemuIo, qemuMap } from './qemu.js';
import { Turns } from './turns.js';

/** Extents as `start-end kind`, neighbours of one kind joined, in the terms `qemu-img map` uses. */
function joined(extents: Iterable<{ start: number; length: number; kind: string }>): string[] {
  const runs: { start: number; end: number; kind: string }[] = [];
  for (const { start, length, kind } of extents) {
    const last = runs.at(-1);
    if (last && last.kind === kind && last.end === start) last.end = start + length;
    else runs.push({ start, end: start + length, kind });
  }
  return runs.map(({ start, end, kind }) => `${start}-${end} ${kind}`);
}

function kindForMap({ kind }: Extent): string {
  return kind === 'data' || kind === 'compressed' ? 'data' : 'zero';
}

describe('a preallocated image', () => {
  for (const preallocation of ['metadata', 'falloc', 'full'] as const) {
    for (const clusterSize of [4096, 65536]) {
      const title = `(${preallocation}, ${clusterSize}) is read as zeroes and written in place`;
      it(title, async () => {
        await inTemporaryDirectory((path) =>
          withSeed(title, seedOfThisRun(clusterSize), async (random) => {
            const size = 0x40_0000;
            const file = path('image.qcow2');
            qemuCreate(file, { size, options: { preallocation, cluster_size: clusterSize } });
            const fileSize = statSync(file).size;
            const turns = new Turns({ size, clusterSize, version: 3 }, random);
            await withOurs(file, (image) => {
              expectSameBytes(readWhole(image), turns.model.bytes, 'what we read before any write');
              image.write(12_345, new Uint8Array(100_000).fill(6));
              turns.model.write(12_345, new Uint8Array(100_000).fill(6));
            });
            expect(statSync(file).size, 'a write into allocated clusters does not grow the file').toBe(fileSize);
            await withOurs(file, (image) => turns.ours(image, 40));
            expectCleanCheck(file);
            expectSameBytes(qemuBytes(file), turns.model.bytes, 'what QEMU reads');
          }),
        );
      });
    }
  }
});

describe('zero clusters', () => {
  it('made by QEMU, plain and allocated, read as zeroes and take partial writes', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: 0x10_0000, options: { cluster_size: 4096 } });
      // -z keeps the cluster that is there (allocated zero), -z -u gives it back (plain zero).
      qemuIo(file, ['write -P 7 0 256k', 'write -z 0 64k', 'write -z -u 64k 64k', 'write -z 512k 64k']);
      const expected = new Uint8Array(0x10_0000).fill(7, 0x2_0000, 0x4_0000);
      await withOurs(file, (image) => {
        expectSameBytes(readWhole(image), expected, 'what we read');
        for (const offset of [10, 0x1_0000 + 4000, 0x8_0000 + 5000]) {
          image.write(offset, new Uint8Array(200).fill(1));
          expected.fill(1, offset, offset + 200);
        }
      });
      expectCleanCheck(file);
      expectSameBytes(qemuBytes(file), expected, 'what QEMU reads');
    });
  });

  it('made by us over a backing file hide it, also after a partial write', async () => {
    await inTemporaryDirectory(async (path) => {
      const [base, file] = [path('base.qcow2'), path('image.qcow2')];
      qemuCreate(base, { size: 0x10_0000 });
      qemuIo(base, ['write -P 7 0 1M']);
      qemuCreate(file, {
        size: 0x10_0000,
        options: { cluster_size: 4096 },
        backing: { name: base, format: 'qcow2' },
      });
      const expected = new Uint8Array(0x10_0000).fill(7);
      await withOurs(file, (image) => {
        image.writeZeroes(0, 0x1_0000);
        image.writeZeroes(0x2_0001, 0x1_0000, { unmap: true });
        image.discard(0x4_0000, 0x1_0001);
        expected.fill(0, 0, 0x1_0000).fill(0, 0x2_0001, 0x3_0001).fill(0, 0x4_0000, 0x5_0000);
        image.write(0x4_0010, Uint8Array.of(1, 2, 3));
        expected.set([1, 2, 3], 0x4_0010);
      });
      expectCleanCheck(file);
      expectSameBytes(qemuBytes(file), expected, 'what QEMU reads');
    });
  });
});

describe('the extents of a disk', () => {
  for (const clusterSize of [512, 4096, 65536]) {
    const title = `are the ones qemu-img map sees (clusters of ${clusterSize} bytes)`;
    it(title, async () => {
      await inTemporaryDirectory((path) =>
        withSeed(title, seedOfThisRun(clusterSize), async (random) => {
          const size = 0x40_0000 + 512;
          const file = path('image.qcow2');
          qemuCreate(file, { size, options: { cluster_size: clusterSize } });
          const turns = new Turns({ size, clusterSize, version: 3 }, random);
          qemuIo(file, turns.qemuCommands(20));
          await withOurs(file, (image) => turns.ours(image, 20));

          const ours = await withOurs(file, (image) => [...image.extents(0, size)], { readOnly: true });

          const theirs = qemuMap(file).map(({ start, length, data }) => ({
            start,
            length,
            kind: data ? 'data' : 'zero',
          }));
          expect(
            joined(ours.map((extent) => ({ start: extent.offset, length: extent.length, kind: kindForMap(extent) }))),
          ).toEqual(joined(theirs));
        }),
      );
    });
  }
});
