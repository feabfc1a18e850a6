/**
 * Crash tests: what invariants 1 to 9 of `src/metadata/write-order.ts` promise.
 *
 * 1. In every crash state the image opens for writing.
 * 2. Every byte reads as at the last completed flush, or as a later operation left it.
 * 3. A check of the state finds leaks only; of one with the dirty bit set, after the open has repaired it.
 * 4. The image can be written, flushed and closed again, and is not worse after that.
 *
 * Of an encrypted image a sector is read, encrypted and written whole where a guest writes a part of it. A sector does not tear,
 * so 2 holds to the byte for it, too.
 *
 * `CRASH_STATES` sets how many states in all (`npm run crash` takes many more), `TEST_SEED` the seed.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createImage, MemoryStorage, openImage } from '../../src/index.js';
import { inTemporaryDirectory, qemuCreate, qemuImg, qemuIo } from '../interop/qemu.js';
import { qemuCheckOf, ENCRYPTED_WITH } from './crash-judges.js';
import { readWhole } from '../support/disk-actions.js';
import { sharedEncryption } from '../support/encrypted-image.js';
import { expectSameBytes } from '../support/model-disk.js';
import { SeededRandom, seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { crashStates, type CrashState } from './crash-states.js';
import type { StorageEvent } from './recording-storage.js';
import { openScenario, record, type Recording, type Scenario } from './scenario.js';

const STATES = Number(process.env['CRASH_STATES'] ?? 520);
/** One state in so many is also given to qemu-img. */
const JUDGED_BY_QEMU = 12;
/** States per recorded run; then a new run with another seed. */
const STATES_PER_RUN = 200;
const DIRTY_AT = 79;
const REFCOUNT_TABLE_AT = 48;

/** Bytes that are neither zero nor a pattern of the guest, for backing files. */
function noiseBytes(length: number): Uint8Array {
  return new Uint8Array(length).map((_, index) => 0x80 | (index * 7) | (index >>> 9));
}

const LUKS = await sharedEncryption({ format: 'luks', cipher: 'aes-128', iterTime: 0, passphrase: ENCRYPTED_WITH });
const AES = await sharedEncryption({ format: 'aes', passphrase: ENCRYPTED_WITH });

const SCENARIOS: readonly Scenario[] = [
  {
    title: 'version 3, clusters of 4 KiB',
    create: { size: 0x10_0000, clusterSize: 4096, version: 3 },
    operations: 80,
    longestBytes: 40_000,
  },
  {
    title: 'version 3, clusters of 512 bytes and refcounts of 64 bits, whose table moves',
    create: { size: 0x60_0000, clusterSize: 512, version: 3, refcountBits: 64 },
    operations: 40,
    longestBytes: 600_000,
    movesRefcountTable: true,
  },
  {
    title: 'version 3, lazy refcounts of 64 bits in clusters of 512 bytes, whose table moves',
    create: { size: 0x60_0000, clusterSize: 512, version: 3, refcountBits: 64, lazyRefcounts: true },
    operations: 40,
    longestBytes: 600_000,
    movesRefcountTable: true,
  },
  {
    title: 'version 2, clusters of 4 KiB, over a backing file',
    create: { size: 0x10_0000, clusterSize: 4096, version: 2, backing: { name: 'base', format: 'raw' } },
    backing: noiseBytes(0xc_0000),
    operations: 80,
    longestBytes: 30_000,
  },
  {
    title: 'version 3, clusters of 64 KiB, over a backing file, refcounts of 1 bit',
    create: {
      ...{ size: 0x20_0000, clusterSize: 65536, version: 3, refcountBits: 1 },
      backing: { name: 'base', format: 'raw' },
    },
    backing: noiseBytes(0x18_0000),
    operations: 60,
    longestBytes: 150_000,
  },
  {
    title: 'version 3, lazy refcounts',
    create: { size: 0x10_0000, clusterSize: 4096, version: 3, lazyRefcounts: true },
    operations: 80,
    longestBytes: 40_000,
  },
  {
    title: 'version 3, clusters of 512 bytes, a disk that grows and its L1 table with it',
    create: { size: 0x6_0000, clusterSize: 512, version: 3 },
    growTo: 0x28_0000,
    operations: 80,
    longestBytes: 20_000,
  },
  {
    title: 'version 3, whose refcounts are lazy or not, and whose options change all the time',
    create: { size: 0x10_0000, clusterSize: 4096, version: 3 },
    operations: 80,
    longestBytes: 40_000,
    reopens: true,
  },
  {
    title: 'LUKS, clusters of 4 KiB',
    create: { size: 0x10_0000, clusterSize: 4096, version: 3, encryption: LUKS },
    operations: 80,
    longestBytes: 40_000,
  },
  {
    title: 'legacy AES over a backing file, with lazy refcounts',
    create: {
      ...{ size: 0x10_0000, clusterSize: 4096, version: 3, lazyRefcounts: true, encryption: AES },
      backing: { name: 'base', format: 'raw' },
    },
    backing: noiseBytes(0xc_0000),
    operations: 80,
    longestBytes: 30_000,
  },
];

