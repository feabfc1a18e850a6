/** Many snapshots on one image, made by us and by QEMU, deleted in random order by both. */
import { statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  createSnapshot,
  deleteSnapshot,
  gotoSnapshot,
  listSnapshots,
  openSnapshot,
  runToEnd,
  snapshotUsage,
  type Qcow2Image,
} from '../../src/index.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes, ModelDisk } from '../support/model-disk.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import { withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCreate, qemuImg, qemuIo } from './qemu.js';
import { asQemuLists, qemuSnapshots } from './snapshots-by-qemu.js';

/** How many are made by us before QEMU makes one. */
const TURN = 50;
const SIZE = 0x2_0000;

interface Known {
  readonly id: string;
  readonly name: string;
  readonly disk: Uint8Array;
}

class ManySnapshots {
  readonly known: Known[] = [];
  readonly model: ModelDisk;
  readonly #random: SeededRandom;
  #made = 0;

  constructor(clusterSize: number, random: SeededRandom) {
    this.model = new ModelDisk({ size: SIZE, clusterSize, version: 3 });
    this.#random = random;
  }

  write(write: (offset: number, byte: number, length: number) => void): void {
    const offset = this.#random.below(SIZE / 512) * 512;
    const length = Math.min(SIZE - offset, 512 * this.#random.between(1, 6));
    const byte = this.#random.between(1, 255);
    this.model.bytes.fill(byte, offset, offset + length);
    write(offset, byte, length);
  }

  create(image: Qcow2Image): void {
    this.write((offset, byte, length) => image.write(offset, new Uint8Array(length).fill(byte)));
    const name = `snapshot ${++this.#made}`;
    const { id } = createSnapshot(image, { name });
    this.known.push({ id, name, disk: this.model.bytes.slice() });
  }

  createByQemu(file: string): void {
    this.write((offset, byte, length) => qemuIo(file, [`write -P ${byte} ${offset} ${length}`]));
    const name = `snapshot ${++this.#made}`;
    qemuImg('snapshot', '-c', name, file);
    this.known.push({ id: String(this.#made), name, disk: this.model.bytes.slice() });
  }

  take(): Known {
    return this.known.splice(this.#random.below(this.known.length), 1)[0]!;
  }

  goto(image: Qcow2Image): void {
    const { id, disk } = this.#random.pick(this.known);
    gotoSnapshot(image, { id });
    this.model.bytes.set(disk);
  }

  /** Some of them, the list, and the active disk. */
  compare(image: Qcow2Image): void {
    const listed = listSnapshots(image).map(({ id }) => id);
    const wanted = this.known.map(({ id }) => id);
    if (listed.join() !== wanted.join()) throw new Error(`the list is ${listed.join()}, expected ${wanted.join()}`);
    expectSameBytes(readWhole(image), this.model.bytes, 'the active disk');
    for (let count = 0; count < Math.min(20, this.known.length); count++) {
      const { id, disk } = this.#random.pick(this.known);
      expectSameBytes(readWhole(openSnapshot(image, { id })), disk, `snapshot ${id}`);
    }
  }
}

describe('many snapshots', () => {
  for (const [wanted, clusterSize, refcountBits] of [
    [1000, 4096, 16],
    [200, 512, 64],
  ] as const) {
    it(`are made, gone to and deleted: ${wanted}, clusters of ${clusterSize}, refcounts of ${refcountBits} bits`, async () => {
      await inTemporaryDirectory((path) =>
        withSeed('many snapshots', seedOfThisRun(clusterSize), async (random) => {
          const file = path('image.qcow2');
          qemuCreate(file, { size: SIZE, options: { cluster_size: clusterSize, refcount_bits: refcountBits } });
          const many = new ManySnapshots(clusterSize, random);
          while (many.known.length < wanted) {
            await withOurs(file, (image) => {
              const until = Math.min(wanted, many.known.length + TURN);
              while (many.known.length < until) many.create(image);
            });
            if (many.known.length < wanted) many.createByQemu(file);
          }
          expectCleanCheck(file, 'with all of them');
          expect(await withOurs(file, asQemuLists, { readOnly: true })).toEqual(qemuSnapshots(file));
          const full = statSync(file).size;

          await withOurs(file, (image) => {
            for (let count = 0; count < 10; count++) many.goto(image);
            many.compare(image);
            const own = snapshotUsage(image).reduce((sum, { ownBytes }) => sum + ownBytes, 0);
            expect(own).toBeLessThanOrEqual(full);
          });
          expectSameBytes(qemuBytes(file), many.model.bytes, 'the active disk, read by QEMU');

          while (many.known.length > 0) {
            qemuImg('snapshot', '-d', many.take().name, file);
            await withOurs(file, (image) => {
              for (let count = 0; count < 2 * TURN && many.known.length > 0; count++) {
                runToEnd(deleteSnapshot(image, { id: many.take().id }));
              }
              if (many.known.length % 5 === 0) many.compare(image);
            });
          }
          expectCleanCheck(file, 'without any');
          expectSameBytes(qemuBytes(file), many.model.bytes, 'the active disk at the end');
          // What was freed is used again: a tenth as many take no more room than all of them did.
          await withOurs(file, (image) => {
            for (let count = 0; count < wanted / 10; count++) many.create(image);
            many.compare(image);
          });
          expect(statSync(file).size).toBeLessThanOrEqual(full);
          expectCleanCheck(file, 'with some new ones');
        }),
      );
    }, 300_000);
  }
});
