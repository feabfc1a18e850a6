/** Amending by us, judged by qemu-img; and amending by qemu-img, read by us. Guest data and snapshots stay what they were. */
import { describe, expect, it } from 'vitest';
import type { Qcow2Image } from '../../src/index.js';
import { amendImage, type AmendOptions } from '../../src/operations/amend.js';
import { runToEnd } from '../../src/util/steps.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import { withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCreate, qemuImg, qemuInfo, qemuIo } from './qemu.js';

const SIZE = 0x20_0000;
const WIDTHS = [1, 2, 4, 8, 16, 32, 64] as const;

const PLAIN: readonly string[] = ['write -P 1 0 300k', 'write -P 2 1M 100k', 'write -z 64k 64k', 'write -zu 1M 32k'];

/** An image with data, zero clusters of both kinds and a compressed cluster. */
function makeImage(file: string, options: Readonly<Record<string, string | number>> = {}): void {
  qemuCreate(file, { size: SIZE, options });
  qemuIo(file, options['compat'] === '0.10' ? PLAIN.slice(0, 2) : PLAIN);
  // One alone: several would share a host cluster, and its refcount not fit the smallest width.
  qemuIo(file, [`write -c -P 9 1536k ${options['cluster_size'] ?? 65536}`]);
}

function formatData(file: string): Readonly<Record<string, unknown>> {
  return (qemuInfo(file)['format-specific'] as { readonly data: Readonly<Record<string, unknown>> }).data;
}

async function amend(file: string, options: AmendOptions): Promise<void> {
  await withOurs(file, (image) => runToEnd(amendImage(image, options)), { backing: null });
}

/** Amends and demands that the disk reads as before, and that qemu-img finds nothing wrong. */
async function amendKeeping(file: string, options: AmendOptions): Promise<void> {
  const before = qemuBytes(file);
  await amend(file, options);
  expectCleanCheck(file, `after ${JSON.stringify(options)}`);
  expectSameBytes(qemuBytes(file), before, `the disk after ${JSON.stringify(options)}`);
}

describe('the version', () => {
  for (const clusterSize of [512, 4096, 65536]) {
    it(`goes from 3 to 2 and back, clusters of ${clusterSize} bytes`, async () => {
      await inTemporaryDirectory(async (path) => {
        const file = path('image.qcow2');
        makeImage(file, { cluster_size: clusterSize });
        await amendKeeping(file, { version: 2 });
        expect(formatData(file)['compat']).toBe('0.10');
        await amendKeeping(file, { version: 3 });
        expect(formatData(file)['compat']).toBe('1.1');
      });
    });
  }

  it('of an image over a backing file goes to 2 with its zeroes kept over the backing data', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(path('base'), { size: SIZE });
      qemuIo(path('base'), [`write -P 7 0 ${SIZE}`]);
      qemuCreate(file, { size: SIZE, backing: { name: path('base'), format: 'qcow2' } });
      qemuIo(file, PLAIN);
      await amendKeeping(file, { version: 2 });
    });
  });

  it.each([true, false])('goes to 2 with snapshots that share clusters and tables (backing: %s)', async (backed) => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(path('base'), { size: SIZE });
      qemuIo(path('base'), [`write -P 7 0 ${SIZE}`]);
      const backing = backed ? { name: path('base'), format: 'qcow2' as const } : undefined;
      qemuCreate(file, { size: SIZE, backing });
      qemuIo(file, ['write -P 1 0 1M', 'write -zu 192k 64k', 'write -z 256k 64k']);
      qemuImg('snapshot', '-c', 'one', file);
      qemuImg('snapshot', '-c', 'two', file);
      // Allocated zero clusters now, over clusters that the snapshots read as data.
      qemuIo(file, ['write -z 0 128k', 'write -zu 128k 64k']);
      const kept = ['one', 'two'].map((snapshot) => qemuBytes(file, { snapshot }));
      await amendKeeping(file, { version: 2 });
      ['one', 'two'].forEach((snapshot, index) => {
        expectSameBytes(qemuBytes(file, { snapshot }), kept[index]!, `snapshot ${snapshot}`);
      });
      qemuImg('snapshot', '-a', 'one', file);
      expectCleanCheck(file, 'after going back to a snapshot');
    });
  });

  it('amended by qemu-img reads the same to us', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      makeImage(file);
      const before = qemuBytes(file);
      for (const compat of ['0.10', '1.1']) {
        qemuImg('amend', '-f', 'qcow2', '-o', `compat=${compat}`, file);
        await withOurs(file, (image) => expectSameBytes(readWhole(image), before, `compat ${compat}`));
      }
    });
  });

  it('stays 3 where qemu-img says so, too: snapshots of another size, other features, a data file', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      const refusal = (options: AmendOptions) =>
        amend(file, options).then(
          () => 'amended',
          (error: unknown) => String(error),
        );
      qemuCreate(file, { size: SIZE });
      qemuImg('snapshot', '-c', 'one', file);
      qemuImg('resize', '-f', 'qcow2', '-q', file, '+1M');
      expect(await refusal({ version: 2 })).toMatch(/snapshot 1, and has 3145728; version 2 has one size for all/);
      qemuCreate(file, { size: SIZE, options: { extended_l2: 'on' } });
      expect(await refusal({ version: 2 })).toMatch(/extended L2 entries/);
      qemuCreate(file, { size: SIZE, options: { compression_type: 'zstd' } });
      expect(await refusal({ version: 2 })).toMatch(/compression type/);
      qemuCreate(file, { size: SIZE, options: { data_file: path('data') } });
      expect(await refusal({ version: 2 })).toMatch(/external data file/);
      qemuCreate(file, { size: SIZE, options: { refcount_bits: 8 } });
      expect(await refusal({ version: 2 })).toMatch(/refcountBits is 8; version 2 has 16 only/);
    });
  });
});

