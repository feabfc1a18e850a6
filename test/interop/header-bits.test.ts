/**
 * Lazy refcounts, the dirty bit and the corrupt bit: the promises an image makes in its header about its refcounts.
 *
 *   byte 72 .. 79  incompatible features, big-endian: bit 0 dirty, bit 1 corrupt
 *   byte 80 .. 87  compatible features: bit 0 lazy refcounts
 */
import { closeSync, copyFileSync, openSync, readFileSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Disk } from '../../src/disk.js';
import { isQcow2Error } from '../../src/index.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { createOurs, openOurs, withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCheck, qemuCreate, qemuIo } from './qemu.js';

const SIZE = 0x40_0000;
const INCOMPATIBLE_LOW_BYTE = 79;
const DIRTY = 1;
const CORRUPT = 2;

function incompatibleBits(path: string): number {
  return readFileSync(path)[INCOMPATIBLE_LOW_BYTE] ?? 0;
}

function setIncompatibleBits(path: string, bits: number): void {
  const file = openSync(path, 'r+');
  writeSync(file, Uint8Array.of(bits), 0, 1, INCOMPATIBLE_LOW_BYTE);
  closeSync(file);
}

/** Writes the same few runs to a disk and into `expected`. */
function writeSome(disk: Disk, expected: Uint8Array): void {
  for (const [offset, length, value] of [
    [0, 4096, 1],
    [100_001, 70_000, 2],
    [SIZE - 3000, 3000, 3],
  ] as const) {
    const source = new Uint8Array(length).fill(value);
    disk.write(offset, source);
    expected.set(source, offset);
  }
}

/** Leaves at `crashed` a copy of a lazy image as a killed process would: written, flushed, never closed. */
async function makeCrashed(path: (name: string) => string, creator: 'qemu-img' | 'us'): Promise<Uint8Array> {
  const file = path('image.qcow2');
  const expected = new Uint8Array(SIZE);
  if (creator === 'us') createOurs(file, { size: SIZE, clusterSize: 4096, lazyRefcounts: true });
  else qemuCreate(file, { size: SIZE, options: { cluster_size: 4096, lazy_refcounts: 'on' } });
  const image = await openOurs(file);
  expect(incompatibleBits(file) & DIRTY, 'dirty before the first write').toBe(0);
  writeSome(image, expected);
  image.flush();
  expect(incompatibleBits(file) & DIRTY, 'dirty while it is open and written').toBe(DIRTY);
  copyFileSync(file, path('crashed.qcow2'));
  image.close();
  expect(incompatibleBits(file) & DIRTY, 'dirty after the close').toBe(0);
  expectCleanCheck(file, 'after the close');
  return expected;
}

describe('lazy refcounts', () => {
  for (const creator of ['qemu-img', 'us'] as const) {
    it(`of an image made by ${creator} are caught up on by our next writable open after a crash`, async () => {
      await inTemporaryDirectory(async (path) => {
        const expected = await makeCrashed(path, creator);
        const crashed = path('crashed.qcow2');
        await withOurs(crashed, (image) => {
          expectSameBytes(readWhole(image), expected, 'what we read after the repair');
          image.write(200_000, Uint8Array.of(9));
        });
        expected[200_000] = 9;
        expect(incompatibleBits(crashed) & DIRTY).toBe(0);
        expectCleanCheck(crashed, 'after our repair');
        expectSameBytes(qemuBytes(crashed), expected, 'what QEMU reads');
      });
    });

    it(`of an image made by ${creator} are caught up on by qemu-img after a crash of ours`, async () => {
      await inTemporaryDirectory(async (path) => {
        const expected = await makeCrashed(path, creator);
        const crashed = path('crashed.qcow2');
        qemuCheck(crashed, 'all');
        expectCleanCheck(crashed, 'after the repair by qemu-img');
        expectSameBytes(qemuBytes(crashed), expected, 'what QEMU reads');
      });
    });
  }

  it('leave a dirty image readable and unchanged when it is opened read-only', async () => {
    await inTemporaryDirectory(async (path) => {
      const expected = await makeCrashed(path, 'us');
      const crashed = path('crashed.qcow2');
      const before = readFileSync(crashed);
      await withOurs(crashed, (image) => expectSameBytes(readWhole(image), expected, 'what we read'), {
        readOnly: true,
      });
      expect(readFileSync(crashed).equals(before)).toBe(true);
    });
  });

  it('are repaired on open even when the image was written by QEMU and marked dirty', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: SIZE, options: { cluster_size: 4096, lazy_refcounts: 'on' } });
      qemuIo(file, ['write -P 5 1M 300k', 'write -c -P 6 2M 4k', 'write -z 3M 64k', 'discard 1M 8k']);
      const expected = qemuBytes(file);
      setIncompatibleBits(file, DIRTY);
      await withOurs(file, (image) => image.write(0, Uint8Array.of(1)));
      expected[0] = 1;
      expect(incompatibleBits(file)).toBe(0);
      expectCleanCheck(file);
      expectSameBytes(qemuBytes(file), expected, 'what QEMU reads');
    });
  });
});

describe('an image marked corrupt', () => {
  it('is read, is refused to writers with CORRUPT, and stays as it is', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: SIZE });
      qemuIo(file, ['write -P 5 1M 300k']);
      const expected = qemuBytes(file);
      setIncompatibleBits(file, CORRUPT);
      const before = readFileSync(file);

      await withOurs(file, (image) => expectSameBytes(readWhole(image), expected, 'what we read'), { readOnly: true });
      await expect(openOurs(file)).rejects.toSatisfy((error: unknown) => isQcow2Error(error, 'CORRUPT'));

      expect(readFileSync(file).equals(before)).toBe(true);
    });
  });
});
