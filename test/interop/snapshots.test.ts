/**
 * Images that hold internal snapshots: their clusters are shared, so a write of ours must copy, and what a snapshot
 * holds must never change.
 */
import { describe, expect, it } from 'vitest';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCreate, qemuImg, qemuIo } from './qemu.js';
import { Turns } from './turns.js';

const SHAPES = [
  { clusterSize: 512, version: 3, refcountBits: 64, size: 0x20_0000 },
  { clusterSize: 4096, version: 2, refcountBits: 16, size: 0x20_0000 },
  { clusterSize: 4096, version: 3, refcountBits: 8, size: 0x20_0000 },
  { clusterSize: 65536, version: 3, refcountBits: 8, size: 0x80_0000 + 512 },
  { clusterSize: 0x20_0000, version: 3, refcountBits: 32, size: 0x100_0000 },
] as const;

describe('an image with internal snapshots', () => {
  for (const { clusterSize, version, refcountBits, size } of SHAPES) {
    const title = `keeps each of them while we write (version ${version}, ${clusterSize}, ${refcountBits} bits)`;
    it(title, async () => {
      await inTemporaryDirectory((path) =>
        withSeed(title, seedOfThisRun(clusterSize + refcountBits), async (random) => {
          const file = path('image.qcow2');
          const compat = version === 2 ? '0.10' : '1.1';
          qemuCreate(file, { size, options: { compat, cluster_size: clusterSize, refcount_bits: refcountBits } });
          const turns = new Turns({ size, clusterSize, version }, random);
          const snapshots = new Map<string, Uint8Array>();
          for (const name of ['first', 'second']) {
            qemuIo(file, turns.qemuCommands(25));
            await withOurs(file, (image) => turns.ours(image, 25));
            qemuImg('snapshot', '-c', name, file);
            snapshots.set(name, turns.model.bytes.slice());
          }
          await withOurs(file, (image) => turns.ours(image, 40));

          expectCleanCheck(file, 'after our writes over shared clusters');
          expectSameBytes(qemuBytes(file), turns.model.bytes, 'the active disk');
          for (const [name, bytes] of snapshots) {
            expectSameBytes(qemuBytes(file, { snapshot: name }), bytes, `snapshot ${name}`);
          }
          qemuImg('snapshot', '-d', 'first', file);
          expectCleanCheck(file, 'after QEMU deleted one of the snapshots');
        }),
      );
    });
  }

  it('is read as it was after QEMU goes back to a snapshot, and can be written again', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: 0x10_0000, options: { cluster_size: 4096 } });
      qemuIo(file, ['write -P 1 0 512k']);
      qemuImg('snapshot', '-c', 'before', file);
      await withOurs(file, (image) => image.write(1000, new Uint8Array(100_000).fill(2)));
      qemuImg('snapshot', '-a', 'before', file);

      await withOurs(file, (image) => {
        expect(readWhole(image).findIndex((byte) => byte !== 1)).toBe(0x8_0000);
        image.write(1000, new Uint8Array(10).fill(3));
      });

      expectCleanCheck(file);
      const restored = new Uint8Array(0x10_0000).fill(1, 0, 0x8_0000);
      expectSameBytes(qemuBytes(file, { snapshot: 'before' }), restored, 'the snapshot');
      expectSameBytes(qemuBytes(file), restored.fill(3, 1000, 1010), 'the active disk');
    });
  });

  it('has a snapshot whose refcount field is full copied, not counted past its width', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: 0x10_0000, options: { cluster_size: 4096, refcount_bits: 2 } });
      qemuIo(file, ['write -P 1 0 64k']);
      qemuImg('snapshot', '-c', 'one', file);
      qemuImg('snapshot', '-c', 'two', file);

      await withOurs(file, (image) => image.write(5, new Uint8Array(20_000).fill(9)));

      expectCleanCheck(file);
      const original = new Uint8Array(0x10_0000).fill(1, 0, 0x1_0000);
      expectSameBytes(qemuBytes(file, { snapshot: 'two' }), original, 'the second snapshot');
    });
  });
});
