/**
 * A run of the model test: thousands of random operations on one image, each made on a plain byte array too.
 *
 * Between operations the image is flushed, closed and opened again, or dropped as by a crash right after a flush. The
 * caches are as small as they can be, so that tables are evicted and reloaded all the time.
 */
import {
  createImage,
  MemoryStorage,
  openImage,
  RawDisk,
  ReadOnlyStorage,
  type CreateOptions,
  type OpenOptions,
  type Qcow2Image,
} from '../../src/index.js';
import type { KernelsFactory } from '../../src/kernels/kernels.js';
import { act, randomRange, readWhole, type DiskAction } from '../support/disk-actions.js';
import { expectSameBytes, ModelDisk } from '../support/model-disk.js';
import type { SeededRandom } from '../support/seeded-random.js';

export interface ModelRun {
  readonly create: CreateOptions & { readonly clusterSize: number; readonly version: 2 | 3 };
  /** What the raw backing file named in `create.backing` holds. */
  readonly backing?: Uint8Array;
  readonly operations: number;
  /** Whether the image is also dropped without a close. Leaked clusters are allowed then. */
  readonly drops: boolean;
  readonly kernels?: KernelsFactory;
}

/** What is left at the end: the image file's bytes and what a guest must read from it. */
export interface ModelRunResult {
  readonly file: Uint8Array;
  readonly expected: Uint8Array;
}

const LONGEST_CLUSTERS = 3;
const ACTIONS: readonly DiskAction[] = [
  ...(['read', 'read', 'read', 'write', 'write', 'write', 'write'] as const),
  ...(['writeZeroes', 'unmap', 'discard'] as const),
];

class ReopenedImage {
  #storage: MemoryStorage;
  image: Qcow2Image;

  constructor(readonly run: ModelRun) {
    this.#storage = new MemoryStorage();
    createImage(this.#storage, run.create);
    this.image = this.#open();
  }

  #open(): Qcow2Image {
    const { backing, create, kernels } = this.run;
    // One slice of each table at most: every change of table is an eviction.
    const options: OpenOptions = {
      l2CacheSize: create.clusterSize,
      refcountCacheSize: create.clusterSize,
      backing: backing ? new RawDisk(new ReadOnlyStorage(new MemoryStorage(backing.slice()))) : null,
      ...(kernels ? { kernels } : {}),
    };
    return openImage(this.#storage, options);
  }

  /** Closes and opens again. */
  reopen(): void {
    this.image.close();
    this.#storage = new MemoryStorage(this.#storage.toBytes());
    this.image = this.#open();
  }

  /** Ends as a killed process does, right after a flush, and opens what is in the file. */
  drop(): void {
    this.image.flush();
    this.#storage = new MemoryStorage(this.#storage.toBytes());
    this.image = this.#open();
  }

  /** Closes for good; the bytes of the file. */
  finish(): Uint8Array {
    this.image.close();
    return this.#storage.toBytes();
  }
}

export function runModel(run: ModelRun, random: SeededRandom): ModelRunResult {
  const { size, clusterSize, version } = run.create;
  const model = new ModelDisk({ size, clusterSize, version, backing: run.backing });
  const opened = new ReopenedImage(run);
  const longest = Math.max(0x3000, LONGEST_CLUSTERS * clusterSize);
  for (let index = 0; index < run.operations; index++) {
    const action = random.pick(ACTIONS);
    const range = randomRange(random, size, clusterSize, longest);
    try {
      act(action, range, { disk: opened.image, model, random });
      if (random.oneIn(20)) opened.image.flush();
      if (random.oneIn(80)) opened.reopen();
      if (run.drops && random.oneIn(80)) opened.drop();
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`operation ${index} (${action} ${range.length} at ${range.offset}): ${reason}`, { cause });
    }
  }
  opened.reopen();
  expectSameBytes(readWhole(opened.image), model.bytes, 'the whole disk at the end');
  return { file: opened.finish(), expected: model.bytes };
}

/** How big and how long a run is at each cluster size, so that all take about as long. */
export const MODEL_SCALES = [
  { clusterSize: 512, size: 0x10_0000 + 512, operations: 1500 },
  { clusterSize: 4096, size: 0x30_0000 + 1536, operations: 1500 },
  { clusterSize: 65536, size: 0x100_0000 + 512, operations: 800 },
  { clusterSize: 0x20_0000, size: 0x140_0000 + 512, operations: 120 },
] as const;

/** Backing bytes: shorter than the disk, so that its end is met, with random and with zero runs. */
export function backingBytes(diskSize: number, random: SeededRandom): Uint8Array {
  const bytes = new Uint8Array(Math.floor((diskSize * 0.7) / 512) * 512);
  for (let offset = 0; offset < bytes.length; offset += 0x8000) {
    bytes.set(random.bytes(Math.min(0x8000, bytes.length - offset)), offset);
  }
  return bytes;
}
