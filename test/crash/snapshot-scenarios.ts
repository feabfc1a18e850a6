/**
 * Recorded runs to crash: a guest that writes, and snapshots with VM state that come, are gone to, replaced and deleted. What
 * the disk and the snapshots are is kept for each moment.
 */
import {
  createImage,
  deleteSnapshot,
  MemoryStorage,
  openImage,
  RawDisk,
  runToEnd,
  type CreateOptions,
  type Qcow2Image,
} from '../../src/index.js';
import type { Storage } from '../../src/storage/storage.js';
import { sharedEncryption } from '../support/encrypted-image.js';
import type { SeededRandom } from '../support/seeded-random.js';
import { SnapshotHistory, type HistoryOptions, type ModelSnapshot } from '../support/snapshot-history.js';
import { BACKING_NAME, ENCRYPTED_WITH } from './crash-judges.js';
import { RecordingStorage } from './recording-storage.js';

export interface SnapshotScenario {
  readonly title: string;
  readonly create: Omit<CreateOptions, 'size' | 'backing'> & { readonly clusterSize: number };
  /** Over a raw disk that is twice as long. */
  readonly backing?: boolean;
  /** Snapshots at one time, at most; narrow refcounts hold no more. */
  readonly most?: number;
  readonly history?: HistoryOptions;
  /** The guest writes nothing: what is old is freed after the switch then. */
  readonly holdsNothing?: boolean;
}

const LUKS = await sharedEncryption({ format: 'luks', cipher: 'aes-128', iterTime: 0, passphrase: ENCRYPTED_WITH });
const AES = await sharedEncryption({ format: 'aes', passphrase: ENCRYPTED_WITH });

const packed: HistoryOptions = { compresses: true, resizes: true };

export const SNAPSHOT_SCENARIOS: readonly SnapshotScenario[] = [
  { title: 'clusters of 512 bytes', create: { clusterSize: 512 }, history: { resizes: true } },
  { title: 'clusters of 4 KiB, compressed state', create: { clusterSize: 4096 }, history: packed },
  { title: 'clusters of 64 KiB', create: { clusterSize: 65536 }, history: { compresses: true } },
  {
    title: 'extended L2 entries over a backing file',
    create: { clusterSize: 16384, extendedL2: true },
    backing: true,
    history: { compresses: true },
  },
  { title: 'version 2', create: { clusterSize: 4096, version: 2 }, history: { compresses: true } },
  { title: 'version 2 over a backing file', create: { clusterSize: 512, version: 2 }, backing: true },
  { title: 'lazy refcounts', create: { clusterSize: 4096, lazyRefcounts: true }, history: packed },
  { title: 'lazy refcounts, clusters of 512 bytes', create: { clusterSize: 512, lazyRefcounts: true } },
  { title: 'refcounts of 2 bits', create: { clusterSize: 1024, refcountBits: 2 }, most: 2 },
  { title: 'refcounts of 8 bits', create: { clusterSize: 512, refcountBits: 8 }, history: packed },
  { title: 'refcounts of 64 bits', create: { clusterSize: 512, refcountBits: 64 }, history: packed },
  { title: 'zstd', create: { clusterSize: 4096, compressionType: 'zstd' }, history: packed },
  { title: 'a backing file longer than the disk', create: { clusterSize: 2048 }, backing: true, history: packed },
  {
    title: 'a disk that holds nothing',
    create: { clusterSize: 512 },
    holdsNothing: true,
    history: { disksAlone: true },
  },
  {
    title: 'a disk that holds nothing, with lazy refcounts',
    create: { clusterSize: 4096, lazyRefcounts: true },
    holdsNothing: true,
    history: { disksAlone: true },
  },
  { title: 'LUKS', create: { clusterSize: 4096, encryption: LUKS }, history: { resizes: true } },
  {
    title: 'legacy AES over a backing file, with lazy refcounts',
    create: { clusterSize: 512, encryption: AES, lazyRefcounts: true },
    backing: true,
  },
];

/** Bytes of the disk when it is made. */
const SIZE = 150_016;
const STEPS_BEFORE = 6;
const STEPS = 14;

