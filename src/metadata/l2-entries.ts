/**
 * L2 entries as the L2 tables use them: an interface with one implementation for each of the two formats, standard
 * (`l2-standard.ts`) and extended (`l2-extended.ts`), and the checks that both make of what an entry names.
 */
import type { GuestOffset, HostOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import { decodeCompressedDescriptor, type CompressedDescriptor } from '../format/compressed-descriptor.js';
import type { Geometry } from '../format/geometry.js';
import type { Kernels } from '../kernels/kernels.js';
import type { Storage } from '../storage/storage.js';
import { hex, isAligned } from '../util/integers.js';
import type { Corruption, CorruptionFacts } from './corruption.js';
import type { FreeReason } from './discard-policy.js';
import type { MappedRun } from './mapped-run.js';

/** Entries `first .. end` of a slice in the kernels' memory. */
export interface EntryRange {
  readonly address: number;
  readonly first: number;
  readonly end: number;
  /** Where the guest cluster of entry `first` starts. */
  readonly guest: GuestOffset;
}

/** Bytes `from .. to` of a guest cluster. */
export interface ClusterPart {
  readonly from: number;
  readonly to: number;
}

export interface L2EntryFormat {
  /** What lies `within` bytes into the first entry's cluster, and how far it goes on, at most through the range. */
  run(range: EntryRange, within: number): MappedRun;
  /** The part of the first entry's cluster that is stored, and must be carried over when it moves; null for none. */
  stored(range: EntryRange): ClusterPart | null;
  /**
   * The range becomes data at `host`, contiguous and with a refcount of one: from `part.from` in the first cluster to
   * `part.to` in the last. What the entries named before, unless it is just there, is released.
   */
  link(range: EntryRange, host: HostOffset, part: ClusterPart): void;
  /** The first entry becomes data at `host`, which is not ours alone. */
  share(range: EntryRange, host: HostOffset): void;
  /** The first entry becomes the compressed cluster of `descriptor`. */
  linkCompressed(range: EntryRange, descriptor: CompressedDescriptor): void;
  /** The clusters read as zeroes. `keep` leaves what they have allocated in place. */
  zero(range: EntryRange, keep: boolean): void;
  /** A part of the first entry's cluster, in whole subclusters, reads as zeroes. The cluster is not compressed. */
  zeroPart(range: EntryRange, part: ClusterPart): void;
  /** The clusters map to nothing. */
  clear(range: EntryRange): void;
}

export interface L2EntryOptions {
  readonly kernels: Kernels;
  readonly geometry: Geometry;
  readonly version: 2 | 3;
  readonly checks: EntryChecks;
  /** Gives back what an entry no longer names; null for an image opened read-only. */
  readonly release: Release | null;
}

export interface Release {
  data(host: HostOffset, clusters: number, reason: FreeReason): void;
  compressed(descriptor: CompressedDescriptor, reason: FreeReason): void;
}

export interface EntryCheckOptions {
  readonly storage: Storage;
  readonly geometry: Geometry;
  readonly corruption: Corruption;
  /** Guest data lies in a file of its own, at its guest offset. */
  readonly externalData: boolean;
}

export class EntryChecks {
  readonly #storage: Storage;
  readonly #geometry: Geometry;
  readonly #corruption: Corruption;
  /** Guest data lies in a file of its own, at its guest offset. */
  readonly externalData: boolean;

  constructor(options: EntryCheckOptions) {
    this.#storage = options.storage;
    this.#geometry = options.geometry;
    this.#corruption = options.corruption;
    this.externalData = options.externalData;
  }

  /** The descriptor of a compressed entry. Throws `CORRUPT` when it leads out of the file. */
  compressed(low: number, high: number, guest: GuestOffset): CompressedDescriptor {
    if (this.externalData) throw this.corrupt(guest, 'is compressed; with an external data file nothing can be');
    const descriptor = decodeCompressedDescriptor(low, high, this.#geometry.clusterBits);
    if (descriptor.host < this.#storage.size) return descriptor;
    throw pastEnd(guest, `is compressed at ${hex(descriptor.host)}`, this.#storage);
  }

  /** `clusters` clusters from `host` on, which hold data or are only allocated, as the entry of `guest` says. */
  allocated(host: HostOffset, clusters: number, guest: GuestOffset): void {
    const { clusterSize } = this.#geometry;
    if (!isAligned(host, clusterSize)) {
      const facts = { fact: 'misaligned-cluster', guest, host } as const;
      throw this.corrupt(guest, `names ${hex(host)}; it must be a multiple of ${hex(clusterSize)}`, facts);
    }
    if (this.externalData) {
      if (host === guest) return;
      throw this.corrupt(guest, `names ${hex(host)}; in an external data file it must be the guest offset`);
    }
    const last = host + (clusters - 1) * clusterSize;
    if (last < this.#storage.size) return;
    throw pastEnd(guest, `leads to ${hex(last)}`, this.#storage);
  }

  /** The error to throw for an entry that can't be; the image has been marked corrupt. */
  corrupt(guest: GuestOffset, what: string, facts?: CorruptionFacts): Qcow2Error {
    return this.#corruption.found({ message: `the L2 entry of guest offset ${hex(guest)} ${what}`, facts });
  }
}

/** The file has been cut, or not been copied whole. The entry may be right, so the image is not marked for it. */
function pastEnd(guest: GuestOffset, what: string, storage: Storage): Qcow2Error {
  const end = `the file ends at ${hex(storage.size)}`;
  return new Qcow2Error('CORRUPT', `the L2 entry of guest offset ${hex(guest)} ${what}; ${end}`);
}
