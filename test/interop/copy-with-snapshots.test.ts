/**
 * Copies of images with snapshots, judged by QEMU: qemu-img check finds nothing, `snapshot -l` lists them as it lists those of
 * the source, and every disk that `convert` gives, of a snapshot too, is that of the source.
 */
import { describe, expect, it } from 'vitest';
import {
  createImage,
  createSnapshot,
  gotoSnapshot,
  openImage,
  runToEnd,
  writeVmState,
  type Qcow2Image,
} from '../../src/index.js';
import { NodeFileStorage } from '../../src/node.js';
import { copyWithSnapshots, layoutForCopy } from '../../src/operations/snapshots/copy-with-snapshots.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCreate, qemuImg, qemuInfo, qemuIo } from './qemu.js';
import { Turns } from './turns.js';

const SHAPES = [
  { size: 0x20_0000, compat: '0.10', cluster_size: 4096 },
  { size: 0x20_0000, compat: '1.1', cluster_size: 512, refcount_bits: 4 },
  { size: 0x40_0000, compat: '1.1', cluster_size: 16384, extended_l2: 'on', compression_type: 'zstd' },
  { size: 0x80_0000 + 512, compat: '1.1', cluster_size: 65536, lazy_refcounts: 'on' },
] as const;

function copyToFile(source: Qcow2Image, path: string): void {
  const file = NodeFileStorage.open(path, { create: true });
  createImage(file, layoutForCopy(source));
  const target = openImage(file);
  runToEnd(copyWithSnapshots(source, target));
  target.close();
}

/** The lines of the list, without its heads. */
function listed(path: string): string[] {
  return qemuImg('snapshot', '-l', path).trim().split('\n').slice(1);
}

describe('a copy with snapshots', () => {
  it.each(SHAPES)('is the same to QEMU ($compat, $cluster_size)', (shape) => {
    const { size, ...options } = shape;
    const clusterSize = options.cluster_size;
    const version = options.compat === '0.10' ? 2 : 3;
    const title = `copy ${clusterSize} ${version}`;
    return withSeed(title, seedOfThisRun(clusterSize), (random) =>
      inTemporaryDirectory(async (path) => {
        const [base, overlay, copy] = [path('base.qcow2'), path('overlay.qcow2'), path('copy.qcow2')];
        qemuCreate(base, { size, options: { cluster_size: clusterSize } });
        qemuIo(base, ['write -P 17 0 300k', 'write -P 18 900k 200k']);
        const turns = new Turns({ size, clusterSize, version, backing: qemuBytes(base) }, random);
        qemuCreate(overlay, { size, options, backing: { name: base, format: 'qcow2' } });
        for (const name of ['first', 'second', 'third']) {
          qemuIo(overlay, turns.qemuCommands(15));
          await withOurs(overlay, (image) => turns.ours(image, 15));
          qemuImg('snapshot', '-c', name, overlay);
        }
        qemuImg('snapshot', '-a', 'second', overlay);
        qemuImg('snapshot', '-d', 'first', overlay);
        await withOurs(overlay, (image) => {
          writeVmState(image, 0, random.bytes(5000));
          createSnapshot(image, { name: 'with a state', vmStateBytes: 5000, vmClock: 3_723_004_000_000n });
          image.write(1000, random.bytes(100_000));
        });
        await withOurs(overlay, (image) => copyToFile(image, copy));

        expectCleanCheck(copy, 'of the copy');
        expect(qemuInfo(copy)).not.toHaveProperty('backing-filename');
        expect(listed(copy)).toEqual(listed(overlay));
        expect(listed(copy)).toHaveLength(4);
        expectSameBytes(qemuBytes(copy), qemuBytes(overlay), 'the disk');
        for (const snapshot of ['second', 'third', 'with a state']) {
          expectSameBytes(qemuBytes(copy, { snapshot }), qemuBytes(overlay, { snapshot }), snapshot);
        }
        for (const name of ['third', 'with a state', 'second']) {
          qemuImg('snapshot', '-d', name, copy);
          expectCleanCheck(copy, `after QEMU deleted ${name}`);
        }
        expectSameBytes(qemuBytes(copy), qemuBytes(overlay), 'the disk without snapshots');
      }),
    );
  });

  it('has disks of the sizes that QEMU gave them', () =>
    inTemporaryDirectory(async (path) => {
      const [image, copy] = [path('image.qcow2'), path('copy.qcow2')];
      qemuCreate(image, { size: 0x10_0000 });
      qemuIo(image, ['write -P 1 0 1M']);
      qemuImg('snapshot', '-c', 'small', image);
      qemuImg('resize', '-q', image, '3M');
      qemuIo(image, ['write -P 2 2M 1M']);
      qemuImg('snapshot', '-c', 'large', image);
      await withOurs(image, (source) => {
        gotoSnapshot(source, 'small');
        copyToFile(source, copy);
      });
      expectCleanCheck(copy);
      expect(qemuInfo(copy)).toMatchObject({ 'virtual-size': 0x10_0000 });
      // Of a snapshot with another size QEMU converts what fits into that of now, so it has to go there.
      const ones = new Uint8Array(0x10_0000).fill(1);
      const large = new Uint8Array(0x30_0000).fill(2, 0x20_0000);
      large.set(ones);
      for (const [name, wanted] of [['large', large] as const, ['small', ones] as const]) {
        qemuImg('snapshot', '-a', name, copy);
        expectCleanCheck(copy, `after QEMU has gone to ${name}`);
        expectSameBytes(qemuBytes(copy), wanted, name);
      }
    }));
});
