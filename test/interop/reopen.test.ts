/** Options and states of an open image, with QEMU as the other one who works on the file. */
import { spawnSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openImage, type OpenOptions, type OverlapCheck, type Qcow2Image } from '../../src/index.js';
import { NodeFileStorage } from '../../src/node.js';
import { act, randomRange, readWhole, type DiskAction } from '../support/disk-actions.js';
import { expectSameBytes, ModelDisk } from '../support/model-disk.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { createOurs, openOurs, withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCheck, qemuCreate, qemuIo } from './qemu.js';

const SIZE = 0x40_0000;
const CLUSTER = 4096;
const DIRTY = 1;

function incompatibleBits(path: string): number {
  return readFileSync(path)[79] ?? 0;
}

function autoclearBits(path: string): number {
  return readFileSync(path)[95] ?? 0;
}

function byteAt(image: Qcow2Image, offset: number): number {
  const target = new Uint8Array(1);
  image.read(offset, target);
  return target[0] ?? -1;
}

describe('an image of QEMU', () => {
  const ACTIONS: readonly DiskAction[] = ['read', 'write', 'write', 'writeZeroes', 'unmap', 'discard'];
  const CHECKS: readonly OverlapCheck[] = ['none', 'constant', 'cached', 'all', { template: 'none', activeL2: true }];

  it('is clean and whole after its options were changed all the time, and after each turn of QEMU', async () => {
    await inTemporaryDirectory((path) =>
      withSeed('reopening between turns', seedOfThisRun(900), async (random) => {
        const file = path('image.qcow2');
        qemuCreate(file, { size: SIZE, options: { cluster_size: CLUSTER, lazy_refcounts: 'on' } });
        qemuIo(file, ['write -P 1 0 4M']);
        // With a snapshot everything is shared at first: all of the nine structures but bitmaps are there.
        spawnSync('qemu-img', ['snapshot', '-c', 'before', file]);
        const model = new ModelDisk({ size: SIZE, clusterSize: CLUSTER, version: 3 });
        model.bytes.fill(1);
        const image = await openOurs(file);
        for (let turn = 0; turn < 6; turn++) {
          for (let index = 0; index < 60; index++) {
            if (random.oneIn(5)) {
              image.reopen({
                cacheSize: random.below(64) * 1024,
                lazyRefcounts: random.oneIn(2),
                overlapCheck: random.pick(CHECKS),
                l2CacheEntrySize: random.pick([512, 4096]),
              });
            }
            const range = randomRange(random, SIZE, CLUSTER, 4 * CLUSTER);
            act(random.pick(ACTIONS), range, { disk: image, model, random });
          }
          image.inactivate();
          expect(incompatibleBits(file) & DIRTY, 'clean while inactive').toBe(0);
          expectCleanCheck(file, `after our turn ${turn}`);
          qemuIo(file, [`write -P ${turn + 2} ${turn * 100_000} 50000`]);
          model.write(turn * 100_000, new Uint8Array(50_000).fill(turn + 2));
          image.invalidate();
        }
        expectSameBytes(readWhole(image), model.bytes, 'what we read');
        image.close();
        expectCleanCheck(file, 'at the end');
        expectSameBytes(qemuBytes(file), model.bytes, 'what QEMU reads');
        expectSameBytes(qemuBytes(file, { snapshot: 'before' }), new Uint8Array(SIZE).fill(1), 'the snapshot');
      }),
    );
  });

  it('that QEMU resized and filled while we had let go of it is seen as it is now', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      createOurs(file, { size: SIZE });
      const image = await openOurs(file);
      image.write(0, Uint8Array.of(1));
      image.inactivate();
      spawnSync('qemu-img', ['resize', '-q', file, '64M']);
      qemuIo(file, ['write -P 9 60M 2M']);
      image.invalidate();
      expect(image.size).toBe(64 << 20);
      expect([byteAt(image, 0), byteAt(image, 61 << 20)]).toEqual([1, 9]);
      image.close();
      expectCleanCheck(file);
    });
  });

  it('that is reopened read-only by us is clean for QEMU while we still have it', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      createOurs(file, { size: SIZE, clusterSize: CLUSTER, lazyRefcounts: true });
      const image = await openOurs(file);
      image.write(0, new Uint8Array(100_000).fill(3));
      expect(incompatibleBits(file) & DIRTY).toBe(DIRTY);
      image.reopen({ readOnly: true });
      expect(incompatibleBits(file) & DIRTY).toBe(0);
      expectCleanCheck(file);
      qemuIo(file, ['read -P 3 0 100000'], { readOnly: true });
      image.close();
    });
  });

  it('gets lazy refcounts from our options, and a crash then is repaired by qemu-img', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: SIZE, options: { cluster_size: CLUSTER } });
      const image = openImage(NodeFileStorage.open(file), { lazyRefcounts: true });
      image.write(0, new Uint8Array(100_000).fill(3));
      image.flush();
      expect(incompatibleBits(file) & DIRTY).toBe(DIRTY);
      expect(qemuCheck(file).corruptions).toBeGreaterThan(0);
      qemuCheck(file, 'all');
      expectCleanCheck(file, 'after the repair');
      qemuIo(file, ['read -P 3 0 100000'], { readOnly: true });
    });
  });
});

