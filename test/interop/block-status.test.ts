/**
 * Block status against `qemu-img map --output=json`: the same runs, to the byte, whoever wrote the image.
 *
 * The files here have no holes: QEMU asks the host for them, a storage does not tell of them.
 */
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { blockStatus, type BlockStatus } from '../../src/operations/block-status.js';
import type { Qcow2Image } from '../../src/index.js';
import { act, randomRange } from '../support/disk-actions.js';
import { ModelDisk } from '../support/model-disk.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import { withOurs } from './our-image.js';
import { inTemporaryDirectory, qemuCreate, qemuImg, qemuIo } from './qemu.js';
import { fillHoles, makeRandomImage, withClusterSize } from './random-image.js';

interface MapLine {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  readonly offset: number | null;
}

function qemuLines(path: string): MapLine[] {
  const lines = JSON.parse(qemuImg('map', '--output=json', '-f', 'qcow2', path)) as (Omit<MapLine, 'offset'> & {
    offset?: number;
  })[];
  return lines.map(({ offset = null, ...line }) => ({ ...line, offset }));
}

function lineOf({ host, ...status }: BlockStatus): MapLine {
  return { ...status, offset: host };
}

/** Opens the image as it is and compares. Returns QEMU's lines. */
async function expectSameMap(path: string): Promise<MapLine[]> {
  const lines = qemuLines(path);
  await withOurs(path, (image) => expect([...blockStatus(image)].map(lineOf)).toEqual(lines), { readOnly: true });
  return lines;
}

/** Makes what lies below, as `kind` says, and names it for the image on top. */
function makeBacking(kind: string, path: string, shape: { size: number; clusterSize: number }, random: SeededRandom) {
  const { size, clusterSize } = shape;
  if (kind === 'none') return undefined;
  if (kind === 'raw') {
    writeFileSync(path, Buffer.alloc(Math.ceil((size * 3) / 4 / 512) * 512, 7));
    return { name: path, format: 'raw' } as const;
  }
  const length = kind === 'shorter' ? Math.ceil((size * 2) / 3 / 512) * 512 : size + 3 * clusterSize;
  makeRandomImage(path, { size: length, clusterSize: kind === 'shorter' ? 4096 : clusterSize }, random);
  return { name: path, format: 'qcow2' } as const;
}

const SHAPES = [
  { clusterSize: 512, options: { compat: '0.10' } },
  { clusterSize: 512, options: { refcount_bits: 1 } },
  { clusterSize: 4096, options: { compat: '1.1' } },
  { clusterSize: 65536, options: { compat: '0.10' } },
  { clusterSize: 65536, options: { compression_type: 'zstd' } },
  { clusterSize: 2 ** 21, options: { compat: '1.1' } },
  { clusterSize: 16384, options: { extended_l2: 'on' } },
  { clusterSize: 65536, options: { extended_l2: 'on' } },
] as const;

describe.each(SHAPES)('the map of an image with $clusterSize, $options', ({ clusterSize, options }) => {
  it.each(['none', 'raw', 'shorter', 'longer'])('is that of QEMU, what lies below being: %s', (below) =>
    inTemporaryDirectory((path) =>
      withSeed(`${clusterSize} ${below}`, seedOfThisRun(clusterSize + below.length), async (random) => {
        const size = 48 * clusterSize + 1536;
        const backing = makeBacking(below, path('backing'), { size, clusterSize }, random);
        makeRandomImage(path('image'), { size, clusterSize, options, backing }, random);
        const lines = await expectSameMap(path('image'));
        expect(lines.length).toBeGreaterThan(5);
      }),
    ),
  );
});

describe('the map', () => {
  it('is that of QEMU after each of our own turns', () =>
    inTemporaryDirectory((path) =>
      withSeed('our turns', seedOfThisRun(7), async (random) => {
        const shape = { size: 0x10_0000 + 512, clusterSize: 4096, version: 3 } as const;
        makeRandomImage(path('image'), shape, random);
        for (let turn = 0; turn < 8; turn++) {
          await withOurs(path('image'), (image) => changeAtRandom(image, random));
          fillHoles(path('image'));
          await expectSameMap(path('image'));
        }
      }),
    ));

  it('goes through a chain of four files', () =>
    inTemporaryDirectory((path) =>
      withSeed('chain', seedOfThisRun(8), async (random) => {
        writeFileSync(path('0'), random.bytes(0x8_0000));
        const sizes = [0xc_0000, 0x6_0000, 0x10_0000];
        for (const [index, size] of sizes.entries()) {
          const backing = { name: path(String(index)), format: index === 0 ? 'raw' : 'qcow2' } as const;
          makeRandomImage(path(String(index + 1)), { size, clusterSize: 4096, commands: 12, backing }, random);
        }
        const lines = await expectSameMap(path('3'));
        expect(new Set(lines.map(({ depth }) => depth))).toEqual(new Set([0, 1, 2, 3]));
      }),
    ));

  it.each(['off', 'on'])('shows where data lies in an external data file (data_file_raw=%s)', (raw) =>
    inTemporaryDirectory((path) =>
      withSeed('data file', seedOfThisRun(9), async (random) => {
        const options = { data_file: path('data'), data_file_raw: raw };
        makeRandomImage(path('image'), { size: 0x30_0000, clusterSize: 65536, options, compressed: false }, random);
        await expectSameMap(path('image'));
      }),
    ),
  );

  it('shows the room that extended L2 entries keep for parts of a cluster', () =>
    inTemporaryDirectory(async (path) => {
      qemuCreate(path('image'), { size: 0x4_0000, options: withClusterSize(65536, { extended_l2: 'on' }) });
      qemuIo(path('image'), ['write 4k 2k', 'write -z 10k 2k']);
      const lines = await expectSameMap(path('image'));
      expect(lines[0]).toMatchObject({ start: 0, length: 4096, present: false, offset: expect.any(Number) });
    }));

  it('of a large empty disk is one run', () =>
    inTemporaryDirectory(async (path) => {
      qemuCreate(path('large'), { size: 2 ** 45 });
      expect(await expectSameMap(path('large'))).toHaveLength(1);
    }));

  it('of a disk of no bytes has no run, where QEMU gives one of no bytes', () =>
    inTemporaryDirectory(async (path) => {
      qemuCreate(path('empty'), { size: 0 });
      expect(qemuLines(path('empty'))).toMatchObject([{ start: 0, length: 0 }]);
      await withOurs(path('empty'), (image) => expect([...blockStatus(image)]).toEqual([]));
    }));
});

function changeAtRandom(image: Qcow2Image, random: SeededRandom): void {
  const model = new ModelDisk({ size: image.size, clusterSize: image.clusterSize, version: 3 });
  for (let round = 0; round < 20; round++) {
    const range = randomRange(random, image.size, image.clusterSize, 8 * image.clusterSize);
    act(random.pick(['write', 'writeZeroes', 'unmap', 'discard']), range, { disk: image, model, random });
  }
}
