/**
 * Crashes while a disk is exported that its guest goes on writing: while the moment is taken, copied and released.
 *
 * 1. A check of every crash state, ours and (for some) qemu-img's, finds leaks only; with the dirty bit set, after a repair.
 * 2. Every byte of the disk reads as at the last completed flush, or as a later operation left it. The snapshot of its owner is as it was.
 * 3. The next opening removes what the export has left, and nothing of it takes room: a check finds no leak then.
 *
 * `CRASH_STATES` sets how many states in all, `TEST_SEED` the seed.
 */
import { describe, expect, it } from 'vitest';
import {
  createImage,
  createSnapshot,
  listSnapshots,
  MemoryStorage,
  openImage,
  openSnapshot,
  RawDisk,
  runToEnd,
  type CreateOptions,
  type Qcow2Image,
} from '../../src/index.js';
import { isMoment, removeLeftMoment, takeMoment } from '../../src/operations/snapshots/export-moment.js';
import type { Storage } from '../../src/storage/storage.js';
import { exportJob } from '../../src/worker/export-job.js';
import { act, randomRange, readWhole, type DiskAction } from '../support/disk-actions.js';
import { expectSameBytes, ModelDisk, type Range } from '../support/model-disk.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import {
  BACKING_NAME,
  expectLeaksOnly,
  expectLeaksOnlyByQemu,
  isDirty,
  JUDGED_BY_QEMU,
  runCheck,
} from './crash-judges.js';
import { crashStates, type CrashState } from './crash-states.js';
import { GuestHistory } from './guest-history.js';
import { RecordingStorage } from './recording-storage.js';

const STATES = Number(process.env['CRASH_STATES'] ?? 120);
/** States per recorded run; then a new run with another seed. */
const STATES_PER_RUN = 30;
const SIZE = 150_016;
const ACTIONS: readonly DiskAction[] = ['write', 'write', 'write', 'writeZeroes', 'unmap', 'discard'];

interface Scenario {
  readonly title: string;
  readonly create: Partial<CreateOptions> & { readonly clusterSize: number };
  readonly backing?: boolean;
}

const SCENARIOS: readonly Scenario[] = [
  { title: 'clusters of 4 KiB', create: { clusterSize: 4096 } },
  { title: 'version 2 over a backing file', create: { clusterSize: 512, version: 2 }, backing: true },
  { title: 'extended L2 entries over a backing file', create: { clusterSize: 16384, extendedL2: true }, backing: true },
  { title: 'lazy refcounts', create: { clusterSize: 4096, lazyRefcounts: true } },
];

interface Recorded {
  readonly storage: RecordingStorage;
  readonly start: Uint8Array;
  readonly history: GuestHistory;
  readonly backing: Uint8Array | undefined;
  /** What the snapshot of the owner holds. */
  readonly owned: Uint8Array;
  /** When the moment had been taken, and when it had been released. */
  readonly near: readonly number[];
}

/** Caches so small that tables are evicted. */
function open({ create: { clusterSize } }: Scenario, storage: Storage, backing: Uint8Array | undefined): Qcow2Image {
  return openImage(storage, {
    backing: backing ? new RawDisk(new MemoryStorage(backing.slice())) : null,
    l2CacheSize: 2 * clusterSize,
    refcountCacheSize: 2 * clusterSize,
  });
}

/** A guest's random operations on disk and model. */
class Guest {
  readonly model: ModelDisk;
  readonly #clusterSize: number;
  readonly #random: SeededRandom;

  constructor(
    { create: { clusterSize, version = 3 } }: Scenario,
    backing: Uint8Array | undefined,
    random: SeededRandom,
  ) {
    this.model = new ModelDisk({ size: SIZE, clusterSize, version, backing });
    this.#clusterSize = clusterSize;
    this.#random = random;
  }

