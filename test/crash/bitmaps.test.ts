/**
 * Crashes while a guest writes and bitmaps are added, removed, cleared, switched, merged, exported and stored, the disk grows and
 * shrinks, and goes back to a snapshot.
 *
 * 1. A check of every crash state, ours and (for some) qemu-img's, finds leaks only; with the dirty bit set, after a repair.
 * 2. Each bitmap is in use, which means that nobody takes it for true, or it has exactly the marks that were stored, and the disk is
 *    the one that they were stored for. Which bitmaps there are is as at the last operation that ended, or at the one under way.
 * 3. Every byte of the disk reads as at the last flush, or as a later change left it.
 * 4. The image can be written on, and its bitmaps be removed.
 *
 * `CRASH_STATES` sets how many states in all, `TEST_SEED` the seed.
 */
import { describe, expect, it } from 'vitest';
import {
  createImage,
  listBitmaps,
  MemoryStorage,
  openImage,
  removeBitmap,
  resizeImage,
  runToEnd,
  type CreateOptions,
  type Qcow2Image,
} from '../../src/index.js';
import { isZero } from '../../src/util/bytes.js';
import { act, randomRange, readWhole } from '../support/disk-actions.js';
import { ModelDisk } from '../support/model-disk.js';
import { rawBitmaps, sorted } from '../support/raw-bitmaps.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import { BitmapGuest, type DiskChanges, type ExpectedBitmap } from './bitmap-guest.js';
import { expectLeaksOnly, expectLeaksOnlyByQemu, isDirty, JUDGED_BY_QEMU } from './crash-judges.js';
import { crashStates, type CrashState } from './crash-states.js';
import { GuestHistory } from './guest-history.js';
import { RecordingStorage } from './recording-storage.js';

const STATES = Number(process.env['CRASH_STATES'] ?? 280);
/** States per recorded run; then a new run with another seed. */
const STATES_PER_RUN = 50;
const STEPS = 60;
const SIZE = 500_224;

interface Scenario {
  readonly title: string;
  readonly create: Partial<CreateOptions> & { readonly clusterSize: number };
  readonly granularities: readonly number[];
}

const SCENARIOS: readonly Scenario[] = [
  { title: 'clusters of 512 bytes', create: { clusterSize: 512 }, granularities: [512, 1024] },
  { title: 'clusters of 4 KiB', create: { clusterSize: 4096 }, granularities: [512, 4096] },
  { title: 'lazy refcounts', create: { clusterSize: 4096, lazyRefcounts: true }, granularities: [512, 65536] },
  { title: 'clusters of 64 KiB', create: { clusterSize: 65536 }, granularities: [512, 8192] },
];

/** What the file said when nothing was in use: after `ended` events, of which the first that could change it was `begun`. */
interface StoredState {
  readonly begun: number;
  readonly ended: number;
  readonly bitmaps: readonly ExpectedBitmap[];
  readonly disk: Uint8Array;
}

interface Recording {
  readonly storage: RecordingStorage;
  readonly stored: readonly StoredState[];
  readonly history: GuestHistory;
  /** How many events there were before each change that the guest made. */
  readonly changes: readonly number[];
}

const SMALL_CACHES = (clusterSize: number) => ({ l2CacheSize: 2 * clusterSize, refcountCacheSize: 2 * clusterSize });

function record({ create, granularities }: Scenario, random: SeededRandom): Recording {
  const fresh = new MemoryStorage();
  createImage(fresh, { size: SIZE, ...create });
  const storage = new RecordingStorage(fresh.toBytes());
  const image = openImage(storage, SMALL_CACHES(create.clusterSize));
  const model = new ModelDisk({ size: SIZE, clusterSize: create.clusterSize, version: 3 });
  const history = new GuestHistory(model.bytes);
  const guest = new BitmapGuest(image, granularities);
  const changes: number[] = [];
  const stored: StoredState[] = [{ begun: 0, ended: 0, bitmaps: [], disk: model.bytes.slice() }];
  const events = (): number => storage.events.length;
  const disk: DiskChanges = {
    begun: () => void changes.push(events()),
    stored: (step) => {
      const begun = events();
      const result = step();
      stored.push({ begun, ended: events(), bitmaps: guest.expected(), disk: model.bytes.slice() });
      history.flushed(events(), model.bytes);
      return result;
    },
    replaced: (bytes, step) => {
      changes.push(events());
      model.bytes.set(bytes);
      history.changed(events(), { offset: 0, length: SIZE }, model.bytes);
      step();
    },
  };
  for (let index = 0; index < STEPS; index++) {
    if (index === 0 || random.oneIn(4)) {
      guest.operate(model.bytes, disk, random);
      continue;
    }
    const range = randomRange(random, SIZE, create.clusterSize, 60_000);
    const begun = events();
    changes.push(begun);
    act(random.pick(['write', 'write', 'unmap', 'discard'] as const), range, { disk: image, model, random });
    history.changed(begun, range, model.bytes);
    guest.changed(range);
    if (!random.oneIn(5)) continue;
    image.flush();
    history.flushed(events(), model.bytes);
  }
  disk.stored(() => image.close());
  return { storage, stored, history, changes };
}

