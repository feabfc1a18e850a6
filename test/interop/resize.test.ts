/** Resizing by us, judged by qemu-img, and by qemu-img, read by us. */
import { statSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { OpenOptions } from '../../src/index.js';
import { resizeImage, type ResizeOptions } from '../../src/operations/resize.js';
import { runToEnd } from '../../src/util/steps.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { withOurs } from './our-image.js';
import {
  expectCleanCheck,
  inTemporaryDirectory,
  qemuBytes,
  qemuCreate,
  qemuImg,
  qemuInfo,
  qemuIo,
  qemuMap,
} from './qemu.js';

const MIB = 0x10_0000;

async function resize(file: string, options: ResizeOptions, open?: OpenOptions): Promise<void> {
  await withOurs(file, (image) => runToEnd(resizeImage(image, options)), open);
}

/** The first `size` bytes of `bytes`, zeroes behind them. */
function cutTo(bytes: Uint8Array, size: number): Uint8Array {
  const cut = new Uint8Array(size);
  cut.set(bytes.subarray(0, size));
  return cut;
}

describe('shrinking', () => {
  for (const [clusterSize, options] of [
    [512, {}],
    [4096, { refcount_bits: 64 }],
    [4096, { compat: '0.10' }],
    [65536, {}],
    [65536, { extended_l2: 'on' }],
    [0x20_0000, {}],
  ] as const) {
    it(`frees what is cut off, clusters of ${clusterSize} bytes ${JSON.stringify(options)}`, async () => {
      await inTemporaryDirectory(async (path) => {
        const file = path('image.qcow2');
        const unit = clusterSize === 512 ? MIB / 8 : MIB;
        qemuCreate(file, { size: 40 * unit, options: { cluster_size: clusterSize, ...options } });
        const writes = [
          [1, 0, 20],
          [2, 30, 5],
          [3, 36, 2],
          [4, 39, 1],
        ] as const;
        qemuIo(
          file,
          writes.map(([pattern, at, length]) => {
            return `write ${pattern === 3 ? '-c ' : ''}-P ${pattern} ${at * unit} ${length * unit}`;
          }),
        );
        const before = qemuBytes(file);
        const fileSize = statSync(file).size;
        for (const size of [32 * unit + 512, 32 * unit, 5 * unit - 1024, 65536, 512, 0]) {
          await resize(file, { size, shrink: true });
          expect(qemuInfo(file)['virtual-size']).toBe(size);
          expectCleanCheck(file, `with ${size} bytes`);
          expectSameBytes(qemuBytes(file), cutTo(before, size), `the disk of ${size} bytes`);
        }
        // Data lay in the order of the disk, so little but the first clusters is left of the file.
        expect(statSync(file).size).toBeLessThan(Math.max(fileSize / 10, 8 * clusterSize));
        await resize(file, { size: 40 * unit });
        expectSameBytes(qemuBytes(file), new Uint8Array(40 * unit), 'the disk grown again');
        expectCleanCheck(file, 'grown again');
      });
    });
  }

  it('ends with as many clusters in use as when qemu-img does it', async () => {
    await inTemporaryDirectory(async (path) => {
      const files = [path('ours.qcow2'), path('qemu.qcow2')] as const;
      for (const file of files) {
        qemuCreate(file, { size: 64 * MIB, options: { cluster_size: 4096 } });
        qemuIo(file, ['write -P 1 32M 32M', 'write -P 2 0 1M']);
      }
      await resize(files[0], { size: MIB, shrink: true });
      qemuImg('resize', '-f', 'qcow2', '-q', '--shrink', files[1], '1M');
      expect(statSync(files[0]).size).toBe(statSync(files[1]).size);
      expectSameBytes(qemuBytes(files[0]), qemuBytes(files[1]), 'the disk');
      expectCleanCheck(files[0]);
    });
  });

  it('leaves the snapshots of a version 3 image what they were', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: 8 * MIB, options: { cluster_size: 4096 } });
      qemuIo(file, ['write -P 1 0 8M', 'write -z 7M 64k']);
      const before = qemuBytes(file);
      qemuImg('snapshot', '-c', 'one', file);
      await resize(file, { size: 3 * MIB, shrink: true });
      expectCleanCheck(file);
      await resize(file, { size: 9 * MIB });
      expectCleanCheck(file);
      expectSameBytes(qemuBytes(file), cutTo(before.subarray(0, 3 * MIB), 9 * MIB), 'the disk');
      qemuImg('snapshot', '-a', 'one', file);
      expectCleanCheck(file);
      expectSameBytes(qemuBytes(file), before, 'the snapshot');
    });
  });

  it('cuts an external data file, too', async () => {
    await inTemporaryDirectory(async (path) => {
      for (const raw of ['on', 'off']) {
        const file = path('image.qcow2');
        qemuCreate(file, { size: 4 * MIB, options: { data_file: path('data'), data_file_raw: raw } });
        qemuIo(file, ['write -P 1 0 4M']);
        await resize(file, { size: MIB + 512, shrink: true });
        expectCleanCheck(file);
        expect(statSync(path('data')).size).toBe(MIB + 512);
        await resize(file, { size: 2 * MIB });
        expect(statSync(path('data')).size).toBe(2 * MIB);
        expectCleanCheck(file);
        const expected = new Uint8Array(2 * MIB).fill(1, 0, MIB + 512);
        expectSameBytes(qemuBytes(file), expected, `the disk (raw ${raw})`);
        if (raw === 'on') expectSameBytes(qemuBytes(path('data'), { format: 'raw' }), expected, 'the data file');
      }
    });
  });
});

