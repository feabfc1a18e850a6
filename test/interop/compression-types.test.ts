/** Both compression types, both ways: what QEMU compresses is read by us, what we compress is read by QEMU. */
import { openSync, closeSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Qcow2Image } from '../../src/index.js';
import { mixedBytes, noiseBytes } from '../codec/codec-cases.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCreate, qemuImg } from './qemu.js';
import { Turns } from './turns.js';

const CLUSTER_SIZES = [512, 4096, 65536, 2 ** 21];

function countCompressed(image: Qcow2Image): number {
  return [...image.extents(0, image.size)].filter(({ kind }) => kind === 'compressed').length;
}

describe.each(['zlib', 'zstd'])('clusters compressed with %s', (type) => {
  it.each(CLUSTER_SIZES)('by QEMU are read and overwritten by us (%i)', (clusterSize) =>
    inTemporaryDirectory((path) =>
      withSeed(type, seedOfThisRun(clusterSize), async (random) => {
        const size = Math.max(0x8_0000, 3 * clusterSize) + 512;
        const content = mixedBytes(size, random);
        writeFileSync(path('raw'), content);
        const options = `cluster_size=${clusterSize},compression_type=${type}`;
        qemuImg('convert', '-c', '-O', 'qcow2', '-f', 'raw', '-o', options, path('raw'), path('image'));
        const turns = new Turns({ size, clusterSize, version: 3, backing: undefined }, random);
        turns.model.write(0, content);
        await withOurs(path('image'), (image) => {
          expect(countCompressed(image)).toBeGreaterThan(0);
          expectSameBytes(readWhole(image), content, 'what we read');
          turns.ours(image, 40);
        });
        expectCleanCheck(path('image'), 'after we overwrote compressed clusters');
        expectSameBytes(qemuBytes(path('image')), turns.model.bytes, 'what QEMU reads');
      }),
    ),
  );

  it.each(CLUSTER_SIZES)('by us are read by QEMU (%i)', (clusterSize) =>
    inTemporaryDirectory((path) =>
      withSeed(type, seedOfThisRun(clusterSize + 1), async (random) => {
        const count = clusterSize === 2 ** 21 ? 3 : 24;
        const size = count * clusterSize + 512;
        const content = mixedBytes(size, random, random.below(Math.min(clusterSize, 4096) / 4));
        // Two clusters do not get smaller and must be stored plainly.
        content.set(noiseBytes(2 * clusterSize, random), clusterSize);
        const options = { cluster_size: clusterSize, compression_type: type };
        qemuCreate(path('image'), { size, options });
        await withOurs(path('image'), (image) => {
          image.writeCompressed(0, content);
          expect(countCompressed(image)).toBe(count + 1 - 2);
        });
        expectCleanCheck(path('image'), 'after we wrote compressed clusters');
        expectSameBytes(qemuBytes(path('image')), content, 'what QEMU reads');
        await withOurs(path('image'), (image) => expectSameBytes(readWhole(image), content, 'what we read'));
      }),
    ),
  );

  it('by us take as much room as by QEMU, but for a few percent', () =>
    inTemporaryDirectory((path) =>
      withSeed(type, seedOfThisRun(2), async (random) => {
        const content = mixedBytes(0x20_0000, random, 1000);
        writeFileSync(path('raw'), content);
        const options = `compression_type=${type}`;
        qemuImg('convert', '-c', '-O', 'qcow2', '-f', 'raw', '-o', options, path('raw'), path('theirs'));
        qemuCreate(path('ours'), { size: content.length, options: { compression_type: type } });
        await withOurs(path('ours'), (image) => image.writeCompressed(0, content));
        const [ours, theirs] = [statSync(path('ours')).size, statSync(path('theirs')).size];
        expect(Math.abs(ours - theirs) / theirs).toBeLessThan(0.15);
      }),
    ));
});

describe('the compression type of the header', () => {
  const INCOMPATIBLE_AT = 79;
  const COMPRESSION_TYPE_AT = 104;

  it.each([
    { bit: 0, type: 1, message: 'compression_type is 1 without its incompatible feature bit; it must be 0' },
    { bit: 8, type: 0, message: 'compression_type is 0 with its incompatible feature bit; it must be 1 (zstd)' },
    { bit: 8, type: 2, message: 'compression_type is 2; it must be at most 1 (zstd)' },
  ])('is refused, as by QEMU, when it is $type with feature bits $bit', ({ bit, type, message }) =>
    inTemporaryDirectory(async (path) => {
      qemuCreate(path('image'), { size: 0x10_0000 });
      const file = openSync(path('image'), 'r+');
      writeSync(file, Uint8Array.of(bit), 0, 1, INCOMPATIBLE_AT);
      writeSync(file, Uint8Array.of(type), 0, 1, COMPRESSION_TYPE_AT);
      closeSync(file);
      await expect(withOurs(path('image'), () => {})).rejects.toThrow(message);
      expect(() => qemuImg('info', '-f', 'qcow2', path('image'))).toThrow('ended with 1');
    }),
  );
});
