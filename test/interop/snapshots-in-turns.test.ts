/**
 * Snapshots by turns: QEMU and we create, go to and delete each other's, over disks that both of us write and resize.
 *
 * After every operation qemu-img's check finds nothing; both of us read the same disks, and list the same snapshots.
 */
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { discardVmState, resizeImage, runToEnd, type Qcow2Image } from '../../src/index.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import { SnapshotHistory, type HistoryOptions } from '../support/snapshot-history.js';
import { withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuCreate, qemuImg } from './qemu.js';
import { asQemuLists, becomes, expectOurs, qemuSnapshots, QemuTurn } from './snapshots-by-qemu.js';

interface Shape {
  readonly title: string;
  readonly clusterSize: number;
  /** As `qemu-img create -o` takes them, beside the cluster size. */
  readonly options?: Readonly<Record<string, string | number>>;
  readonly backing?: boolean;
  /** The disk starts with content in compressed clusters. */
  readonly compressed?: boolean;
  /** Snapshots at one time, at most; narrow refcounts hold no more. */
  readonly most?: number;
  /** Both of us resize the disk, to whole clusters: QEMU brings old bytes back that lay behind the end in the last one. */
  readonly resizes?: boolean;
  readonly history?: HistoryOptions;
}

const compresses: HistoryOptions = { compresses: true };

const SHAPES: readonly Shape[] = [
  { title: 'clusters of 512 bytes', clusterSize: 512, resizes: true, history: compresses },
  { title: 'clusters of 4 KiB, compressed', clusterSize: 4096, compressed: true, resizes: true, history: compresses },
  { title: 'clusters of 64 KiB, zstd', clusterSize: 65536, options: { compression_type: 'zstd' }, compressed: true },
  { title: 'version 2', clusterSize: 1024, options: { compat: '0.10' }, compressed: true },
  { title: 'version 2 over a backing file', clusterSize: 4096, options: { compat: '0.10' }, backing: true },
  {
    title: 'extended L2 entries over a backing file, compressed',
    clusterSize: 16384,
    options: { extended_l2: 'on' },
    backing: true,
    history: compresses,
  },
  { title: 'lazy refcounts', clusterSize: 2048, options: { lazy_refcounts: 'on' }, resizes: true, history: compresses },
  { title: 'refcounts of 2 bits', clusterSize: 512, options: { refcount_bits: 2 }, most: 2 },
  { title: 'refcounts of 4 bits', clusterSize: 4096, options: { refcount_bits: 4 }, most: 10 },
  { title: 'refcounts of 8 bits', clusterSize: 512, options: { refcount_bits: 8 }, backing: true },
  {
    title: 'refcounts of 32 bits',
    clusterSize: 1024,
    options: { refcount_bits: 32 },
    resizes: true,
    history: compresses,
  },
  {
    title: 'refcounts of 64 bits',
    clusterSize: 512,
    options: { refcount_bits: 64 },
    resizes: true,
    history: compresses,
  },
];

const STEPS = 18;

/** Makes the image and the model of what is in it. */
function prepare(path: (name: string) => string, shape: Shape, random: SeededRandom): SnapshotHistory {
  const { clusterSize, options = {}, history } = shape;
  const size = Math.max(196_608, 10 * clusterSize);
  const version = options['compat'] === '0.10' ? 2 : 3;
  const file = path('image.qcow2');
  const create = { cluster_size: clusterSize, ...options };
  const list = Object.entries(create).map(([name, value]) => `${name}=${value}`);
  if (shape.compressed) {
    const content = random.bytes(size).map((byte) => byte & 0x81);
    writeFileSync(path('content'), content);
    qemuImg('convert', '-c', '-O', 'qcow2', '-o', list.join(), path('content'), file);
    const started = new SnapshotHistory({ size, clusterSize, version }, random, history);
    started.model.write(0, content);
    return started;
  }
  const backing = shape.backing ? random.bytes(2 * size) : undefined;
  if (backing) writeFileSync(path('base'), backing);
  qemuCreate(file, {
    size,
    options: create,
    backing: backing && { name: path('base'), format: 'raw' },
  });
  return new SnapshotHistory({ size, clusterSize, version, backing }, random, history);
}

function ourResize(image: Qcow2Image, history: SnapshotHistory, random: SeededRandom): string {
  const size = random.between(1, 100) * image.clusterSize;
  runToEnd(resizeImage(image, { size, shrink: true }));
  becomes(history, size);
  return `we resize to ${size}`;
}

/** One is deleted when there is no room for one more. */
function ourStep(
  image: Qcow2Image,
  history: SnapshotHistory,
  { most = Infinity, resizes }: Shape,
  random: SeededRandom,
): string {
  history.guest(image, random.between(0, 8));
  if (resizes && random.oneIn(6)) return ourResize(image, history, random);
  const full = history.snapshots.length >= most;
  const what = full ? history.delete(image, random.pick(history.snapshots)) : history.step(image);
  if (random.oneIn(3)) expectOurs(image, history);
  return `we ${what}`;
}

describe('snapshots by turns with QEMU', () => {
  for (const [salt, shape] of SHAPES.entries()) {
    it(`are the same for both: ${shape.title}`, async () => {
      const seed = seedOfThisRun(salt + 700);
      await inTemporaryDirectory((path) =>
        withSeed(shape.title, seed, async (random) => {
          const file = path('image.qcow2');
          const { most = Infinity, clusterSize, resizes: resize = false } = shape;
          const history = prepare(path, shape, random);
          const qemu = new QemuTurn(file, clusterSize, history, random);
          for (let step = 0; step < STEPS; step++) {
            let what: string;
            if (random.oneIn(2)) {
              // QEMU leaks VM state of the active disk when that becomes smaller.
              if (resize) await withOurs(file, discardVmState);
              qemu.guest(random.between(0, 8));
              what = qemu.step({ full: history.snapshots.length >= most, resize });
            } else {
              what = await withOurs(file, (image) => ourStep(image, history, shape, random));
            }
            expectCleanCheck(file, `after ${what}, step ${step}`);
            const listed = await withOurs(file, asQemuLists, { readOnly: true });
            expect(listed, `the list after ${what}`).toEqual(qemuSnapshots(file));
            if (random.oneIn(4)) qemu.expectContents(`after ${what}, step ${step}`);
          }
          qemu.expectContents('at the end');
          await withOurs(file, (image) => expectOurs(image, history));
        }),
      );
    });
  }
});