/** The marks that the file has are those of a stored state, and the disk is that state's. */
function judgeBitmaps(file: Uint8Array, disk: Uint8Array, allowed: readonly StoredState[]): void {
  const found = rawBitmaps(file);
  const valid = found.filter(({ flags }) => (flags & 1) === 0);
  const fits = ({ bitmaps, disk: then }: StoredState): boolean =>
    found.map(({ name }) => name).join() === bitmaps.map(({ name }) => name).join() &&
    valid.every(({ name, granularity, flags, marked }) => {
      const expected = bitmaps.find((bitmap) => bitmap.name === name)!;
      const same = granularity === expected.granularity && flags === expected.flags;
      return same && sorted(marked).join() === expected.marked.join();
    }) &&
    (!valid.some(({ flags }) => flags === 2) || Buffer.compare(disk, then) === 0);
  if (allowed.some(fits)) return;
  const words = found.map(({ name, flags, marked }) => `${name}: flags ${flags}, ${marked.size} marked`);
  throw new Error(`no stored state has these bitmaps: ${words.join('; ')}`);
}

function judge({ create }: Scenario, recording: Recording, state: CrashState, byQemu: boolean): void {
  const { stored, history, changes } = recording;
  const { file, at } = state;
  if (byQemu) expectLeaksOnlyByQemu([file], 'of the state itself');
  if (!isDirty(file)) expectLeaksOnly(file, 'of the state itself');
  const last = stored.findLastIndex(({ ended }) => ended <= at);
  const allowed = stored.slice(last).filter(({ begun }, index) => index === 0 || begun < at);
  const storage = new MemoryStorage(file.slice());
  const image = openImage(storage, SMALL_CACHES(create.clusterSize));
  const whole = readWhole(image);
  const disk = whole.subarray(0, SIZE);
  history.expectKept(at, disk);
  expect(isZero(whole.subarray(SIZE))).toBe(true);
  judgeBitmaps(file, disk, allowed);
  // What was stored is stable: until the guest goes on, nothing is in use.
  const since = stored[last]!.ended;
  const untouched = allowed.length === 1 && !changes.some((begun) => begun >= since && begun < at);
  if (untouched) expect(rawBitmaps(file).filter(({ flags }) => (flags & 1) !== 0)).toEqual([]);
  goOn(image);
  expectLeaksOnly(storage.toBytes(), 'after the guest went on');
  expect(rawBitmaps(storage.toBytes())).toEqual([]);
}

/** The guest writes, bitmaps that were in use stay so, and can be removed; then the disk can be resized. */
function goOn(image: Qcow2Image): void {
  const before = listBitmaps(image);
  image.write(100_000, new Uint8Array(50_000).fill(0x77));
  image.reopen({});
  expect(listBitmaps(image)).toEqual(before);
  for (const { name } of before) removeBitmap(image, name);
  runToEnd(resizeImage(image, { size: 2 * SIZE }));
  image.close();
}

function crash(scenario: Scenario, states: number, random: SeededRandom): void {
  for (let number = 0; number < states;) {
    const recording = record(scenario, random);
    const { start, events } = recording.storage;
    const near = recording.stored.flatMap(({ begun, ended }) => [begun + 3, ended]);
    const count = Math.min(STATES_PER_RUN, states - number);
    for (const state of crashStates(start, events, { count, near }, random)) {
      try {
        judge(scenario, recording, state, number++ % JUDGED_BY_QEMU === 0);
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        const place = `a crash after event ${state.at} of ${events.length}, keeping ${state.keeping}`;
        throw new Error(`${place} (state ${number - 1}): ${reason}`, { cause });
      }
    }
  }
}

describe('after a crash a bitmap is in use, or says what was stored', () => {
  const share = Math.ceil(STATES / SCENARIOS.length);
  SCENARIOS.forEach((scenario, index) => {
    it(
      scenario.title,
      () => withSeed(scenario.title, seedOfThisRun(index + 820), (random) => crash(scenario, share, random)),
      30_000 + 200 * share,
    );
  });
});
