/** Our check says what `qemu-img check` says, of sound images and of randomly damaged ones, to the last number. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../support/seeded-random.js';
import { OTHER, OWN, SHARED, ZERO } from './damages.js';
import { inTemporaryDirectory, patiently, qemuCreate } from './qemu.js';
import { Qcow2Bytes } from '../support/qcow2-bytes.js';
import { makeRandomImage } from './random-image.js';
import { checkByQemu, checkByUs, makeSound, numbersOf } from './repair.js';

const MIB = 2 ** 20;

describe('the numbers of a check are those of qemu-img', () => {
  for (const [clusterSize, options] of [
    [512, {}],
    [4096, { refcount_bits: 1 }],
    [65536, {}],
    [65536, { refcount_bits: 64, lazy_refcounts: 'on' }],
    [65536, { compat: '0.10' }],
    [16384, { extended_l2: 'on' }],
    [2 * MIB, {}],
  ] as const) {
    it(`for random writes in clusters of ${clusterSize} bytes, ${JSON.stringify(options)}`, () =>
      inTemporaryDirectory((path) => {
        const image = { size: 16 * MIB + 3 * 512, clusterSize, options };
        makeRandomImage(path('image'), image, new SeededRandom(clusterSize));
        expect(numbersOf(checkByUs(path('image')))).toEqual(checkByQemu(path('image')));
      }));
  }

  it('for an empty image, and for one without a disk', () =>
    inTemporaryDirectory((path) => {
      for (const size of [0, 512, 1 << 30]) {
        qemuCreate(path(`${size}`), { size });
        expect(numbersOf(checkByUs(path(`${size}`)))).toEqual(checkByQemu(path(`${size}`)));
      }
    }));

  it('for four million allocated clusters, with little memory and in short steps', () =>
    inTemporaryDirectory((path) => {
      qemuCreate(path('image'), { size: 256 * 1024 * MIB, options: { preallocation: 'metadata' } });
      const before = process.memoryUsage().arrayBuffers;
      expect(numbersOf(checkByUs(path('image')))).toEqual(checkByQemu(path('image')));
      // Two bytes a cluster, the refcount table, tables on the way that are not collected yet.
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(96 * MIB);
    }));
});

describe('an encrypted image is checked without its key', () => {
  it('and its encryption header is counted', () =>
    inTemporaryDirectory((path) => {
      const secret = ['--object', 'secret,id=key,data=secret'];
      const options = 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10,cluster_size=4096';
      createPatiently(['create', '-q', '-f', 'qcow2', ...secret, '-o', options, path('image'), '4M']);
      const names = `driver=qcow2,encrypt.key-secret=key,file.driver=file,file.filename=`;
      qemu(['check', ...secret, '--image-opts', names + path('image')]);
      expect(numbersOf(checkByUs(path('image')))).toMatchObject({ verdict: 0, corruptions: 0, leaks: 0 });

      const image = new Qcow2Bytes(readFileSync(path('image')));
      image.setBits(image.refcountTableOffset, 0n);
      writeFileSync(path('image'), image.bytes);
      expect(checkByUs(path('image'), 'all')).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
      qemu(['check', ...secret, '--image-opts', names + path('image')]);
    }));
});

describe('of random damage to tables', () => {
  for (const [seed, options] of [
    [1, {}],
    [2, { refcount_bits: 64 }],
    [3, { extended_l2: 'on', cluster_size: 16384 }],
  ] as const) {
    it(`our check finds what QEMU's finds, and QEMU agrees with our repair (${JSON.stringify(options)})`, () =>
      inTemporaryDirectory((path) => {
        const random = new SeededRandom(seed);
        makeSound(path('sound'), { options });
        const sound = readFileSync(path('sound'));
        for (let round = 0; round < 25; round++) {
          const image = new Qcow2Bytes(sound);
          for (let count = random.between(1, 4); count > 0; count--) damageAtRandom(image, random);
          writeFileSync(path('image'), image.bytes);
          const byQemu = checkByQemu(path('image'));
          expect(numbersOf(checkByUs(path('image'))), `round ${round}`).toEqual(byQemu);
          checkByUs(path('image'), 'all');
          expect(numbersOf(checkByUs(path('image'))), `repaired in round ${round}`).toEqual(checkByQemu(path('image')));
        }
      }));
  }
});

/** Flips a bit, or puts one entry in the place of another, in any table. */
function damageAtRandom(image: Qcow2Bytes, random: SeededRandom): void {
  const tables = [
    image.l1Offset,
    image.snapshotL1,
    image.refcountTableOffset,
    image.refcountBlock(0),
    image.l2TableOf(SHARED),
    image.l2TableOf(OWN),
    image.l2TableOf(OTHER),
    image.l2TableOf(ZERO),
  ].filter((at) => at > 0 && at % 8 === 0 && at + image.clusterSize <= image.length);
  const entryIn = () => random.pick(tables) + 8 * random.below(random.oneIn(2) ? 4 : image.clusterSize / 8);
  const at = entryIn();
  if (random.oneIn(3)) image.setBits(at, image.bits(entryIn()));
  else image.setBits(at, image.bits(at) ^ (1n << BigInt(random.below(64))));
}

function createPatiently(args: readonly string[]): void {
  patiently(() => spawnSync('qemu-img', args, { encoding: 'utf8' }));
  qemu(['info', args.at(-2)!]);
}

function qemu(args: readonly string[]): void {
  const done = spawnSync('qemu-img', args, { encoding: 'utf8' });
  if (done.error) throw done.error;
  expect([done.status, done.stderr]).toEqual([0, '']);
}