describe('unknown autoclear bits', () => {
  it('are cleared by QEMU when it opens an image for writing, and by us at the first write', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      createOurs(file, { size: SIZE });
      const mark = (): void => {
        const storage = NodeFileStorage.open(file);
        storage.write(95, Uint8Array.of(0x80));
        storage.close();
      };
      mark();
      qemuIo(file, ['read 0 4k'], { readOnly: true });
      expect(autoclearBits(file)).toBe(0x80);
      qemuIo(file, ['read 0 4k']);
      expect(autoclearBits(file), 'QEMU, without a write').toBe(0);
      mark();
      await withOurs(file, (image) => byteAt(image, 0));
      expect(autoclearBits(file), 'ours, without a write').toBe(0x80);
      await withOurs(file, (image) => image.write(0, Uint8Array.of(1)));
      expect(autoclearBits(file), 'ours, after a write').toBe(0);
      expectCleanCheck(file);
    });
  });
});

describe('holes', () => {
  const MIB = 1 << 20;

  function discarded(file: string, options: OpenOptions): number {
    const storage = NodeFileStorage.open(file, { punchHolesFrom: MIB });
    const image = openImage(storage, options);
    image.discard(8 * MIB, 16 * MIB);
    image.discard(64 * MIB - 65536, 65536);
    image.flush();
    const { blocks } = statSync(file);
    image.close();
    return blocks * 512;
  }

  it('are punched for what the guest discards, in a file that stays whole for QEMU', async () => {
    await inTemporaryDirectory((path) => {
      const [kept, punched] = [path('kept.qcow2'), path('punched.qcow2')];
      for (const file of [kept, punched]) {
        qemuCreate(file, { size: 64 * MIB });
        qemuIo(file, ['write -P 5 0 64M']);
      }
      const before = statSync(kept).blocks * 512;
      expect(discarded(kept, { discard: { request: false } })).toBe(before);
      const after = discarded(punched, {});
      expect(before - after).toBeGreaterThanOrEqual(15 * MIB);
      for (const file of [kept, punched]) {
        expectCleanCheck(file);
        qemuIo(file, ['read -P 5 0 8M', 'read -P 0 8M 16M', 'read -P 5 24M 30M']);
        // What was freed is used again, hole or not.
        qemuIo(file, ['write -P 6 8M 16M', 'read -P 6 8M 16M', 'read -P 5 24M 30M']);
        expectCleanCheck(file);
      }
    });
  });
});

describe('cache options', () => {
  it.each([
    'cache-size=1M,l2-cache-size=1M,refcount-cache-size=1M',
    'cache-size=1M,l2-cache-size=2M',
    'cache-size=1M,refcount-cache-size=2M',
    'l2-cache-entry-size=1000',
    'l2-cache-entry-size=131072',
    'cache-clean-interval=4294967296',
    'cache-size=0',
    'l2-cache-size=64T',
    'cache-size=1M,l2-cache-size=1M',
    'l2-cache-size=1M,l2-cache-entry-size=4096',
  ])('%s are taken or refused by us as by QEMU', async (list) => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      createOurs(file, { size: SIZE });
      const { stderr } = spawnSync(
        'qemu-io',
        ['--image-opts', `driver=qcow2,file.filename=${file},${list}`, '-c', 'read 0 4k'],
        {
          encoding: 'utf8',
        },
      );
      const units: Readonly<Record<string, number>> = { M: 2 ** 20, T: 2 ** 40 };
      const options = Object.fromEntries(
        list.split(',').map((option) => {
          const [name = '', value = ''] = option.split('=');
          const camel = name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
          return [camel, parseInt(value, 10) * (units[value.at(-1) ?? ''] ?? 1)];
        }),
      );
      const ours = withOurs(file, (image) => byteAt(image, 0), options);
      if (stderr.includes("can't open")) await expect(ours).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
      else expect(await ours).toBe(0);
    });
  });
});
