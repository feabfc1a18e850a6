/**
 * Random sequences of all operations, ours and QEMU's taking turns on one image:
 *
 * - ours: write, compressed write, zeroes, discard, flush, resize with any preallocation, amend (version, refcount width, lazy
 *   refcounts, name of the backing file), reopen with other options, let go and take up again, emptying, check
 * - qemu-io's and qemu-img's: write, compressed write, zeroes, discard, resize, amend
 *
 * After each turn `qemu-img check` finds nothing, not even a leak, and the other side reads what a plain byte array holds.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { isQcow2Error, type Qcow2Image } from '../../src/index.js';
import { amendImage, type AmendOptions } from '../../src/operations/amend.js';
import { checkImage } from '../../src/operations/check/check-image.js';
import { makeEmpty } from '../../src/operations/make-empty.js';
import { resizeImage } from '../../src/operations/resize.js';
import { runToEnd } from '../../src/util/steps.js';
import { act, randomRange, readWhole, type DiskAction } from '../support/disk-actions.js';
import { expectSameBytes, ModelDisk } from '../support/model-disk.js';
import { roundsOfThisRun } from '../support/campaign.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import { withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCreate, qemuImg, qemuIo } from './qemu.js';

const KIB = 1024;
const START_SIZE = 1536 * KIB + 512;
const LARGEST_SIZE = 3072 * KIB;
const ROUNDS = roundsOfThisRun(6);
const OURS_PER_TURN = 30;
const QEMUS_PER_TURN = 15;

interface Shape {
  readonly title: string;
  readonly clusterSize: number;
  /** For `qemu-img create -o`. */
  readonly options: Readonly<Record<string, string | number>>;
  /** Over a raw file that is shorter than the largest disk and longer than the smallest. */
  readonly backing?: boolean;
  readonly dataFile?: 'plain' | 'raw';
  /** The version stays 3: there is something that version 2 does not have. */
  readonly newer?: boolean;
}

const SHAPES: readonly Shape[] = [
  { title: 'version 3', clusterSize: 64 * KIB, options: {} },
  { title: 'clusters of 512 bytes', clusterSize: 512, options: { refcount_bits: 64 } },
  { title: 'version 2 over a backing file', clusterSize: 4 * KIB, options: { compat: '0.10' }, backing: true },
  {
    title: 'refcounts of 1 bit over a backing file',
    clusterSize: 4 * KIB,
    options: { refcount_bits: 1 },
    backing: true,
  },
  { title: 'lazy refcounts', clusterSize: 4 * KIB, options: { lazy_refcounts: 'on' } },
  { title: 'zstd', clusterSize: 16 * KIB, options: { compression_type: 'zstd' }, newer: true },
  { title: 'extended L2 entries', clusterSize: 16 * KIB, options: { extended_l2: 'on' }, newer: true },
  {
    title: 'extended L2 entries over a backing file',
    clusterSize: 64 * KIB,
    options: { extended_l2: 'on', compression_type: 'zstd' },
    backing: true,
    newer: true,
  },
  { title: 'a data file over a backing file', clusterSize: 4 * KIB, options: {}, backing: true, dataFile: 'plain' },
  { title: 'a raw data file', clusterSize: 64 * KIB, options: {}, dataFile: 'raw' },
];

/** What the guest must read, while its disk is resized and emptied. */
class ChangingModel {
  readonly #backing: Uint8Array | undefined;
  readonly #clusterSize: number;
  disk: ModelDisk;

  constructor(clusterSize: number, version: 2 | 3, backing: Uint8Array | undefined) {
    this.#clusterSize = clusterSize;
    this.#backing = backing;
    this.disk = new ModelDisk({ size: START_SIZE, clusterSize, version, backing });
  }