describe('the refcount width', () => {
  for (const clusterSize of [512, 65536]) {
    it(`goes from each to each, clusters of ${clusterSize} bytes`, async () => {
      await inTemporaryDirectory(async (path) => {
        const file = path('image.qcow2');
        makeImage(file, { cluster_size: clusterSize });
        const before = qemuBytes(file);
        for (const bits of [64, 1, 32, 2, 16, 4, 8, 1, 64, 8, 2, 32, 16, 1]) {
          await amend(file, { refcountBits: bits });
          expectCleanCheck(file, `with ${bits} bits`);
          expect(formatData(file)['refcount-bits']).toBe(bits);
        }
        expectSameBytes(qemuBytes(file), before, 'the disk');
        await withOurs(file, (image) => image.write(0, new Uint8Array(300_000).fill(5)));
        expectCleanCheck(file, 'written after it');
      });
    });
  }

  it('is not made smaller than a refcount in use, which the error names; nothing has changed then', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      makeImage(file);
      qemuImg('snapshot', '-c', 'one', file);
      await expect(amend(file, { refcountBits: 1 })).rejects.toMatchObject({
        code: 'LIMIT',
        message: expect.stringMatching(
          /the cluster at 0x[0-9a-f]+ has refcount 2; a width of 1 bits holds at most 1/,
        ) as string,
      });
      expect(formatData(file)['refcount-bits']).toBe(16);
      expectCleanCheck(file);
      await amendKeeping(file, { refcountBits: 2 });
    });
  });

  for (const bits of WIDTHS) {
    it(`of ${bits} bits set by qemu-img is read by us, and written on`, async () => {
      await inTemporaryDirectory(async (path) => {
        const file = path('image.qcow2');
        makeImage(file, { cluster_size: 512 });
        const before = qemuBytes(file);
        qemuImg('amend', '-f', 'qcow2', '-o', `refcount_bits=${bits}`, file);
        await withOurs(file, (image) => {
          expect(image.refcountBits).toBe(bits);
          expectSameBytes(readWhole(image), before, 'the disk');
          image.write(700_000, new Uint8Array(100_000).fill(6));
        });
        expectCleanCheck(file);
      });
    });
  }
});