describe('growing', () => {
  const CASES: readonly (readonly [number, Readonly<Record<string, string | number>>])[] = [
    [512, {}],
    [4096, { compat: '0.10' }],
    [65536, { extended_l2: 'on' }],
    [65536, { refcount_bits: 1 }],
  ];
  for (const [clusterSize, options] of CASES) {
    for (const preallocation of ['off', 'metadata', 'falloc', 'full'] as const) {
      it(`with preallocation ${preallocation}, clusters of ${clusterSize} bytes ${JSON.stringify(options)}`, async () => {
        await inTemporaryDirectory(async (path) => {
          const file = path('image.qcow2');
          qemuCreate(file, { size: MIB + 512, options: { cluster_size: clusterSize, ...options } });
          // Some clusters of the file are free again, and not zeroes.
          qemuIo(file, ['write -P 1 0 1M', 'write -P 2 1M 512', 'discard 256k 512k']);
          const before = qemuBytes(file);
          await resize(file, { size: 4 * MIB, preallocation });
          expectCleanCheck(file);
          expectSameBytes(qemuBytes(file), cutTo(before, 4 * MIB), 'the disk');
          const map = qemuMap(file).filter(({ start, length }) => start + length > 2 * MIB);
          const allocated = map.every(({ offset }) => offset !== undefined);
          expect(allocated).toBe(preallocation !== 'off');
          expect(statSync(file).size >= 3 * MIB).toBe(preallocation !== 'off');
          const { size } = statSync(file);
          qemuIo(file, ['write -P 5 2M 2M']);
          // What was preallocated is what is written to now.
          if (preallocation !== 'off') expect(statSync(file).size).toBe(size);
          expectCleanCheck(file, 'after a write');
        });
      });
    }
  }

  for (const [version, preallocation] of [
    [2, 'off'],
    [3, 'off'],
    [3, 'metadata'],
    [3, 'full'],
  ] as const) {
    it(`hides a backing file that is longer (version ${version}, preallocation ${preallocation})`, async () => {
      await inTemporaryDirectory(async (path) => {
        const file = path('image.qcow2');
        writeFileSync(path('base'), new Uint8Array(3 * MIB).fill(7));
        const options = { compat: version === 2 ? '0.10' : '1.1' };
        qemuCreate(file, { size: MIB + 1024, options, backing: { name: path('base'), format: 'raw' } });
        await resize(file, { size: 5 * MIB, preallocation });
        expectCleanCheck(file);
        expectSameBytes(qemuBytes(file), new Uint8Array(5 * MIB).fill(7, 0, MIB + 1024), 'the disk');
      });
    });
  }

  it('an image with a data file', async () => {
    await inTemporaryDirectory(async (path) => {
      for (const [raw, preallocation] of [
        ['on', 'off'],
        ['off', 'off'],
        ['off', 'metadata'],
        ['off', 'full'],
      ] as const) {
        const file = path('image.qcow2');
        qemuCreate(file, { size: MIB, options: { data_file: path('data'), data_file_raw: raw } });
        qemuIo(file, ['write -P 1 0 1M']);
        await resize(file, { size: 3 * MIB, preallocation });
        expectCleanCheck(file);
        expect(statSync(path('data')).size).toBe(3 * MIB);
        expectSameBytes(qemuBytes(file), new Uint8Array(3 * MIB).fill(1, 0, MIB), 'the disk');
      }
    });
  });

  it('by qemu-img is read by us', async () => {
    await inTemporaryDirectory(async (path) => {
      for (const preallocation of ['off', 'metadata', 'falloc', 'full']) {
        const file = path('image.qcow2');
        qemuCreate(file, { size: MIB });
        qemuIo(file, ['write -P 1 0 1M']);
        qemuImg('resize', '-f', 'qcow2', '-q', `--preallocation=${preallocation}`, file, '3M');
        await withOurs(file, (image) => {
          expectSameBytes(readWhole(image), new Uint8Array(3 * MIB).fill(1, 0, MIB), 'the disk');
          image.write(2 * MIB, new Uint8Array(100_000).fill(2));
        });
        expectCleanCheck(file);
        qemuImg('resize', '-f', 'qcow2', '-q', '--shrink', file, '1M');
        await withOurs(file, (image) => expectSameBytes(readWhole(image), new Uint8Array(MIB).fill(1), 'the disk'));
      }
    });
  });
});

