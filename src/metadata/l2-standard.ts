/**
 * Standard L2 entries: 8 bytes a cluster (spec, "L2 table entry"). Runs are found and filled by the kernels.
 */
import type { HostOffset } from '../disk.js';
import { encodeCompressedDescriptor, type CompressedDescriptor } from '../format/compressed-descriptor.js';
import { HIGH_COPIED, LOW_ZERO, highOf, l2EntryCopied, l2EntryHost, l2EntryKind, lowOf } from '../format/l2-entry.js';
import type { FreeReason } from './discard-policy.js';
import type { ClusterPart, EntryRange, L2EntryFormat, L2EntryOptions } from './l2-entries.js';
import type { MappedRun } from './mapped-run.js';

/** A shorter run is not worth the call of a kernel (docs/ARCHITECTURE.md, "Kernels"). */
const KERNEL_RUN = 4;

export class StandardEntries implements L2EntryFormat {
  readonly #options: L2EntryOptions;

  constructor(options: L2EntryOptions) {
    this.#options = options;
  }

  run(range: EntryRange, within: number): MappedRun {
    const run = this.#clusterRun(range);
    const length = run.length - within;
    switch (run.kind) {
      case 'data':
      case 'zero-allocated':
        return { ...run, length, host: run.host + within };
      case 'unallocated':
      case 'zero':
      case 'compressed':
        return { ...run, length };
    }
  }

  stored(range: EntryRange): ClusterPart | null {
    const { kind } = this.#clusterRun({ ...range, end: range.first + 1 });
    return kind === 'data' || kind === 'compressed' ? { from: 0, to: this.#options.geometry.clusterSize } : null;
  }

  link(range: EntryRange, host: HostOffset): void {
    this.#eachRun(range, (run, part, at) => {
      const place = host + at;
      if (!('host' in run) || run.host !== place) this.#release(run, 'never');
      this.#fill(part, place, { copied: true, zero: false });
    });
  }

  share(range: EntryRange, host: HostOffset): void {
    const single = { ...range, end: range.first + 1 };
    this.#release(this.#clusterRun(single), 'never');
    this.#fill(single, host, { copied: false, zero: false });
  }

  linkCompressed(range: EntryRange, descriptor: CompressedDescriptor): void {
    const { kernels, geometry } = this.#options;
    const single = { ...range, end: range.first + 1 };
    this.#release(this.#clusterRun(single), 'never');
    const [low, high] = encodeCompressedDescriptor(descriptor.host, descriptor.length, geometry.clusterBits);
    kernels.l2FillRun(range.address, range.first, 1, low, high, 0);
  }

  zero(range: EntryRange, keep: boolean): void {
    this.#eachRun(range, (run, part) => {
      if (keep && (run.kind === 'data' || run.kind === 'zero-allocated')) {
        this.#fill(part, run.host, { copied: run.copied, zero: true });
        return;
      }
      this.#release(run, 'request');
      this.#fillEqual(part, LOW_ZERO);
    });
  }

  zeroPart(): void {
    throw new Error('internal: standard L2 entries have no subclusters');
  }

  clear(range: EntryRange): void {
    this.#eachRun(range, (run, part) => {
      this.#release(run, 'request');
      this.#fillEqual(part, 0);
    });
  }

  /** The run of whole clusters at the start of the range. */
  #clusterRun(range: EntryRange): MappedRun {
    const { kernels, geometry, version, checks } = this.#options;
    const { address, first, guest } = range;
    const low = kernels.words[(address >>> 2) + 2 * first]!;
    const high = kernels.words[(address >>> 2) + 2 * first + 1]!;
    const kind = l2EntryKind(low, high, checks.externalData);
    if ((kind === 'zero' || kind === 'zero-allocated') && version === 2) {
      throw checks.corrupt(guest, 'is marked as zero; version 2 has no zero clusters');
    }
    switch (kind) {
      case 'unallocated':
        return { kind, length: this.#runLength(range, 0) * geometry.clusterSize, reserved: null };
      case 'zero':
        return { kind, length: this.#runLength(range, 0) * geometry.clusterSize };
      case 'compressed':
        return { kind, length: geometry.clusterSize, descriptor: checks.compressed(low, high, guest) };
      case 'data':
      case 'zero-allocated': {
        const host = l2EntryHost(low, high);
        const clusters = this.#runLength(range, geometry.clusterSize);
        checks.allocated(host, clusters, guest);
        return { kind, length: clusters * geometry.clusterSize, host, copied: l2EntryCopied(high) };
      }
    }
  }

  #runLength(range: EntryRange, step: number): number {
    const { address, first, end } = range;
    const { kernels } = this.#options;
    if (end - first >= KERNEL_RUN) return kernels.l2RunLength(address, first, end, step);
    const words = kernels.words;
    const base = (address >>> 2) + 2 * first;
    let low = words[base]!;
    let high = words[base + 1]!;
    let count = 1;
    for (; first + count < end; count++) {
      low += step;
      if (low > 0xffff_ffff) {
        low -= 0x1_0000_0000;
        high++;
      }
      if (words[base + 2 * count] !== low || words[base + 2 * count + 1] !== high) break;
    }
    return count;
  }

  /** Each run of the range as it is before the change, its entries, and how many bytes into the range it starts. */
  #eachRun(range: EntryRange, change: (run: MappedRun, part: EntryRange, at: number) => void): void {
    const { clusterSize } = this.#options.geometry;
    for (let first = range.first; first < range.end;) {
      const at = (first - range.first) * clusterSize;
      const rest = { ...range, first, guest: range.guest + at };
      const run = this.#clusterRun(rest);
      const end = first + run.length / clusterSize;
      change(run, { ...rest, end }, at);
      first = end;
    }
  }

  #fill(part: EntryRange, host: HostOffset, flags: { readonly copied: boolean; readonly zero: boolean }): void {
    const { kernels, geometry } = this.#options;
    const low = flags.zero ? (lowOf(host) | LOW_ZERO) >>> 0 : lowOf(host);
    const high = flags.copied ? (highOf(host) | HIGH_COPIED) >>> 0 : highOf(host);
    kernels.l2FillRun(part.address, part.first, part.end - part.first, low, high, geometry.clusterSize);
  }

  #fillEqual(part: EntryRange, low: number): void {
    this.#options.kernels.l2FillRun(part.address, part.first, part.end - part.first, low, 0, 0);
  }

  #release(run: MappedRun, reason: FreeReason): void {
    const release = this.#options.release!;
    if (run.kind === 'compressed') release.compressed(run.descriptor, reason);
    if (run.kind === 'data' || run.kind === 'zero-allocated') {
      release.data(run.host, run.length / this.#options.geometry.clusterSize, reason);
    }
  }
}
