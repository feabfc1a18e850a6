/**
 * Crashes while a guest uses the newer features: compressed writes, extended L2 entries, external data files, holes.
 *
 * 1. A check of every crash state, ours and (for some) qemu-img's, finds leaks only; with the dirty bit set, after a repair.
 * 2. Every byte reads as at the last completed flush, or as a later operation left it. That goes for a
 *    raw data file, too.
 * 3. The guest can go on: write, write compressed, discard, flush, close.
 *
 * `CRASH_STATES` sets how many states in all, `TEST_SEED` the seed.
 */
import { describe, it } from 'vitest';
import { MemoryStorage, type OpenOptions, type Qcow2Image } from '../../src/index.js';
import { act, randomRange, readWhole, type DiskAction } from '../support/disk-actions.js';
import { expectSameBytes, ModelDisk, type Range } from '../support/model-disk.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import { expectLeaksOnly, expectLeaksOnlyByQemu, isDirty, JUDGED_BY_QEMU } from './crash-judges.js';
import { GuestHistory } from './guest-history.js';
import { openShape, prepareImage, type ImageShape } from './operation-images.js';
import { crashStatesOfFiles, RecordedFiles, type FilesState } from './recorded-files.js';

const STATES = Number(process.env['CRASH_STATES'] ?? 380);
/** States per recorded run; then a new run with another seed. */
const STATES_PER_RUN = 60;
const OPERATIONS = 70;

interface GuestScenario extends ImageShape {
  readonly title: string;
  readonly longestBytes: number;
  readonly open?: OpenOptions;
}

const medium = { clusterSize: 4096 } as const;
const extended = { clusterSize: 16384, extendedL2: true } as const;
/** All that is freed becomes a hole. */
const holes: OpenOptions = { discard: { request: true, snapshot: true, other: true } };

const SCENARIOS: readonly GuestScenario[] = [
  {
    title: 'compressed clusters, packed and overwritten',
    create: medium,
    compressed: true,
    longestBytes: 20_000,
  },
  {
    title: 'zstd clusters of 64 KiB and lazy refcounts',
    create: { clusterSize: 65536, compressionType: 'zstd', lazyRefcounts: true },
    compressed: true,
    longestBytes: 90_000,
  },
  {
    title: 'compressed clusters of 512 bytes in version 2 over a backing file',
    create: { clusterSize: 512, version: 2 },
    backing: true,
    compressed: true,
    longestBytes: 8000,
  },
  {
    title: 'compressed clusters beside a snapshot, with holes for all that is freed',
    create: medium,
    snapshot: true,
    compressed: true,
    open: holes,
    longestBytes: 30_000,
  },
  { title: 'extended L2 entries', create: extended, longestBytes: 30_000 },
  {
    title: 'extended L2 entries over a backing file, compressed, with holes',
    create: extended,
    backing: true,
    compressed: true,
    open: holes,
    longestBytes: 40_000,
  },
  {
    title: 'extended L2 entries beside a snapshot, lazy',
    create: { ...extended, lazyRefcounts: true },
    snapshot: true,
    compressed: true,
    longestBytes: 40_000,
  },
  { title: 'a data file', create: medium, dataFile: 'plain', backing: true, open: holes, longestBytes: 30_000 },
  {
    title: 'a data file and extended L2 entries, lazy',
    create: { ...extended, lazyRefcounts: true },
    dataFile: 'plain',
    longestBytes: 40_000,
  },
  { title: 'a raw data file', create: medium, dataFile: 'raw', open: holes, longestBytes: 30_000 },
];

type GuestAction = DiskAction | 'compressed' | 'flush' | 'reopen';

const ACTIONS: readonly GuestAction[] = [
  ...(['write', 'write', 'write', 'writeZeroes', 'unmap', 'discard', 'discard', 'flush'] as const),
  ...(['compressed', 'compressed', 'compressed'] as const),
];

interface Recorded {
  readonly files: RecordedFiles;
  readonly history: GuestHistory;
}

/** Caches so small that tables are evicted all the time. */
function open(scenario: GuestScenario, files: readonly Parameters<typeof openShape>[1][number][]): Qcow2Image {
  const { clusterSize = 65536 } = scenario.create ?? {};
  const sizes = { l2CacheSize: 2 * clusterSize, refcountCacheSize: 2 * clusterSize, l2CacheEntrySize: 512 };
  return openShape(scenario, files, { ...sizes, ...scenario.open });
}