describe('what is refused', () => {
  it('a disk with snapshots in version 2, as by qemu-img', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: MIB, options: { compat: '0.10' } });
      qemuImg('snapshot', '-c', 'one', file);
      for (const size of [2 * MIB, 65536]) {
        await expect(resize(file, { size, shrink: true })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
      }
      expect(() => qemuImg('resize', '-f', 'qcow2', file, '2M')).toThrow(/v2 image which has snapshots/);
    });
  });

  it('a disk with a bitmap that is out of date', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: MIB });
      qemuImg('bitmap', '--add', file, 'b0');
      expect(() => qemuIo(file, ['abort'])).toThrow(/ended with/);
      await expect(resize(file, { size: 2 * MIB })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
      expect(() => qemuImg('resize', '-f', 'qcow2', file, '2M')).toThrow(/inconsistent/);
      expectCleanCheck(file);
      expect(JSON.stringify(qemuInfo(file))).toContain('b0');
    });
  });

  it('nonsense, with the limit', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: MIB, options: { cluster_size: 512 } });
      const cases: readonly (readonly [ResizeOptions, string, RegExp])[] = [
        [{ size: 1000 }, 'BAD_ARGUMENT', /size is 1000; it must be a multiple of 512/],
        [{ size: -512 }, 'BAD_ARGUMENT', /size is -512/],
        [{ size: 512 }, 'BAD_ARGUMENT', /size is 512; the disk has 1048576 bytes.*shrink/],
        [{ size: 512, shrink: true, preallocation: 'full' }, 'BAD_ARGUMENT', /preallocation is full.*growing/],
        [{ size: 2 ** 38 }, 'LIMIT', /size is 274877906944; .*at most 137438953472/],
      ];
      for (const [options, code, message] of cases) {
        await expect(resize(file, options)).rejects.toMatchObject({
          code,
          message: expect.stringMatching(message) as string,
        });
      }
      await expect(resize(file, { size: 2 * MIB }, { readOnly: true })).rejects.toMatchObject({ code: 'READ_ONLY' });
    });
  });
});

describe('random sequences of resizes and writes, ours and qemu-img taking turns', () => {
  for (const clusterSize of [512, 4096, 65536]) {
    it(`keep guest data, clusters of ${clusterSize} bytes`, async () => {
      await withSeed('resizes', seedOfThisRun(clusterSize), async (random) => {
        await inTemporaryDirectory(async (path) => {
          const file = path('image.qcow2');
          let model: Uint8Array = new Uint8Array(MIB);
          qemuCreate(file, { size: MIB, options: { cluster_size: clusterSize } });
          for (let turn = 0; turn < 12; turn++) {
            const size = 512 * random.between(1, 6 * 2048);
            await withOurs(file, (image) => {
              const preallocation = size > image.size && random.oneIn(2) ? 'metadata' : 'off';
              runToEnd(resizeImage(image, { size, shrink: true, preallocation }));
              model = cutTo(model, size);
              for (let index = 0; index < 8; index++) {
                const bytes = random.bytes(Math.min(size, random.between(1, 60_000)));
                const offset = random.below(size - bytes.length + 1);
                image.write(offset, bytes);
                model.set(bytes, offset);
              }
            });
            expectCleanCheck(file, `turn ${turn}`);
            expectSameBytes(qemuBytes(file), model, `turn ${turn}`);
            const larger = size + 512 * random.between(1, 2048);
            qemuImg('resize', '-f', 'qcow2', '-q', file, String(larger));
            model = cutTo(model, larger);
          }
        });
      });
    });
  }
});