  act(image: Qcow2Image): Range {
    const [random, model] = [this.#random, this.model];
    const range = randomRange(random, SIZE, this.#clusterSize, Math.max(8192, 2 * this.#clusterSize));
    act(random.pick(ACTIONS), range, { disk: image, model, random });
    return range;
  }
}

/** A file with a snapshot of its owner's, and what that holds. */
function prepare(scenario: Scenario, backing: Uint8Array | undefined, guest: Guest) {
  const storage = new MemoryStorage();
  const under = backing ? { backing: { name: BACKING_NAME, format: 'raw' } as const } : {};
  createImage(storage, { size: SIZE, ...scenario.create, ...under });
  const image = open(scenario, storage, backing);
  for (let index = 0; index < 20; index++) guest.act(image);
  createSnapshot(image, { name: 'mine' });
  const owned = guest.model.bytes.slice();
  for (let index = 0; index < 10; index++) guest.act(image);
  image.close();
  return { start: storage.toBytes(), owned };
}

function record(scenario: Scenario, random: SeededRandom): Recorded {
  const backing = scenario.backing ? random.bytes(SIZE) : undefined;
  const guest = new Guest(scenario, backing, random);
  const { start, owned } = prepare(scenario, backing, guest);
  const storage = new RecordingStorage(start.slice());
  const image = open(scenario, storage, backing);
  const { model } = guest;
  const history = new GuestHistory(model.bytes);
  const flushed = (): void => history.flushed(storage.events.length, model.bytes);
  const write = (): void => {
    for (let index = 0; index < 6; index++) {
      const begun = storage.events.length;
      history.changed(begun, guest.act(image), model.bytes);
    }
    if (!random.oneIn(3)) return;
    image.flush();
    flushed();
  };
  write();
  const moment = takeMoment(image);
  if (moment === null) throw new Error('there is no moment');
  flushed();
  const near = [storage.events.length];
  const job = exportJob(image, new MemoryStorage(), { of: 'disk', snapshots: true }, { moment });
  do write();
  while (job.next().done !== true);
  const release = moment.release();
  do write();
  while (release.next().done !== true);
  near.push(storage.events.length);
  write();
  image.close();
  flushed();
  return { storage, start, history, backing, owned, near };
}

/** Returns whether the export has left something. */
function judge(scenario: Scenario, recorded: Recorded, state: CrashState, byQemu: boolean): boolean {
  const { history, backing, owned } = recorded;
  if (byQemu) expectLeaksOnlyByQemu([state.file], 'of the state itself');
  const storage = new MemoryStorage(state.file);
  if (!isDirty(state.file)) {
    expectLeaksOnly(state.file, 'of the state itself');
    // What the crash itself has leaked, so that what is left at the end is the export's. Counts of clusters behind the end of the file are
    // of no concern to a check; they would be once the file has grown.
    storage.truncate(storage.size + 64 * scenario.create.clusterSize);
    runCheck(storage, 'leaks');
  }
  const image = open(scenario, storage, backing);
  const isLeft = listSnapshots(image).some(isMoment);
  history.expectKept(state.at, readWhole(image));
  const disk = readWhole(image);
  const removal = removeLeftMoment(image);
  expect(removal !== null).toBe(isLeft);
  if (removal !== null) runToEnd(removal);
  expect(listSnapshots(image).map(({ name }) => name)).toEqual(['mine']);
  expectSameBytes(readWhole(openSnapshot(image, 'mine')), owned, 'the snapshot of the owner');
  expectSameBytes(readWhole(image), disk, 'the disk after the removal');
  image.close();
  const { corruptions, leaks } = runCheck(new MemoryStorage(storage.toBytes()));
  expect({ corruptions, leaks }, `a crash at ${state.at}, keeping ${state.keeping}`).toEqual({
    corruptions: 0,
    leaks: 0,
  });
  return isLeft;
}

describe('a crash during an export of a disk in use', () => {
  it.each(SCENARIOS)('costs leaks at most, and its snapshot goes at the next opening: $title', async (scenario) => {
    const runs = Math.ceil(STATES / SCENARIOS.length / STATES_PER_RUN);
    let left = 0;
    for (let run = 0; run < runs; run++) {
      await withSeed(scenario.title, seedOfThisRun(run), (random) => {
        const recorded = record(scenario, random);
        const choice = { count: STATES_PER_RUN, near: recorded.near };
        let index = 0;
        for (const state of crashStates(recorded.start, recorded.storage.events, choice, random)) {
          if (judge(scenario, recorded, state, index++ % JUDGED_BY_QEMU === 0)) left++;
        }
      });
    }
    expect(left).toBeGreaterThan(0);
  });
});