function record(scenario: GuestScenario, start: readonly Uint8Array[], random: SeededRandom): Recorded {
  const files = new RecordedFiles(start);
  const image = open(scenario, files.storages);
  const { version } = image.header;
  const { clusterSize, size } = image;
  // The discards of version 2 depend on whether there is a backing file, not on what it holds.
  const backing = scenario.backing ? new Uint8Array(0) : undefined;
  const model = new ModelDisk({ size, clusterSize, version, backing });
  model.write(0, readWhole(image));
  const history = new GuestHistory(model.bytes);
  const actions = ACTIONS.filter((action) => action !== 'compressed' || !scenario.dataFile);
  for (let index = 0; index < OPERATIONS; index++) {
    const action = random.oneIn(25) ? 'reopen' : random.pick(actions);
    if (action === 'flush' || action === 'reopen') {
      if (action === 'flush') image.flush();
      else image.reopen({});
      history.flushed(files.length, model.bytes);
      continue;
    }
    const begun = files.length;
    const wanted = randomRange(random, size, clusterSize, scenario.longestBytes);
    const range = action === 'compressed' ? wholeClusters(wanted, image) : wanted;
    if (action === 'compressed') writeCompressed(image, model, range, random);
    else act(action, range, { disk: image, model, random });
    history.changed(begun, range, model.bytes);
  }
  image.close();
  history.flushed(files.length, model.bytes);
  return { files, history };
}

/** The clusters that `range` touches. */
function wholeClusters({ offset, length }: Range, { clusterSize, size }: Qcow2Image): Range {
  const start = Math.floor(offset / clusterSize) * clusterSize;
  return { offset: start, length: Math.min(size, Math.ceil((offset + length) / clusterSize) * clusterSize) - start };
}

/** Content that gets much smaller, so that clusters are packed, or now and then noise. */
function writeCompressed(image: Qcow2Image, model: ModelDisk, { offset, length }: Range, random: SeededRandom): void {
  const step = random.between(1, 100);
  const content = random.oneIn(6)
    ? random.bytes(length)
    : Uint8Array.from({ length }, (_, index) => (index * step) >> 8);
  image.writeCompressed(offset, content);
  model.write(offset, content);
}

function judge(scenario: GuestScenario, { history }: Recorded, state: FilesState, byQemu: boolean): void {
  if (byQemu) expectLeaksOnlyByQemu(state.files, 'of the state itself');
  if (!isDirty(state.files[0]!)) expectLeaksOnly(state.files[0]!, 'of the state itself');
  const files = state.files.map((bytes) => new MemoryStorage(bytes));
  const image = open(scenario, files);
  const disk = readWhole(image);
  history.expectKept(state.at, disk);
  if (scenario.dataFile === 'raw') {
    history.expectKept(state.at, files[1]!.toBytes().subarray(0, disk.length));
  }
  goOn(image, disk, scenario.dataFile === undefined);
  const left = files.map((file) => file.toBytes());
  expectLeaksOnly(left[0]!, 'after the guest went on');
  if (byQemu) expectLeaksOnlyByQemu(left, 'after the guest went on');
}

/** Some changes everywhere, a flush between them; then the image is closed. */
function goOn(image: Qcow2Image, disk: Uint8Array, compress: boolean): void {
  const { clusterSize, size } = image;
  const cluster = new Uint8Array(clusterSize).fill(0x55);
  const compressedEnd = compress ? size - clusterSize : 0;
  for (let at = 0; at < compressedEnd; at += 8 * clusterSize) {
    image.writeCompressed(at, cluster);
    disk.set(cluster, at);
  }
  image.flush();
  const mark = new Uint8Array(5000).fill(0x77);
  for (let at = 3000; at + mark.length <= size; at += 100_000) {
    image.write(at, mark);
    disk.set(mark, at);
  }
  image.writeZeroes(20_000, 70_000, { unmap: true });
  disk.fill(0, 20_000, 90_000);
  expectSameBytes(readWhole(image), disk, 'the disk after the guest went on');
  image.close();
}

async function crash(scenario: GuestScenario, states: number, random: SeededRandom): Promise<void> {
  const start = await prepareImage(scenario);
  for (let number = 0; number < states;) {
    const recorded = record(scenario, start, random);
    for (const state of crashStatesOfFiles(recorded.files, Math.min(STATES_PER_RUN, states - number), random)) {
      try {
        judge(scenario, recorded, state, number++ % JUDGED_BY_QEMU === 0);
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        const place = `a crash after event ${state.at} of ${recorded.files.length}, keeping ${state.keeping}`;
        throw new Error(`${place} (state ${number - 1}): ${reason}`, { cause });
      }
    }
  }
}

describe('after a crash an image with newer features opens, keeps what was flushed, and has leaks at most', () => {
  const share = Math.ceil(STATES / SCENARIOS.length);
  SCENARIOS.forEach((scenario, index) => {
    it(
      scenario.title,
      () => withSeed(scenario.title, seedOfThisRun(index + 300), (random) => crash(scenario, share, random)),
      30_000 + 200 * share,
    );
  });
});