  /** The same bytes, cut off or with zeroes behind them. */
  become(size: number, version: 2 | 3): void {
    const { bytes } = this.disk;
    this.disk = new ModelDisk({ size, clusterSize: this.#clusterSize, version, backing: this.#backing });
    this.disk.writeZeroes(0, size);
    this.disk.write(0, bytes.subarray(0, size));
  }

  /** What lies below shows through. */
  empty(): void {
    const { bytes } = this.disk;
    bytes.fill(0).set((this.#backing ?? new Uint8Array(0)).subarray(0, bytes.length));
  }
}

interface Game {
  readonly shape: Shape;
  readonly file: string;
  readonly backingName: string;
  readonly model: ChangingModel;
  readonly random: SeededRandom;
}

const GUEST_ACTIONS: readonly DiskAction[] = ['write', 'write', 'write', 'writeZeroes', 'unmap', 'discard', 'read'];

/** One operation of ours. */
function ourOperation(image: Qcow2Image, game: Game): void {
  const { random, model } = game;
  switch (random.below(16)) {
    case 0:
      return ourResize(image, game);
    case 1:
      return ourAmend(image, game);
    case 2:
      return ourCompressedWrite(image, game);
    case 3:
      return image.flush();
    case 4:
      return takeUpAgain(image, game);
    case 5:
      return expectSound(image);
    case 6:
      if (!random.oneIn(4)) return;
      runToEnd(makeEmpty(image));
      return model.empty();
    default: {
      const range = randomRange(random, image.size, image.clusterSize, 2.5 * image.clusterSize + 40_000);
      act(random.pick(GUEST_ACTIONS), range, { disk: image, model: model.disk, random });
    }
  }
}

function ourResize(image: Qcow2Image, { random, model }: Game): void {
  const size = 512 * random.between(1, LARGEST_SIZE / 512);
  const overBacking = image.backing !== null;
  const preallocation =
    size > image.size && !overBacking ? random.pick(['off', 'metadata', 'falloc', 'full'] as const) : 'off';
  runToEnd(resizeImage(image, { size, shrink: true, preallocation }));
  model.become(size, image.header.version);
}

function ourAmend(image: Qcow2Image, game: Game): void {
  const options = randomAmend(image, game);
  try {
    runToEnd(amendImage(image, options));
  } catch (error) {
    // Compressed clusters that share a host cluster can be too many for a small width. Nothing has changed then.
    if (options.refcountBits === undefined || !isQcow2Error(error, 'LIMIT')) throw error;
  }
  game.model.become(image.size, image.header.version);
}

function randomAmend(image: Qcow2Image, { shape, random, backingName }: Game): AmendOptions {
  const refcountBits = random.pick([1, 2, 4, 8, 16, 32, 64]);
  const choice = random.below(shape.backing ? 4 : 3);
  // A longer or shorter way to the same file.
  if (choice === 3)
    return { backing: { name: random.oneIn(2) ? backingName : backingName.replace(/base$/, './base'), format: 'raw' } };
  if (image.header.version === 2) return choice === 0 ? { version: 3, refcountBits } : { version: 3 };
  if (choice === 0) return { refcountBits };
  if (choice === 1) return { lazyRefcounts: random.oneIn(2) };
  const stays = shape.newer === true || shape.dataFile !== undefined;
  return stays || image.refcountBits < 16 ? { refcountBits: 16 } : { version: 2, refcountBits: 16 };
}

function ourCompressedWrite(image: Qcow2Image, { shape, model, random }: Game): void {
  if (shape.dataFile) return;
  const { size, clusterSize } = image;
  const offset = random.below(Math.ceil(size / clusterSize)) * clusterSize;
  const step = random.between(1, 200);
  const length = Math.min(size - offset, clusterSize * random.between(1, 3));
  const content = random.oneIn(5)
    ? random.bytes(length)
    : Uint8Array.from({ length }, (_, index) => (index * step) >> 7);
  image.writeCompressed(offset, content);
  model.disk.write(offset, content);
}

function takeUpAgain(image: Qcow2Image, { random }: Game): void {
  switch (random.below(4)) {
    case 0:
      return image.reopen({ overlapCheck: random.pick(['none', 'constant', 'cached', 'all'] as const) });
    case 1:
      image.reopen({ readOnly: true });
      return image.reopen({ readOnly: false });
    case 2:
      image.inactivate();
      return image.invalidate();
    default:
      return image.reopen({ l2CacheSize: random.pick([1, 128]) * KIB, discard: { other: random.oneIn(2) } });
  }
}

function expectSound(image: Qcow2Image): void {
  const job = checkImage(image);
  for (;;) {
    const { done, value } = job.next();
    if (!done) continue;
    const { corruptions, checkErrors, leaks, findings } = value;
    const nothing = { corruptions: 0, checkErrors: 0, leaks: 0 };
    expect({ corruptions, checkErrors, leaks }, findings[0]?.message).toEqual(nothing);
    return;
  }
}

/** Clusters that hold nothing: the only ones that QEMU writes compressed. */
function emptyClusters(image: Qcow2Image): number[] {
  const clusters: number[] = [];
  for (let cluster = 0; (cluster + 1) * image.clusterSize <= image.size; cluster++) {
    const [extent] = image.extents(cluster * image.clusterSize, image.clusterSize);
    const nothing = extent?.kind === 'unallocated' || extent?.kind === 'backing';
    if (nothing && extent.host === undefined && extent.length === image.clusterSize) clusters.push(cluster);
  }
  return clusters;
}

/** What QEMU's guest does, for one qemu-io; the model has it done already. */
function qemuCommands(empty: number[], { shape, model, random }: Game): string[] {
  const commands: string[] = [];
  const { disk } = model;
  // First, because QEMU 7.2 uses the place behind compressed data again after it has been freed.
  for (let count = shape.dataFile ? 0 : 3; count > 0 && empty.length > 0; count--) {
    const [cluster] = empty.splice(random.below(empty.length), 1);
    const pattern = random.between(1, 255);
    const offset = cluster! * shape.clusterSize;
    disk.write(offset, new Uint8Array(shape.clusterSize).fill(pattern));
    commands.push(`write -c -P ${pattern} ${offset} ${shape.clusterSize}`);
  }
  for (let count = 0; count < QEMUS_PER_TURN; count++) {
    const { offset, length } = randomRange(random, disk.size, shape.clusterSize, 2.5 * shape.clusterSize + 40_000);
    const action = random.pick(['write', 'write', 'write -z', 'write -z -u', 'discard'] as const);
    if (action === 'discard') disk.discard(offset, length);
    else if (action !== 'write') disk.writeZeroes(offset, length);
    const pattern = random.between(1, 255);
    if (action === 'write') disk.write(offset, new Uint8Array(length).fill(pattern));
    commands.push(`${action} ${action === 'write' ? `-P ${pattern} ` : ''}${offset} ${length}`);
  }
  return commands;
}

/** The version that the image has after it. */
function qemuAmend(image: { readonly version: 2 | 3; readonly refcountBits: number }, game: Game): 2 | 3 {
  const { shape, file, random } = game;
  const amend = (options: string) => qemuImg('amend', '-f', 'qcow2', '-o', options, file);
  if (image.version === 2) {
    amend('compat=1.1');
    return 3;
  }
  if (random.oneIn(2) || shape.newer || shape.dataFile) {
    // QEMU, too, refuses a width that a count does not fit.
    amend(
      random.oneIn(3) ? `lazy_refcounts=${random.pick(['on', 'off'])}` : `refcount_bits=${random.pick([8, 16, 64])}`,
    );
    return 3;
  }
  if (image.refcountBits !== 16) amend('refcount_bits=16');
  amend('lazy_refcounts=off');
  amend('compat=0.10');
  return 2;
}

async function qemuTurn(game: Game): Promise<void> {
  const { file, model, random } = game;
  const seen = await withOurs(
    file,
    (image) => ({ empty: emptyClusters(image), version: image.header.version, refcountBits: image.refcountBits }),
    { readOnly: true },
  );
  qemuIo(file, qemuCommands(seen.empty, game));
  let { version } = seen;
  if (random.oneIn(2)) version = qemuAmend(seen, game);
  const { size } = model.disk;
  model.become(random.oneIn(2) ? qemuResize(version, game) : size, version);
}

/** The size that the disk has after it. */
function qemuResize(version: 2 | 3, { shape, file, model, random }: Game): number {
  const { size: old } = model.disk;
  // QEMU can't hide a backing file behind the end of a version 2 disk.
  const largest = version === 2 && shape.backing ? old : LARGEST_SIZE;
  const size = 512 * random.between(1, largest / 512);
  qemuImg('resize', '-q', '-f', 'qcow2', '--shrink', file, String(size));
  // Without a backing file QEMU shows again what a larger disk left in the last cluster. We make that zeroes.
  const clusterEnd = Math.min(size, Math.ceil(old / shape.clusterSize) * shape.clusterSize);
  if (clusterEnd > old) qemuIo(file, [`write -z ${old} ${clusterEnd - old}`]);
  return size;
}

function createShape(shape: Shape, path: (name: string) => string): Uint8Array | undefined {
  const { clusterSize, dataFile } = shape;
  const beside = dataFile ? { data_file: path('data'), data_file_raw: dataFile === 'raw' ? 'on' : 'off' } : {};
  const options = { ...shape.options, ...beside, cluster_size: clusterSize };
  if (!shape.backing) {
    qemuCreate(path('image.qcow2'), { size: START_SIZE, options });
    return undefined;
  }
  const backing = new Uint8Array(START_SIZE + 300 * KIB).map((_, index) => 0x80 | (index >>> 9));
  writeFileSync(path('base'), backing);
  qemuCreate(path('image.qcow2'), { size: START_SIZE, options, backing: { name: path('base'), format: 'raw' } });
  return backing;
}

async function play(shape: Shape, path: (name: string) => string, random: SeededRandom): Promise<void> {
  const backing = createShape(shape, path);
  const file = path('image.qcow2');
  const version = shape.options['compat'] === '0.10' ? 2 : 3;
  const model = new ChangingModel(shape.clusterSize, version, backing);
  const game: Game = { shape, file, backingName: path('base'), model, random };
  for (let round = 1; round <= ROUNDS; round++) {
    await withOurs(file, (image) => {
      for (let count = 0; count < OURS_PER_TURN; count++) ourOperation(image, game);
    });
    expectCleanCheck(file, `after our turn ${round}`);
    expectSameBytes(qemuBytes(file), model.disk.bytes, `what QEMU reads after our turn ${round}`);
    await qemuTurn(game);
    expectCleanCheck(file, `after QEMU's turn ${round}`);
    const ours = await withOurs(file, (image) => readWhole(image), { readOnly: true });
    expectSameBytes(ours, model.disk.bytes, `what we read after QEMU's turn ${round}`);
    if (shape.dataFile === 'raw') {
      const raw = readFileSync(path('data')).subarray(0, model.disk.size);
      expectSameBytes(raw, model.disk.bytes, `the raw data file after turn ${round}`);
    }
  }
}

describe('random sequences of all operations, in turns with QEMU, keep guest data and leave nothing to repair', () => {
  SHAPES.forEach((shape, index) => {
    it(shape.title, () =>
      withSeed(shape.title, seedOfThisRun(9000 + index), (random) =>
        inTemporaryDirectory((path) => play(shape, path, random)),
      ),
    );
  });
});