/** An image with a snapshot and compressed clusters, made by QEMU: shared clusters are copied while it crashes. */
function snapshotScenario(): Promise<Scenario> {
  return inTemporaryDirectory((path) => {
    const file = path('image.qcow2');
    const size = 0x10_0000;
    qemuCreate(file, { size, options: { cluster_size: 4096 } });
    const bytes = new Uint8Array(size).fill(1, 0, 0x4_0000).fill(2, 0x8_0000, 0x8_4000);
    qemuIo(file, ['write -P 1 0 256k', ...[0, 1, 2, 3].map((index) => `write -c -P 2 ${0x8_0000 + index * 4096} 4k`)]);
    qemuImg('snapshot', '-c', 'before', file);
    return {
      title: 'with a snapshot and compressed clusters',
      create: { size, clusterSize: 4096, version: 3 },
      startFrom: { file: new Uint8Array(readFileSync(file)), bytes },
      operations: 60,
      longestBytes: 30_000,
    };
  });
}

/** An image whose writer died with the dirty bit set: the repair on open is crashed, too. */
function dirtyScenario(create: Scenario['create']): Scenario {
  const storage = new MemoryStorage();
  createImage(storage, create);
  const image = openImage(storage);
  for (let index = 0; index < 20; index++) image.write(index * 50_000, new Uint8Array(20_000).fill(index + 1));
  image.discard(100_000, 200_000);
  image.flush();
  const bytes = readWhole(image);
  const file = storage.toBytes();
  return {
    title: 'left dirty, and repaired',
    create,
    startFrom: { file, bytes },
    operations: 12,
    longestBytes: 30_000,
  };
}

const DIRTY = { size: 0x10_0000, version: 3, lazyRefcounts: true } as const;

/** qemu-img must find no corruption in `file`; with `repair`, none after it has repaired what it found. */
async function expectLeaksOnly(file: Uint8Array, when: string, repair = false): Promise<void> {
  await inTemporaryDirectory((path) => {
    const image = path('state.qcow2');
    writeFileSync(image, file);
    // A check looks at this image's own tables only, but it wants the backing file to be there.
    writeFileSync(path('base'), '');
    if (repair) qemuCheckOf(image, 'all');
    const { corruptions, checkErrors, output } = qemuCheckOf(image);
    expect({ corruptions, checkErrors }, `${when}: ${output}`).toEqual({ corruptions: 0, checkErrors: 0 });
  });
}

async function judge(scenario: Scenario, { history }: Recording, state: CrashState, byQemu: boolean): Promise<void> {
  const dirty = ((state.file[DIRTY_AT] ?? 0) & 1) === 1 && scenario.create.version === 3;
  if (byQemu) await expectLeaksOnly(state.file, 'qemu-img on the state itself', dirty);
  const storage = new MemoryStorage(state.file);
  const image = openScenario(scenario, storage);
  const disk = readWhole(image);
  history.expectKept(state.at, disk);

  const mark = new Uint8Array(5000).fill(0x77);
  const place = image.size - 70_001;
  image.write(place, mark);
  disk.set(mark, place);
  image.flush();
  expectSameBytes(readWhole(image), disk, 'the disk after a write to the recovered image');
  image.close();
  if (byQemu) await expectLeaksOnly(storage.toBytes(), 'qemu-img after it was opened, written and closed');
}

/** Where the header is given another refcount table, as indices of events. */
function tableMoves(events: readonly StorageEvent[]): number[] {
  return events.flatMap((event, index) =>
    event.kind === 'write' && event.offset === REFCOUNT_TABLE_AT && event.bytes.length === 12 ? [index] : [],
  );
}

async function crashScenario(scenario: Scenario, states: number, random: SeededRandom): Promise<void> {
  let judged = 0;
  while (judged < states) {
    const recording = record(scenario, random);
    const { start, events } = recording.storage;
    const moves = tableMoves(events);
    if (scenario.movesRefcountTable && moves.length === 0) continue; // with another run it does
    const near = scenario.movesRefcountTable ? moves : [];
    for (const state of crashStates(
      start,
      events,
      { count: Math.min(STATES_PER_RUN, states - judged), near },
      random,
    )) {
      try {
        await judge(scenario, recording, state, judged % JUDGED_BY_QEMU === 0);
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        const place = `a crash after event ${state.at} of ${events.length}, keeping ${state.keeping}`;
        throw new Error(`${place} (state ${judged}): ${reason}`, { cause });
      }
      judged++;
    }
  }
}

describe('after a crash an image opens, keeps what was flushed, and has leaks at most', () => {
  const share = Math.ceil(STATES / (SCENARIOS.length + 3));
  const timeout = 30_000 + 100 * share;
  SCENARIOS.forEach((scenario, index) => {
    it(
      scenario.title,
      () => withSeed(scenario.title, seedOfThisRun(index), (random) => crashScenario(scenario, share, random)),
      timeout,
    );
  });

  for (const [title, make, salt] of [
    ['with a snapshot and compressed clusters', snapshotScenario, 98],
    ['left dirty, and repaired', () => dirtyScenario({ ...DIRTY, clusterSize: 4096 }), 99],
    // 64 clusters to a block: the table in the file names the first of many.
    [
      'left dirty with refcount blocks that never reached the table, and repaired',
      () => dirtyScenario({ ...DIRTY, clusterSize: 512, refcountBits: 64 }),
      100,
    ],
  ] as const) {
    it(
      title,
      async () => {
        const scenario = await make();
        await withSeed(title, seedOfThisRun(salt), (random) => crashScenario(scenario, share, random));
      },
      timeout,
    );
  }
});
