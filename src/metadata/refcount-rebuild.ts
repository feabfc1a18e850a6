/**
 * Refcount rebuild: a whole new refcount structure from the references counted, for an image whose own is damaged.
 *
 *   1. In memory: a cluster for each block that is needed and a run of clusters for the table, none of them in use or named
 *      by anything; they are counted as well, which may need more blocks, until nothing changes.
 *   2. The blocks and the table are written.
 *   3. |barrier| the header names the new table (one write within a sector) |barrier|
 *
 * A crash before 3 leaves the image as it was, at most longer. After 3 the counts are right; the old structure, as far as it
 * was counted, is leaked, which the caller repairs.
 */
import { Qcow2Error } from '../errors.js';
import { MAX_REFCOUNT_TABLE_BYTES } from '../format/limits.js';
import { setRefcountEntry } from '../kernels/refcount-entry.js';
import { setUint64, viewOf } from '../util/big-endian.js';
import { divideUp } from '../util/integers.js';
import type { AvoidedClusters } from './avoided-clusters.js';
import type { CheckPhase } from './check-findings.js';
import { freeRun } from './free-run.js';
import type { ImageUnderCheck } from './image-under-check.js';
import type { ReferenceCounts } from './reference-counts.js';

export interface RefcountRebuildParts {
  readonly image: ImageUnderCheck;
  /** References counted. What is allocated here is added. */
  readonly counts: ReferenceCounts;
  /** Clusters not to be used although nothing counts them. */
  readonly avoid: AvoidedClusters;
}

export class RefcountRebuild implements CheckPhase {
  readonly what = 'rebuilding the refcount structure';
  done = 0;
  readonly #parts: RefcountRebuildParts;
  /** Cluster of each new block, by the index of the block. */
  readonly #blocks = new Map<number, number>();
  readonly #table: { first: number; clusters: number } = { first: 0, clusters: 0 };
  #unwritten: [number, number][] | null = null;
  #firstFree = 1;

  constructor(parts: RefcountRebuildParts) {
    this.#parts = parts;
  }

  /** In blocks. */
  get total(): number {
    return this.#blocks.size;
  }

  /** Throws `LIMIT` when the refcount table would be too long; nothing has been written then. */
  step(): boolean {
    if (this.#unwritten === null) {
      this.#layOut();
      this.#unwritten = [...this.#blocks];
      return true;
    }
    const next = this.#unwritten[this.done];
    if (next !== undefined) {
      this.#writeBlock(next[0], next[1]);
      this.done++;
      if (this.done === this.#unwritten.length) this.#publish();
      return true;
    }
    return false;
  }

  #layOut(): void {
    const { image } = this.#parts;
    for (;;) {
      const placed = this.#placeBlocks();
      const needed = divideUp((Math.max(...this.#blocks.keys()) + 1) * 8, image.clusterSize);
      if (!placed && needed <= this.#table.clusters) return;
      if (needed > this.#table.clusters) this.#placeTable(needed);
    }
  }

  /** Gives a cluster to each block that counts something and has none. False when all had one. */
  #placeBlocks(): boolean {
    const { counts, image } = this.#parts;
    const perBlock = image.geometry.refcountBlockEntries;
    let placed = false;
    // `counts.end` grows while blocks are placed past it.
    for (let index = 0; index * perBlock < counts.end; index++) {
      if (this.#blocks.has(index) || !this.#isNeeded(index * perBlock, (index + 1) * perBlock)) continue;
      this.#blocks.set(index, this.#allocate(1));
      placed = true;
    }
    return placed;
  }

  #isNeeded(first: number, end: number): boolean {
    const { counts } = this.#parts;
    if (!counts.mayCount(first, end)) return false;
    for (let cluster = first; cluster < end; cluster++) if (counts.get(cluster) > 0) return true;
    return false;
  }

  #placeTable(clusters: number): void {
    const { image, counts } = this.#parts;
    if (clusters * image.clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
      const needs = `the refcount table would need ${clusters * image.clusterSize} bytes`;
      throw new Qcow2Error('LIMIT', `${needs}; the limit is ${MAX_REFCOUNT_TABLE_BYTES}`);
    }
    for (let index = 0; index < this.#table.clusters; index++) counts.set(this.#table.first + index, 0);
    this.#table.first = this.#allocate(clusters);
    this.#table.clusters = clusters;
  }

  #allocate(clusters: number): number {
    const { counts, avoid } = this.#parts;
    const first = freeRun(counts, avoid, { from: this.#firstFree, clusters });
    if (clusters === 1) this.#firstFree = first + 1;
    for (let index = 0; index < clusters; index++) counts.set(first + index, 1);
    return first;
  }

  #writeBlock(index: number, cluster: number): void {
    const { image, counts } = this.#parts;
    const { refcountBlockEntries, refcountOrder } = image.geometry;
    const block = new Uint8Array(image.clusterSize);
    const first = index * refcountBlockEntries;
    for (let entry = 0; entry < refcountBlockEntries; entry++) {
      const count = counts.get(first + entry);
      if (count > 0) setRefcountEntry(block, 0, refcountOrder, entry, count);
    }
    image.write(cluster * image.clusterSize, block);
  }

  #publish(): void {
    const { image } = this.#parts;
    const { first, clusters } = this.#table;
    const bytes = new Uint8Array(clusters * image.clusterSize);
    const view = viewOf(bytes);
    for (const [index, cluster] of this.#blocks) setUint64(view, index * 8, cluster * image.clusterSize);
    image.write(first * image.clusterSize, bytes);
    image.flush();
    image.setRefcountTable(first * image.clusterSize, clusters);
    image.flush();
  }
}
