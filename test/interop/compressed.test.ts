/** Compressed clusters made by QEMU: read by us, overwritten by us in part and in whole. */
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Extent } from '../../src/disk.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes, ModelDisk } from '../support/model-disk.js';
import { SeededRandom, seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCreate, qemuImg, qemuIo } from './qemu.js';
import { Turns } from './turns.js';

/** Bytes that deflate well but not to nothing, so that clusters get compressed sizes of many kinds. */
function compressibleBytes(length: number, random: SeededRandom): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let offset = 0; offset < length; offset += 4096) {
    const noise = random.below(2048);
    for (let index = 0; index < 4096 && offset + index < length; index++) {
      bytes[offset + index] = index < noise ? random.next() : (offset >>> 12) + (index >>> 5);
    }
  }
  return bytes;
}

function compressedExtents(extents: Iterable<Extent>): Extent[] {
  return [...extents].filter((extent) => extent.kind === 'compressed');
}

describe('an image with compressed clusters', () => {
  for (const [version, clusterSize, refcountBits] of [
    [2, 512, 16],
    [3, 512, 1],
    [3, 4096, 8],
    [2, 65536, 16],
    [3, 65536, 16],
    [3, 0x20_0000, 64],
  ] as const) {
    const title = `is read and overwritten (version ${version}, ${clusterSize}, ${refcountBits} bits)`;
    it(title, async () => {
      await inTemporaryDirectory((path) =>
        withSeed(title, seedOfThisRun(clusterSize), async (random) => {
          const size = clusterSize === 0x20_0000 ? 0x80_0000 + 512 : 0x20_0000 + 512;
          const content = compressibleBytes(size, random);
          writeFileSync(path('raw'), content);
          const file = path('image.qcow2');
          const compat = version === 2 ? '0.10' : '1.1';
          const options = `compat=${compat},cluster_size=${clusterSize},refcount_bits=${refcountBits}`;
          qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', options, path('raw'), file);

          const turns = new Turns({ size, clusterSize, version, backing: undefined }, random);
          turns.model.write(0, content);
          await withOurs(file, (image) => {
            expect(compressedExtents(image.extents(0, size)).length).toBeGreaterThan(0);
            expectSameBytes(readWhole(image), content, 'what we read');
            turns.ours(image, 60);
          });

          expectCleanCheck(file, 'after we overwrote compressed clusters');
          expectSameBytes(qemuBytes(file), turns.model.bytes, 'what QEMU reads');
        }),
      );
    });
  }

  it('keeps the rest of a compressed cluster when a few bytes of it are written', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: 0x10_0000 });
      qemuIo(file, ['write -c -P 7 64k 64k', 'write -c -P 8 128k 64k']);
      const model = new ModelDisk({ size: 0x10_0000, clusterSize: 65536, version: 3 });
      model.write(0x1_0000, new Uint8Array(0x1_0000).fill(7));
      model.write(0x2_0000, new Uint8Array(0x1_0000).fill(8));

      await withOurs(file, (image) => {
        image.write(70_001, Uint8Array.of(1, 2, 3));
        model.write(70_001, Uint8Array.of(1, 2, 3));
        expectSameBytes(readWhole(image), model.bytes, 'what we read');
        expect(compressedExtents(image.extents(0, image.size))).toHaveLength(1);
      });

      expectCleanCheck(file);
      expectSameBytes(qemuBytes(file), model.bytes, 'what QEMU reads');
    });
  });

  it('gives the space of discarded and zeroed compressed clusters back', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: 0x10_0000 });
      qemuIo(file, ['write -c -P 7 64k 64k', 'write -c -P 8 128k 64k', 'write -c -P 9 192k 64k']);

      await withOurs(file, (image) => {
        image.discard(0x1_0000, 0x1_0000);
        image.writeZeroes(0x2_0000, 0x1_0000, { unmap: true });
      });

      expectCleanCheck(file, 'after clusters that share a host cluster were given up one by one');
      const expected = new Uint8Array(0x10_0000).fill(9, 0x3_0000, 0x4_0000);
      expectSameBytes(qemuBytes(file), expected, 'what QEMU reads');
    });
  });
});
