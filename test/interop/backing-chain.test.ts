/** Backing chains: several images deep, opened only through the caller's opener, and never changed. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { isQcow2Error, MemoryStorage, openChain, openImage, type BackingReference } from '../../src/index.js';
import { NodeFileStorage } from '../../src/node.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { createOurs, withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCreate, qemuImg, qemuIo } from './qemu.js';

/** raw 1 MiB <- 512-byte clusters, 2 MiB <- 64 KiB clusters, 1.5 MiB <- 4 KiB clusters, 3 MiB. */
function makeChain(path: (name: string) => string): string[] {
  const [raw, low, middle, top] = [path('base.raw'), path('low.qcow2'), path('middle.qcow2'), path('top.qcow2')];
  qemuImg('create', '-q', '-f', 'raw', raw, '1M');
  qemuIo(raw, ['write -P 1 0 1M'], { format: 'raw' });
  const cluster = (size: number, compat = '1.1') => ({ cluster_size: size, compat });
  qemuCreate(low, { size: 0x20_0000, options: cluster(512, '0.10'), backing: { name: raw, format: 'raw' } });
  qemuIo(low, ['write -P 2 1000k 600k', 'write -P 3 10 1000']);
  qemuCreate(middle, { size: 0x18_0000, options: cluster(65536), backing: { name: low, format: 'qcow2' } });
  qemuIo(middle, ['write -P 4 300001 70000', 'write -z 512k 128k', 'write -c -P 5 64k 64k']);
  qemuCreate(top, { size: 0x30_0000, options: cluster(4096), backing: { name: middle, format: 'qcow2' } });
  qemuIo(top, ['write -P 6 310000 5000', 'write -P 7 2M 100k']);
  return [raw, low, middle, top];
}

function lastOf(files: readonly string[]): string {
  const last = files.at(-1);
  if (last === undefined) throw new Error('the chain is empty');
  return last;
}

describe('a backing chain', () => {
  it('four files deep reads and is written as QEMU does, and what is below stays as it was', async () => {
    const title = 'a chain of four';
    await inTemporaryDirectory((path) =>
      withSeed(title, seedOfThisRun(4), async (random) => {
        const files = makeChain(path);
        const top = lastOf(files);
        const below = files.slice(0, -1).map((file) => readFileSync(file));
        const expected = qemuBytes(top);
        await withOurs(top, (image) => {
          expectSameBytes(readWhole(image), expected, 'what we read');
          for (let index = 0; index < 100; index++) {
            const source = random.bytes(random.between(1, 20_000));
            const offset = random.below(expected.length - source.length);
            image.write(offset, source);
            expected.set(source, offset);
          }
          expectSameBytes(readWhole(image), expected, 'what we read after our writes');
        });
        expectCleanCheck(top);
        expectSameBytes(qemuBytes(top), expected, 'what QEMU reads');
        files.slice(0, -1).forEach((file, index) => {
          expect(below[index]?.equals(readFileSync(file)), `${file} is unchanged`).toBe(true);
        });
      }),
    );
  });

  it('is asked for by name, format and depth', async () => {
    await inTemporaryDirectory(async (path) => {
      const [raw, low, middle, top] = makeChain(path);
      const asked: BackingReference[] = [];
      const image = await openChain(NodeFileStorage.open(top ?? ''), {
        opener: (reference) => {
          asked.push(reference);
          return NodeFileStorage.open(reference.name, { readOnly: true });
        },
      });
      image.close();
      expect(asked.map(({ name, format }) => [name, format])).toEqual([
        [middle, 'qcow2'],
        [low, 'qcow2'],
        [raw, 'raw'],
      ]);
      expect(new Set(asked.map(({ depth }) => depth)).size).toBe(3);
    });
  });

  it('is not opened without an opener, or against its word', async () => {
    await inTemporaryDirectory(async (path) => {
      const top = lastOf(makeChain(path));
      const before = readFileSync(top);
      const backingError = (error: unknown): boolean => isQcow2Error(error, 'BACKING');
      await expect(openChain(NodeFileStorage.open(top), {})).rejects.toSatisfy(backingError);
      const deny = (): never => {
        throw new Error('not on my machine');
      };
      await expect(openChain(NodeFileStorage.open(top), { opener: deny })).rejects.toSatisfy(backingError);
      await expect(
        openChain(NodeFileStorage.open(top), { opener: () => Promise.reject(new Error('gone')) }),
      ).rejects.toSatisfy(backingError);
      expect(() => openImage(NodeFileStorage.open(top))).toThrow(expect.objectContaining({ code: 'BACKING' }));
      expect(readFileSync(top).equals(before)).toBe(true);
    });
  });

  it('that bites its own tail is BACKING, not a hang', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('ring.qcow2');
      createOurs(file, { size: 0x10_0000, backing: { name: file, format: 'qcow2' } });
      await expect(withOurs(file, () => undefined)).rejects.toSatisfy((error: unknown) =>
        isQcow2Error(error, 'BACKING'),
      );
    });
  });

  it('whose lower image is no qcow2 says so, with the name', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('top.qcow2');
      createOurs(file, { size: 0x10_0000, backing: { name: 'not-an-image', format: 'qcow2' } });
      const opened = openChain(NodeFileStorage.open(file), { opener: () => new MemoryStorage(new Uint8Array(512)) });
      await expect(opened).rejects.toThrow(/not-an-image/);
    });
  });
});
