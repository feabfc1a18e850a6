/**
 * Extended L2 entries: 16 bytes a cluster, which is divided into 32 subclusters (spec, "Extended L2 Entries").
 *
 *   words, native order:   0 low   1 high            as a standard entry, without its zero bit
 *                          2 bit x: subcluster x is allocated, and the host offset is set
 *                          3 bit x: subcluster x reads as zeroes, and is not allocated
 *
 * A subcluster with neither bit is the backing file's, even where the cluster has a host offset. A compressed cluster has no
 * subclusters, and both bitmaps 0.
 */
import type { HostOffset } from '../disk.js';
import { encodeCompressedDescriptor, type CompressedDescriptor } from '../format/compressed-descriptor.js';
import { SUBCLUSTERS } from '../format/geometry.js';
import {
  HIGH_COMPRESSED,
  HIGH_COPIED,
  LOW_ZERO,
  highOf,
  l2EntryCopied,
  l2EntryHost,
  l2EntryKind,
  lowOf,
} from '../format/l2-entry.js';
import type { FreeReason } from './discard-policy.js';
import type { ClusterPart, EntryRange, L2EntryFormat, L2EntryOptions } from './l2-entries.js';
import type { Allocation, MappedRun } from './mapped-run.js';

const ALL = 0xffff_ffff;

/** One entry, decoded. */
interface Entry {
  readonly low: number;
  readonly high: number;
  readonly allocated: number;
  readonly zero: number;
  readonly place: Allocation | null;
}

export class ExtendedEntries implements L2EntryFormat {
  readonly #options: L2EntryOptions;

  constructor(options: L2EntryOptions) {
    this.#options = options;
  }

  run(range: EntryRange, within: number): MappedRun {
    const { clusterSize } = this.#options.geometry;
    const start = this.#runInCluster(range, within);
    if (start.kind === 'compressed') return start;
    let length = start.length;
    // A run that reaches the end of its cluster may go on in the next.
    for (let index = range.first + 1; index < range.end && (within + length) % clusterSize === 0; index++) {
      const guest = range.guest + (index - range.first) * clusterSize;
      const next = this.#runInCluster({ ...range, first: index, guest }, 0);
      if (!continues(start, length, next)) break;
      length += next.length;
    }
    return { ...start, length };
  }

  stored(range: EntryRange): ClusterPart | null {
    const { clusterSize, subclusterSize } = this.#options.geometry;
    const entry = this.#entry(range);
    if (isCompressed(entry)) return { from: 0, to: clusterSize };
    if (entry.allocated === 0) return null;
    const last = SUBCLUSTERS - Math.clz32(entry.allocated);
    return { from: lowestBit(entry.allocated) * subclusterSize, to: last * subclusterSize };
  }

  link(range: EntryRange, host: HostOffset, part: ClusterPart): void {
    const { clusterSize } = this.#options.geometry;
    for (let index = range.first; index < range.end; index++) {
      const at = (index - range.first) * clusterSize;
      const single = { ...range, first: index, guest: range.guest + at };
      const from = index === range.first ? part.from : 0;
      const to = index === range.end - 1 ? part.to : clusterSize;
      this.#linkOne(single, host + at, this.#bits(from, to));
    }
  }

  share(range: EntryRange, host: HostOffset): void {
    this.#release(range, 'never');
    this.#write(range, { low: lowOf(host), high: highOf(host), allocated: ALL, zero: 0 });
  }

  linkCompressed(range: EntryRange, descriptor: CompressedDescriptor): void {
    this.#release(range, 'never');
    const { clusterBits } = this.#options.geometry;
    const [low, high] = encodeCompressedDescriptor(descriptor.host, descriptor.length, clusterBits);
    this.#write(range, { low, high, allocated: 0, zero: 0 });
  }