/** What there is at one moment, snapshots in the order of the file. */
export interface Moment {
  readonly disk: Uint8Array;
  readonly snapshots: readonly ModelSnapshot[];
}

/** One step of the run and what it leads to. */
export interface TimelineEntry extends Moment {
  readonly what: string;
  /** A guest's write, of which any part may be lost until the next operation; all others are whole or not there. */
  readonly byGuest: boolean;
  /** Events of the storage when it began, and when it had returned. */
  readonly begun: number;
  readonly ended: number;
}

export interface SnapshotRecording {
  readonly storage: RecordingStorage;
  /** The first entry is the start. */
  readonly timeline: readonly TimelineEntry[];
  readonly backing: Uint8Array | undefined;
}

/** Opens the file with its backing disk, and caches so small that tables are evicted. */
export function openForSnapshots(
  { create: { clusterSize, encryption } }: SnapshotScenario,
  storage: Storage,
  backing: Uint8Array | undefined,
): Qcow2Image {
  return openImage(storage, {
    backing: backing ? new RawDisk(new MemoryStorage(backing.slice())) : null,
    ...(encryption ? { encryption: { ...encryption.opened, borrowed: true } } : {}),
    l2CacheSize: 2 * clusterSize,
    refcountCacheSize: 2 * clusterSize,
  });
}

export function recordSnapshots(scenario: SnapshotScenario, random: SeededRandom): SnapshotRecording {
  const { create, history: options = {}, most = 5, holdsNothing = false } = scenario;
  const writesAtOnce = (writes: number): number => (holdsNothing ? 0 : writes);
  const backing = scenario.backing === true ? random.bytes(2 * SIZE) : undefined;
  const shape = { size: SIZE, clusterSize: create.clusterSize, version: create.version ?? 3, backing };
  const history = new SnapshotHistory(shape, random, options);
  const fresh = new MemoryStorage();
  createImage(fresh, {
    ...create,
    size: SIZE,
    ...(backing ? { backing: { name: BACKING_NAME, format: 'raw' } as const } : {}),
  });
  const before = openForSnapshots(scenario, fresh, backing);
  history.create(before);
  for (let index = 0; index < STEPS_BEFORE; index++) {
    history.guest(before, writesAtOnce(4));
    if (history.snapshots.length < most) history.step(before);
  }
  before.close();

  const storage = new RecordingStorage(fresh.toBytes());
  const image = openForSnapshots(scenario, storage, backing);
  const run = new Run(storage, history);
  for (let step = 0; step < STEPS; step++) {
    for (let writes = writesAtOnce(random.below(4)); writes > 0; writes--)
      run.note('a write', true, () => history.guest(image, 1));
    run.note(...nextOperation(image, history, random, most));
  }
  run.note('closing', false, () => image.close());
  return { storage, timeline: run.timeline, backing };
}

/** Weighed so that as many come as go. */
function nextOperation(
  image: Qcow2Image,
  history: SnapshotHistory,
  random: SeededRandom,
  most: number,
): [what: string, byGuest: boolean, action: () => void] {
  const { snapshots } = history;
  const choice = snapshots.length === 0 ? 0 : random.below(6);
  if (choice < 2 && snapshots.length < most) return ['create', false, () => history.create(image)];
  const chosen = random.pick(snapshots);
  if (choice < 4) return [`goto ${chosen.id}`, false, () => history.goto(image, chosen)];
  const remove = () => {
    runToEnd(deleteSnapshot(image, { id: chosen.id }));
    history.deleted(chosen);
  };
  return [`delete ${chosen.id}`, false, remove];
}

class Run {
  readonly timeline: TimelineEntry[] = [];
  readonly #storage: RecordingStorage;
  readonly #history: SnapshotHistory;

  constructor(storage: RecordingStorage, history: SnapshotHistory) {
    this.#storage = storage;
    this.#history = history;
    this.note('the start', false, () => {});
  }

  note(what: string, byGuest: boolean, action: () => void): void {
    const { events } = this.#storage;
    const begun = events.length;
    action();
    const { model, snapshots } = this.#history;
    const moment = { disk: model.bytes.slice(), snapshots: [...snapshots] };
    this.timeline.push({ what, byGuest, begun, ended: events.length, ...moment });
  }
}
