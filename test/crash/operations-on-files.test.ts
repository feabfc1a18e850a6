/**
 * Crashes in what is done to files that no image is open on: creating, repairing, and the repair of a dirty image.
 *
 * - Creating: what is left is no image yet, or an empty one that is sound.
 * - Repairing: the disk reads the same in every state, no state is worse than before, and a second repair finishes the work.
 *
 * `CRASH_STATES` sets how many states in all, `TEST_SEED` the seed.
 */
import { describe, expect, it } from 'vitest';
import { isQcow2Error, MemoryStorage, type Qcow2Image } from '../../src/index.js';
import type { Repair } from '../../src/operations/check/check-image.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import { expectLeaksOnly, expectLeaksOnlyByQemu, isDirty, JUDGED_BY_QEMU, runCheck } from './crash-judges.js';
import { createShape, openShape, prepareImage, SIZE, type ImageShape } from './operation-images.js';
import { crashStatesOfFiles, RecordedFiles, type FileBytes, type FilesState } from './recorded-files.js';

const STATES = Number(process.env['CRASH_STATES'] ?? 400);
const TIMEOUT = 60_000 + 100 * STATES;

type Judge = (state: FilesState, byQemu: boolean) => void;

function crash(recorded: RecordedFiles, states: number, random: SeededRandom, judge: Judge): void {
  let number = 0;
  for (const state of crashStatesOfFiles(recorded, states, random)) {
    try {
      judge(state, number++ % JUDGED_BY_QEMU === 0);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      const place = `a crash after event ${state.at} of ${recorded.length}, keeping ${state.keeping}`;
      throw new Error(`${place}: ${reason}`, { cause });
    }
  }
}

type Titled = ImageShape & { readonly title: string };

const CREATED: readonly Titled[] = [
  { title: 'small clusters', create: { clusterSize: 512, refcountBits: 64 } },
  { title: 'version 2', create: { version: 2 } },
  { title: 'over a backing file, lazy', create: { lazyRefcounts: true }, backing: true },
  { title: 'preallocation metadata', create: { clusterSize: 512, preallocation: 'metadata' } },
  { title: 'preallocation falloc', create: { clusterSize: 4096, preallocation: 'falloc', version: 2 } },
  { title: 'preallocation full, lazy', create: { clusterSize: 4096, preallocation: 'full', lazyRefcounts: true } },
  {
    title: 'extended L2 entries with preallocation over a backing file',
    create: { clusterSize: 16384, extendedL2: true, preallocation: 'metadata' },
    backing: true,
  },
  { title: 'a data file', create: { clusterSize: 4096, compressionType: 'zstd' }, dataFile: 'plain' },
  { title: 'a data file with preallocation', create: { clusterSize: 512, preallocation: 'full' }, dataFile: 'plain' },
  { title: 'a raw data file', create: { clusterSize: 4096 }, dataFile: 'raw' },
];

/** What lay in the files before: bytes that must not show through. */
const RUBBISH = new Uint8Array(3 * SIZE).fill(0xa5);

function isImage(files: readonly FileBytes[], shape: ImageShape): boolean {
  const storages = files.map((bytes) => new MemoryStorage(bytes.slice()));
  try {
    openShape(shape, storages, { readOnly: true });
    return true;
  } catch (error) {
    if (isQcow2Error(error, 'NOT_QCOW2')) return false;
    throw error;
  }
}

function judgeCreated(shape: ImageShape, wanted: Uint8Array, { files }: FilesState, byQemu: boolean): void {
  const storages = files.map((bytes) => new MemoryStorage(bytes));
  if (isImage(files, shape)) {
    if (byQemu) expectLeaksOnlyByQemu(files, 'of what was created');
    if (!isDirty(files[0]!)) expectLeaksOnly(files[0]!, 'of what was created');
    const image = openShape(shape, storages);
    expectSameBytes(readWhole(image), wanted, 'the new disk');
    image.write(100_000, RUBBISH.subarray(0, 9000));
    image.close();
    expectLeaksOnly(storages[0]!.toBytes(), 'of what was created and written');
  }
  createShape(shape, storages);
  const { leaks } = runCheck(storages[0]!);
  expect(leaks, 'leaks after it was created again').toBe(0);
}

describe('a crash while an image is created leaves none, or a whole one', () => {
  const share = Math.ceil(STATES / 2 / CREATED.length);
  CREATED.forEach((shape, index) => {
    it(
      shape.title,
      () => withSeed(shape.title, seedOfThisRun(index + 400), (random) => crashCreation(shape, share, random)),
      TIMEOUT,
    );
  });
});