  zero(range: EntryRange, keep: boolean): void {
    this.#eachEntry(range, (single) => {
      const { low, high, place } = this.#entry(single);
      if (keep && place !== null) {
        this.#write(single, { low, high, allocated: 0, zero: ALL });
        return;
      }
      this.#release(single, 'request');
      this.#write(single, { low: 0, high: 0, allocated: 0, zero: ALL });
    });
  }

  zeroPart(range: EntryRange, part: ClusterPart): void {
    const { low, high, allocated, zero } = this.#entry(range);
    const bits = this.#bits(part.from, part.to);
    this.#write(range, { low, high, allocated: allocated & ~bits, zero: zero | bits });
  }

  clear(range: EntryRange): void {
    this.#eachEntry(range, (single) => {
      this.#release(single, 'request');
      this.#write(single, { low: 0, high: 0, allocated: 0, zero: 0 });
    });
  }

  #linkOne(single: EntryRange, host: HostOffset, bits: number): void {
    const old = this.#entry(single);
    const stays = old.place !== null && old.place.host === host && !isCompressed(old);
    if (!stays) this.#release(single, 'never');
    // What was stored outside `bits` has been carried over, so `bits` covers it, unless it stays where it is.
    const allocated = stays ? old.allocated | bits : bits;
    const high = (highOf(host) | HIGH_COPIED) >>> 0;
    this.#write(single, { low: lowOf(host), high, allocated, zero: old.zero & ~bits });
  }

  /** The subclusters of one kind from `within` on, in the cluster of the first entry. */
  #runInCluster(range: EntryRange, within: number): MappedRun {
    const { geometry, checks } = this.#options;
    const entry = this.#entry(range);
    if (isCompressed(entry)) {
      const descriptor = checks.compressed(entry.low, entry.high, range.guest);
      return { kind: 'compressed', length: geometry.clusterSize - within, descriptor };
    }
    const index = Math.floor(within / geometry.subclusterSize);
    const state = stateOf(entry, index);
    let end = index + 1;
    while (end < SUBCLUSTERS && stateOf(entry, end) === state) end++;
    const length = end * geometry.subclusterSize - within;
    const place = entry.place && { host: entry.place.host + within, copied: entry.place.copied };
    if (state === 'data') return { kind: 'data', length, ...place! };
    if (state === 'unallocated') return { kind: 'unallocated', length, reserved: place };
    return place ? { kind: 'zero-allocated', length, ...place } : { kind: 'zero', length };
  }

  #entry(range: EntryRange): Entry {
    const { kernels, checks } = this.#options;
    const { words } = kernels;
    const at = (range.address >>> 2) + 4 * range.first;
    const low = words[at]!;
    const high = words[at + 1]!;
    const allocated = words[at + 2]!;
    const zero = words[at + 3]!;
    const kind = l2EntryKind(low & ~LOW_ZERO, high, checks.externalData);
    if ((low & LOW_ZERO) !== 0 && kind !== 'compressed') {
      throw checks.corrupt(range.guest, 'has its zero bit set; with extended L2 entries it must be 0');
    }
    if ((allocated & zero) !== 0) throw checks.corrupt(range.guest, 'has subclusters both allocated and zero');
    if (kind !== 'data') {
      if (allocated !== 0 && kind === 'unallocated') {
        throw checks.corrupt(range.guest, 'has subclusters allocated, and no host offset');
      }
      return { low, high, allocated: 0, zero: kind === 'compressed' ? 0 : zero, place: null };
    }
    const host = l2EntryHost(low, high);
    checks.allocated(host, 1, range.guest);
    return { low, high, allocated, zero, place: { host, copied: l2EntryCopied(high) } };
  }

  /** The bits of the subclusters in bytes `from .. to` of a cluster. */
  #bits(from: number, to: number): number {
    const { subclusterSize } = this.#options.geometry;
    const first = Math.floor(from / subclusterSize);
    const count = Math.ceil(to / subclusterSize) - first;
    return ((count === SUBCLUSTERS ? ALL : 2 ** count - 1) << first) >>> 0;
  }

  #eachEntry(range: EntryRange, change: (single: EntryRange) => void): void {
    const { clusterSize } = this.#options.geometry;
    for (let index = range.first; index < range.end; index++) {
      change({ ...range, first: index, end: index + 1, guest: range.guest + (index - range.first) * clusterSize });
    }
  }

  #write(range: EntryRange, entry: { low: number; high: number; allocated: number; zero: number }): void {
    const at = (range.address >>> 2) + 4 * range.first;
    this.#options.kernels.words.set([entry.low, entry.high, entry.allocated, entry.zero], at);
  }

  #release(range: EntryRange, reason: FreeReason): void {
    const { checks, release } = this.#options;
    const entry = this.#entry(range);
    if (isCompressed(entry)) release!.compressed(checks.compressed(entry.low, entry.high, range.guest), reason);
    else if (entry.place !== null) release!.data(entry.place.host, 1, reason);
  }
}

function isCompressed(entry: Entry): boolean {
  return (entry.high & HIGH_COMPRESSED) !== 0;
}

function stateOf(entry: Entry, index: number): 'data' | 'zero' | 'unallocated' {
  const bit = 1 << index;
  if ((entry.allocated & bit) !== 0) return 'data';
  return (entry.zero & bit) !== 0 ? 'zero' : 'unallocated';
}

function lowestBit(bits: number): number {
  return 31 - Math.clz32(bits & -bits);
}

/** Whether `next` goes on, in kind and place, where the `length` bytes of `run` end. */
function continues(run: MappedRun, length: number, next: MappedRun): boolean {
  const place = placeOf(run);
  const nextPlace = placeOf(next);
  if (run.kind !== next.kind || (place === null) !== (nextPlace === null)) return false;
  if (place === null || nextPlace === null) return next.kind !== 'compressed';
  return nextPlace.host === place.host + length && nextPlace.copied === place.copied;
}

function placeOf(run: MappedRun): Allocation | null {
  if (run.kind === 'data' || run.kind === 'zero-allocated') return run;
  return run.kind === 'unallocated' ? run.reserved : null;
}