describe('other options', () => {
  it('lazy refcounts go on and off', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      makeImage(file);
      await amendKeeping(file, { lazyRefcounts: true });
      expect(formatData(file)['lazy-refcounts']).toBe(true);
      await withOurs(file, (image) => {
        image.write(0, new Uint8Array(70_000).fill(3));
        image.flush();
        // The dirty bit is set now; it must not outlive the option.
        runToEnd(amendImage(image, { lazyRefcounts: false }));
        expect(image.header.incompatible).toBe(0n);
      });
      expect(formatData(file)['lazy-refcounts']).toBe(false);
      expectCleanCheck(file);
    });
  });

  it('an image with lazy refcounts that is in use goes to version 2', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      makeImage(file, { lazy_refcounts: 'on' });
      await withOurs(file, (image) => {
        image.write(0, new Uint8Array(70_000).fill(3));
        runToEnd(amendImage(image, { version: 2 }));
        image.write(70_000, new Uint8Array(70_000).fill(4));
      });
      expect(formatData(file)['compat']).toBe('0.10');
      expectCleanCheck(file);
    });
  });

  it('the data file is renamed, and need no longer be raw', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: SIZE, options: { data_file: path('data'), data_file_raw: 'on' } });
      qemuIo(file, PLAIN);
      const before = qemuBytes(file);
      await amend(file, { dataFileName: path('moved'), dataFileRaw: false });
      qemuImg('convert', '-f', 'raw', '-O', 'raw', path('data'), path('moved'));
      expect(formatData(file)).toMatchObject({ 'data-file': path('moved'), 'data-file-raw': false });
      expectSameBytes(qemuBytes(file), before, 'the disk');
      expectCleanCheck(file);
    });
  });

  it('several at once, with one progress that only rises', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      makeImage(file, { compat: '0.10' });
      const before = qemuBytes(file);
      const shown: number[] = [];
      await withOurs(file, (image) => {
        const options = { version: 3, refcountBits: 1, lazyRefcounts: true, size: SIZE * 2 } as const;
        for (const { done, total } of amendImage(image, options)) shown.push(done / total);
      });
      expect(shown.length).toBeGreaterThan(4);
      expect(shown).toEqual(shown.toSorted((a, b) => a - b));
      expect(shown.at(-1)).toBeLessThanOrEqual(1);
      expect(qemuInfo(file)['virtual-size']).toBe(SIZE * 2);
      expect(formatData(file)).toMatchObject({ compat: '1.1', 'refcount-bits': 1, 'lazy-refcounts': true });
      expectSameBytes(qemuBytes(file).subarray(0, SIZE), before, 'the disk');
      expectCleanCheck(file);
    });
  });
});

/** A random change of options that the image, as it is, allows. */
function randomAmend(image: Qcow2Image, random: SeededRandom): AmendOptions {
  const { version } = image.header;
  if (random.oneIn(4)) return version === 2 ? { version: 3 } : { version: 2, refcountBits: 16 };
  if (version === 2) return { version: 3, refcountBits: random.pick(WIDTHS) };
  return random.oneIn(3) ? { lazyRefcounts: random.oneIn(2) } : { refcountBits: random.pick(WIDTHS) };
}

describe('random sequences of amends and writes', () => {
  for (const clusterSize of [512, 4096, 65536]) {
    it(`keep guest data, clusters of ${clusterSize} bytes`, async () => {
      await withSeed('amends', seedOfThisRun(clusterSize), async (random) => {
        await inTemporaryDirectory(async (path) => {
          const file = path('image.qcow2');
          makeImage(file, { cluster_size: clusterSize });
          const model = qemuBytes(file);
          for (let turn = 0; turn < 12; turn++) {
            await withOurs(file, (image) => {
              const options = randomAmend(image, random);
              for (const _ of amendImage(image, options)) randomWrite(image, model, random);
              randomWrite(image, model, random);
            });
            expectCleanCheck(file, `turn ${turn}`);
          }
          expectSameBytes(qemuBytes(file), model, 'the disk');
        });
      });
    });
  }
});

/** What a guest does between two steps. */
function randomWrite(image: Qcow2Image, model: Uint8Array, random: SeededRandom): void {
  const length = random.between(1, 50_000);
  const offset = random.below(SIZE - length);
  if (random.oneIn(3)) {
    image.writeZeroes(offset, length, { unmap: random.oneIn(2) });
    model.fill(0, offset, offset + length);
  } else {
    const bytes = random.bytes(length);
    image.write(offset, bytes);
    model.set(bytes, offset);
  }
}
