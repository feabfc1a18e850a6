/** Big virtual sizes, and the tables that grow: the refcount table with the file, the L1 table with the disk. */
import { describe, expect, it } from 'vitest';
import { expectSameBytes } from '../support/model-disk.js';
import { SeededRandom, seedOfThisRun } from '../support/seeded-random.js';
import { createOurs, withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCreate, qemuInfo, qemuIo } from './qemu.js';

const TEBIBYTE = 2 ** 40;

describe('a big disk', () => {
  for (const [what, size, clusterSize] of [
    ['1 TiB with clusters of 64 KiB', TEBIBYTE, 65536],
    ['64 TiB with clusters of 2 MiB', 64 * TEBIBYTE, 0x20_0000],
    ['128 GiB with clusters of 512 bytes, the most their L1 table can map', 2 ** 37, 512],
  ] as const) {
    for (const creator of ['us', 'qemu-img'] as const) {
      it(`of ${what}, made by ${creator}, is written at both ends and in the middle`, async () => {
        await inTemporaryDirectory(async (path) => {
          const file = path('image.qcow2');
          if (creator === 'us') createOurs(file, { size, clusterSize });
          else qemuCreate(file, { size, options: { cluster_size: clusterSize } });
          const places = [0, 2 ** 32 - 700, size / 2 - 700, size - 1400];
          await withOurs(file, (image) => {
            expect(image.size).toBe(size);
            places.forEach((offset, index) => image.write(offset, new Uint8Array(1400).fill(index + 1)));
          });
          expectCleanCheck(file);
          qemuIo(
            file,
            places.map((offset, index) => `read -P ${index + 1} ${offset} 1400`),
          );
          qemuIo(file, [`write -P 9 ${size - 512} 512`]);
          await withOurs(file, (image) => {
            const target = new Uint8Array(1024);
            image.read(size - 1024, target);
            expectSameBytes(target, new Uint8Array(1024).fill(4, 0, 512).fill(9, 512), 'the end of the disk');
          });
        });
      });
    }
  }
});

describe('the refcount table', () => {
  for (const refcountBits of [64, 16] as const) {
    it(`moves when the file outgrows it (512-byte clusters, refcounts of ${refcountBits} bits)`, async () => {
      await inTemporaryDirectory(async (path) => {
        // One table cluster of 64 blocks covers 64 * (4096 / width) * 512 bytes: 2 MiB at width 64, 8 MiB at 16.
        const size = 0x180_0000;
        const file = path('image.qcow2');
        createOurs(file, { size, clusterSize: 512, refcountBits });
        const random = new SeededRandom(seedOfThisRun(refcountBits));
        const expected = new Uint8Array(size);
        await withOurs(file, (image) => {
          for (let offset = 0; offset + 300_000 < size; offset += 290_000) {
            const source = random.bytes(random.between(1, 300_000));
            image.write(offset, source);
            expected.set(source, offset);
          }
        });
        expectCleanCheck(file);
        expectSameBytes(qemuBytes(file), expected, 'what QEMU reads');
        qemuIo(file, ['write -P 3 0 8M']);
        expected.fill(3, 0, 0x80_0000);
        await withOurs(file, (image) => {
          const source = random.bytes(0x40_0000);
          image.write(0xc0_0000, source);
          expected.set(source, 0xc0_0000);
        });
        expectCleanCheck(file);
        expectSameBytes(qemuBytes(file), expected, 'what QEMU reads after turns');
      });
    });
  }

  it('moves while writes come one cluster at a time, with a flush after each', async () => {
    await inTemporaryDirectory(async (path) => {
      const size = 0x40_0000;
      const file = path('image.qcow2');
      createOurs(file, { size, clusterSize: 512, refcountBits: 64 });
      const expected = new Uint8Array(size);
      await withOurs(file, (image) => {
        for (let index = 0; index < 6000; index++) {
          const offset = ((index * 677) % 8192) * 512;
          image.write(offset, new Uint8Array(512).fill(index));
          expected.fill(index, offset, offset + 512);
          if (index % 50 === 0) image.flush();
        }
      });
      expectCleanCheck(file);
      expectSameBytes(qemuBytes(file), expected, 'what QEMU reads');
    });
  });
});

describe('resize', () => {
  for (const [clusterSize, from, to] of [
    [512, 0x8_0000, 0x200_0000],
    [4096, 0x20_0000 + 512, 0x1000_0000],
    [65536, 0x10_0200, TEBIBYTE],
    [65536, 0, 0x10_0000],
  ] as const) {
    it(`grows the disk from ${from} to ${to} bytes and its L1 table with it (clusters of ${clusterSize})`, async () => {
      await inTemporaryDirectory(async (path) => {
        const file = path('image.qcow2');
        createOurs(file, { size: from, clusterSize });
        const tail = Math.min(from, 1000);
        await withOurs(file, (image) => {
          image.write(from - tail, new Uint8Array(tail).fill(1));
          image.resize(to);
          expect(image.size).toBe(to);
          image.write(to - 1000, new Uint8Array(1000).fill(2));
        });
        expectCleanCheck(file);
        expect(qemuInfo(file)).toMatchObject({ 'virtual-size': to });
        const reads = [`read -P 2 ${to - 1000} 1000`, `read -P 0 ${from} 1000`];
        qemuIo(file, tail > 0 ? [...reads, `read -P 1 ${from - tail} ${tail}`] : reads);
        await withOurs(file, (image) => {
          const target = new Uint8Array(1000);
          image.read(to - 1000, target);
          expectSameBytes(target, new Uint8Array(1000).fill(2), 'the new end');
        });
      });
    });
  }

  it('over a backing file longer than the old disk shows zeroes in the new part, as QEMU does', async () => {
    await inTemporaryDirectory(async (path) => {
      const [base, ours, theirs] = [path('base.qcow2'), path('ours.qcow2'), path('theirs.qcow2')];
      qemuCreate(base, { size: 0x20_0000 });
      qemuIo(base, ['write -P 7 0 2M']);
      const backing = { name: base, format: 'qcow2' as const };
      qemuCreate(ours, { size: 0x10_0000, backing });
      qemuCreate(theirs, { size: 0x10_0000, backing });
      qemuIo(theirs, ['truncate 2M']);
      await withOurs(ours, (image) => image.resize(0x20_0000));
      expectCleanCheck(ours);
      expectSameBytes(qemuBytes(ours), qemuBytes(theirs), 'the grown disk');
    });
  });
});
