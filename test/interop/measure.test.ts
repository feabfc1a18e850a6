/** Measuring against `qemu-img measure --output=json -O qcow2`: the same numbers, to the byte. */
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Disk } from '../../src/disk.js';
import { measureDisk, measureNew, type MeasureOptions, type Measurement } from '../../src/operations/measure.js';
import { MemoryStorage, RawDisk } from '../../src/index.js';
import { SeededRandom, seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { withOurs } from './our-image.js';
import { inTemporaryDirectory, qemuImg, qemuIo, type ImageFormat } from './qemu.js';
import { qemuImgWith } from './qemu-secrets.js';
import { makeRandomImage } from './random-image.js';

const REFCOUNT_BITS = [1, 2, 4, 8, 16, 32, 64] as const;
const CLUSTER_SIZES = [512, 4096, 65536, 2 ** 21];

const SECRETS = { key: 'passphrase' };

function qemuMeasure(options: MeasureOptions, ...subject: string[]): Measurement {
  const { clusterSize, version, refcountBits, extendedL2, preallocation, hasBacking, encryption } = options;
  const list = [
    clusterSize && `cluster_size=${clusterSize}`,
    version && `compat=${version === 2 ? '0.10' : '1.1'}`,
    refcountBits && `refcount_bits=${refcountBits}`,
    extendedL2 && 'extended_l2=on',
    preallocation && `preallocation=${preallocation}`,
    hasBacking && 'backing_file=base,backing_fmt=raw',
  ].filter(Boolean);
  const flags = [...luksFlags(encryption), ...(list.length > 0 ? ['-o', list.join(',')] : [])];
  const output = JSON.parse(qemuImgWith(SECRETS, 'measure', '--output=json', '-O', 'qcow2', ...flags, ...subject)) as {
    required: number;
    'fully-allocated': number;
  };
  return { required: output.required, fullyAllocated: output['fully-allocated'] };
}

/** QEMU derives keys even to measure, which takes 2 s. */
function luksFlags(encryption: MeasureOptions['encryption']): string[] {
  if (encryption === undefined) return [];
  const { cipher = 'aes-256', mode = 'xts', iv = 'plain64', ivHash } = encryption;
  const names = `encrypt.cipher-alg=${cipher},encrypt.cipher-mode=${mode},encrypt.ivgen-alg=${iv}`;
  const hash = ivHash ? `,encrypt.ivgen-hash-alg=${ivHash}` : '';
  return ['-o', `encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10,${names}${hash}`];
}

function oursOf(disk: Disk, options: MeasureOptions): Measurement {
  const job = measureDisk(disk, options);
  for (;;) {
    const step = job.next();
    if (step.done) return step.value;
  }
}

function expectSameForNew(size: number, options: MeasureOptions): void {
  const theirs = qemuMeasure(options, '--size', String(size));
  expect(measureNew(size, options), `${size} bytes, ${JSON.stringify(options)}`).toEqual(theirs);
}

describe('measuring a new image gives what QEMU gives', () => {
  it.each(CLUSTER_SIZES)('for clusters of %i bytes, every refcount width and sizes from nothing on', (clusterSize) =>
    withSeed('sizes', seedOfThisRun(clusterSize), (random) => {
      const largest = Math.min(2 ** 22 * (clusterSize / 8) * clusterSize, 2 ** 50);
      for (const refcountBits of REFCOUNT_BITS) {
        expectSameForNew(random.below(2 ** 30), { clusterSize, refcountBits });
        expectSameForNew(Math.floor(largest * (random.below(1000) / 1000)), { clusterSize, refcountBits });
      }
      for (const size of [0, 1, clusterSize, clusterSize + 1, largest]) expectSameForNew(size, { clusterSize });
    }),
  );

  it('for version 2', () => {
    for (const clusterSize of CLUSTER_SIZES) expectSameForNew(3e9, { clusterSize, version: 2 });
  });

  it('for extended L2 entries', () => {
    for (const clusterSize of [16384, 65536, 2 ** 21]) {
      for (const size of [1000, 2 ** 33 + 5]) expectSameForNew(size, { clusterSize, extendedL2: true });
    }
  });

  it('for every kind of preallocation', () => {
    for (const preallocation of ['off', 'metadata', 'falloc', 'full'] as const) {
      expectSameForNew(1e9, { preallocation });
      expectSameForNew(1e9, { preallocation, clusterSize: 4096, refcountBits: 64 });
    }
  });

  it('for LUKS, whose key slots are the longer the longer the key', () => {
    expectSameForNew(1e9, { encryption: { cipher: 'aes-192' }, clusterSize: 512, preallocation: 'full' });
    const essiv = { cipher: 'aes-128', mode: 'cbc', iv: 'essiv', ivHash: 'sha256' } as const;
    expectSameForNew(1e9, { encryption: essiv, clusterSize: 2 ** 21, refcountBits: 64 });
  });

  it('and refuses what QEMU refuses', () => {
    const refused: [number, MeasureOptions, string][] = [
      [
        2 ** 40,
        { clusterSize: 512 },
        'size is 1099511627776; with clusters of 512 bytes it must be at most 137438953472',
      ],
      [0, { clusterSize: 1000 }, 'clusterSize is 1000; it must be a power of two from 512 to 2097152'],
      [0, { clusterSize: 2 ** 22 }, 'clusterSize is 4194304'],
      [0, { clusterSize: 8192, extendedL2: true }, 'clusterSize is 8192; extendedL2 needs at least 16384'],
      [0, { version: 2, refcountBits: 8 }, 'refcountBits is 8; version 2 has 16 only'],
    ];
    for (const [size, options, message] of refused) {
      expect(() => measureNew(size, options)).toThrow(message);
      expect(() => qemuMeasure(options, '--size', String(size))).toThrow('ended with 1');
    }
  });
});

describe('measuring a disk gives what QEMU gives', () => {
  const TARGETS: MeasureOptions[] = [
    {},
    { clusterSize: 512 },
    { clusterSize: 4096, refcountBits: 1 },
    { clusterSize: 2 ** 21, version: 2 },
    { clusterSize: 16384, extendedL2: true },
    { preallocation: 'metadata' },
    { preallocation: 'full', clusterSize: 4096 },
    { hasBacking: true },
  ];

  async function expectSameForFile(path: string, format: ImageFormat = 'qcow2'): Promise<void> {
    await withOurs(
      path,
      (image) => {
        for (const options of TARGETS) {
          const theirs = qemuMeasure(options, '-f', format, path);
          expect(oursOf(image, options), JSON.stringify(options)).toEqual(theirs);
        }
      },
      { readOnly: true },
    );
  }

  it.each([
    { clusterSize: 512, options: { compat: '0.10' } },
    { clusterSize: 4096, options: { refcount_bits: 64 } },
    { clusterSize: 65536, options: { compression_type: 'zstd' } },
    { clusterSize: 2 ** 21, options: { compat: '1.1' } },
    { clusterSize: 65536, options: { extended_l2: 'on' } },
  ])('with zero and compressed clusters ($clusterSize, $options)', ({ clusterSize, options }) =>
    inTemporaryDirectory((path) =>
      withSeed('source', seedOfThisRun(clusterSize), async (random) => {
        makeRandomImage(path('image'), { size: 40 * clusterSize + 512, clusterSize, options }, random);
        await expectSameForFile(path('image'));
      }),
    ),
  );

  it('with a backing file that is shorter, and snapshots', () =>
    inTemporaryDirectory((path) =>
      withSeed('chain', seedOfThisRun(1), async (random) => {
        writeFileSync(path('raw'), random.bytes(0x3_0000));
        const lower = { name: path('raw'), format: 'raw' } as const;
        makeRandomImage(path('lower'), { size: 0x8_0000, clusterSize: 4096, backing: lower, commands: 15 }, random);
        const backing = { name: path('lower'), format: 'qcow2' } as const;
        makeRandomImage(path('image'), { size: 0xc_0000 + 512, clusterSize: 4096, backing, commands: 15 }, random);
        qemuImg('snapshot', '-c', 'one', path('image'));
        qemuIo(path('image'), ['write 100k 50k', 'discard 300k 64k']);
        await expectSameForFile(path('image'));
      }),
    ));

  it('without a qcow2 image: a raw file', () =>
    inTemporaryDirectory((path) => {
      const bytes = new SeededRandom(seedOfThisRun(2)).bytes(300_000);
      writeFileSync(path('raw'), bytes);
      const disk = new RawDisk(new MemoryStorage(bytes));
      for (const options of TARGETS) {
        expect(oursOf(disk, options), JSON.stringify(options)).toEqual(qemuMeasure(options, '-f', 'raw', path('raw')));
      }
    }));
});