function crashCreation(shape: ImageShape, states: number, random: SeededRandom): void {
  const recorded = new RecordedFiles(Array.from({ length: shape.dataFile ? 2 : 1 }, () => RUBBISH));
  createShape(shape, recorded.storages);
  const image = openShape(shape, recorded.storages, { readOnly: true });
  const wanted = shape.backing ? readWhole(image) : new Uint8Array(SIZE);
  const judge: Judge = (state, byQemu) => judgeCreated(shape, wanted, state, byQemu);
  crash(recorded, states, random, judge);
  const files = recorded.storages.map((storage) => {
    const bytes = new Uint8Array(storage.size);
    storage.read(0, bytes);
    return bytes;
  });
  expect(isImage(files, shape), 'what is there at the end').toBe(true);
  judge({ at: recorded.length, keeping: 'everything', files }, true);
}

interface RepairScenario extends Titled {
  readonly repair: Repair;
  /** Makes the image need it; not closed afterwards. */
  readonly damage: (image: Qcow2Image) => void;
}

/** Clusters that nothing refers to. They are written, because what lies behind the end of the file is not looked at. */
function leak(image: Qcow2Image): void {
  const { storage, geometry, writable } = image.changeableTables();
  for (let index = 0; index < 40; index++) {
    const { host, count } = writable.allocator.allocate(3);
    storage.write(host, RUBBISH.subarray(0, count * geometry.clusterSize));
  }
  image.flush();
}

/** With the dirty bit set refcounts are not written. */
function writeMuch(image: Qcow2Image): void {
  for (let at = 0; at < SIZE; at += 70_000) image.write(at, new Uint8Array(Math.min(30_000, SIZE - at)).fill(at % 251));
  image.discard(0, SIZE / 4);
  image.flush();
}

const small = { clusterSize: 512 } as const;
const lazy = { clusterSize: 4096, lazyRefcounts: true } as const;

const REPAIRED: readonly RepairScenario[] = [
  { title: 'leaks', create: small, repair: 'leaks', damage: leak },
  { title: 'leaks beside a snapshot', create: small, snapshot: true, compressed: true, repair: 'leaks', damage: leak },
  { title: 'leaks, by repairing all', create: { ...small, refcountBits: 1 }, repair: 'all', damage: leak },
  { title: 'refcounts that are behind', create: lazy, repair: 'all', damage: writeMuch },
  {
    title: 'refcounts that are behind, of compressed clusters beside a snapshot',
    create: { ...small, lazyRefcounts: true },
    snapshot: true,
    compressed: true,
    repair: 'all',
    damage: writeMuch,
  },
  {
    title: 'refcounts that are behind, with extended L2 entries',
    create: { ...lazy, clusterSize: 16384, extendedL2: true },
    repair: 'all',
    damage: writeMuch,
  },
  { title: 'leaks beside a data file', create: small, dataFile: 'plain', repair: 'leaks', damage: leak },
];

async function damaged(scenario: RepairScenario): Promise<readonly Uint8Array[]> {
  const files = (await prepareImage(scenario)).map((bytes) => new MemoryStorage(bytes.slice()));
  scenario.damage(openShape(scenario, files));
  return files.map((file) => file.toBytes());
}

function expectSame(scenario: RepairScenario, files: readonly Uint8Array[], wanted: Uint8Array, when: string): void {
  const storages = files.map((bytes) => new MemoryStorage(bytes.slice()));
  expectSameBytes(readWhole(openShape(scenario, storages, { readOnly: true })), wanted, `the disk ${when}`);
}

function judgeRepaired(scenario: RepairScenario, wanted: Uint8Array, state: FilesState, byQemu: boolean): void {
  if (!isDirty(state.files[0]!)) expectLeaksOnly(state.files[0]!, 'of the state itself');
  expectSame(scenario, state.files, wanted, 'of the state itself');
  if (byQemu) expectLeaksOnlyByQemu(state.files, 'of the state itself');
  const again = state.files.map((bytes) => new MemoryStorage(bytes));
  const { leaks, corruptions, checkErrors } = runCheck(again[0]!, scenario.repair);
  expect({ leaks, corruptions, checkErrors }).toEqual({ leaks: 0, corruptions: 0, checkErrors: 0 });
  const left = again.map((file) => file.toBytes());
  expectSame(scenario, left, wanted, 'after a second repair');
  if (byQemu) expectLeaksOnlyByQemu(left, 'after a second repair');
}

describe('a crash while an image is repaired loses nothing, and a second repair finishes the work', () => {
  const share = Math.ceil(STATES / 2 / REPAIRED.length);
  REPAIRED.forEach((scenario, index) => {
    it(
      scenario.title,
      () => withSeed(scenario.title, seedOfThisRun(index + 500), (random) => crashRepair(scenario, share, random)),
      TIMEOUT,
    );
  });
});

async function crashRepair(scenario: RepairScenario, states: number, random: SeededRandom): Promise<void> {
  const recorded = new RecordedFiles(await damaged(scenario));
  const wanted = readWhole(openShape(scenario, recorded.storages, { readOnly: true }));
  const { leaksFixed, corruptionsFixed } = runCheck(recorded.storages[0]!, scenario.repair);
  expect(leaksFixed + corruptionsFixed, 'what there was to repair').toBeGreaterThan(0);
  crash(recorded, states, random, (state, byQemu) => judgeRepaired(scenario, wanted, state, byQemu));
}
