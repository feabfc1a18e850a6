/** Recorded runs to crash: an image of some shape, written by a guest that flushes now and then. */
import {
  createImage,
  MemoryStorage,
  openImage,
  RawDisk,
  type CreateOptions,
  type Disk,
  type OpenOptions,
  type Qcow2Image,
} from '../../src/index.js';
import { act, randomRange, type DiskAction } from '../support/disk-actions.js';
import { ModelDisk } from '../support/model-disk.js';
import type { SeededRandom } from '../support/seeded-random.js';
import { GuestHistory } from './guest-history.js';
import { RecordingStorage } from './recording-storage.js';

export interface Scenario {
  readonly title: string;
  readonly create: CreateOptions & { readonly clusterSize: number; readonly version: 2 | 3 };
  /** What the raw backing file holds. */
  readonly backing?: Uint8Array;
  /** A finished image to start from instead of a created one; its disk reads as `bytes`. */
  readonly startFrom?: { readonly file: Uint8Array; readonly bytes: Uint8Array };
  readonly operations: number;
  /** Runs in which the refcount table does not move are no runs of this scenario. */
  readonly movesRefcountTable?: boolean;
  readonly longestBytes: number;
  /** The disk grows to this size halfway. */
  readonly growTo?: number;
  /** Now and then the image is reopened with other options, or let go of and taken up again. */
  readonly reopens?: boolean;
}

export interface Recording {
  readonly storage: RecordingStorage;
  readonly history: GuestHistory;
}

const ACTIONS: readonly DiskAction[] = ['write', 'write', 'write', 'write', 'writeZeroes', 'unmap', 'discard'];

/** Opens the file of a scenario with its backing disk, and caches so small that tables are evicted. */
export function openScenario(scenario: Scenario, storage: RecordingStorage | MemoryStorage): Qcow2Image {
  const { backing, create } = scenario;
  const below: Disk | null = backing ? new RawDisk(new MemoryStorage(backing.slice())) : null;
  const options: OpenOptions = {
    backing: below,
    ...(create.encryption ? { encryption: { ...create.encryption.opened, borrowed: true } } : {}),
    l2CacheSize: 2 * create.clusterSize,
    refcountCacheSize: 2 * create.clusterSize,
  };
  return openImage(storage, options);
}

/** Runs a scenario to its end, the close included, and keeps what reached the storage. */
export function record(scenario: Scenario, random: SeededRandom): Recording {
  const { create, backing, startFrom, operations, longestBytes, growTo } = scenario;
  const fresh = new MemoryStorage();
  if (!startFrom) createImage(fresh, create);
  const storage = new RecordingStorage(startFrom?.file ?? fresh.toBytes());
  const image = openScenario(scenario, storage);
  const { clusterSize, version } = create;
  let model = new ModelDisk({ size: create.size, clusterSize, version, backing });
  if (startFrom) model.write(0, startFrom.bytes);
  const history = new GuestHistory(model.bytes);
  for (let index = 0; index < operations; index++) {
    const range = randomRange(random, model.size, clusterSize, longestBytes);
    const begun = storage.events.length;
    act(random.pick(ACTIONS), range, { disk: image, model, random });
    history.changed(begun, range, model.bytes);
    if (growTo !== undefined && index === operations >> 1) {
      const grown = new ModelDisk({ size: growTo, clusterSize, version, backing });
      grown.writeZeroes(0, growTo);
      grown.write(0, model.bytes);
      model = grown;
      image.resize(growTo);
    }
    if (scenario.reopens && random.oneIn(8)) {
      takeUpAgain(image, random);
      history.flushed(storage.events.length, model.bytes);
    }
    if (random.oneIn(6)) {
      image.flush();
      history.flushed(storage.events.length, model.bytes);
    }
  }
  image.close();
  history.flushed(storage.events.length, model.bytes);
  return { storage, history };
}

/** After any of these all is stable. */
function takeUpAgain(image: Qcow2Image, random: SeededRandom): void {
  switch (random.below(4)) {
    case 0:
      image.reopen({ lazyRefcounts: random.oneIn(2), discard: { other: random.oneIn(2) } });
      break;
    case 1:
      image.reopen({ readOnly: true });
      image.reopen({ readOnly: false });
      break;
    case 2:
      image.inactivate();
      image.invalidate();
      break;
    default:
      image.flush();
      image.cleanCaches();
  }
}
