/**
 * Overlap guard: before anything is written, that it does not lie on metadata. In a damaged image an L2 entry may name the
 * cluster of a table, or refcounts may say that a table is free; writing there would lose the image.
 *
 * Known here are the header, the active L1 table, the refcount table, the snapshot table, and the clusters that the two
 * tables name: L2 tables and refcount blocks.
 */
import type { HostOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import type { Geometry } from '../format/geometry.js';
import { hex } from '../util/integers.js';
import type { HeaderState } from './header-state.js';
import type { OffsetTable } from './offset-table.js';

export class OverlapGuard {
  readonly #geometry: Geometry;
  readonly #header: HeaderState;
  readonly #l1: OffsetTable;
  readonly #refcountTable: OffsetTable;

  constructor(parts: {
    readonly geometry: Geometry;
    readonly header: HeaderState;
    readonly l1: OffsetTable;
    readonly refcountTable: OffsetTable;
  }) {
    this.#geometry = parts.geometry;
    this.#header = parts.header;
    this.#l1 = parts.l1;
    this.#refcountTable = parts.refcountTable;
  }

  /** Throws `CORRUPT` when `length` bytes at `host`, about to be written as `what`, touch metadata. */
  check(host: HostOffset, length: number, what: string): void {
    const owner = this.#ownerOf(host, host + length);
    if (owner === null) return;
    throw new Qcow2Error('CORRUPT', `${what} at ${hex(host)} (${length} bytes) would overwrite ${owner}`);
  }

  #ownerOf(start: HostOffset, end: HostOffset): string | null {
    const { clusterSize } = this.#geometry;
    const { snapshotCount, snapshotsOffset } = this.#header.value;
    const lies = (offset: HostOffset, length: number) => start < offset + length && offset < end;
    if (start < clusterSize) return 'the header';
    if (lies(this.#l1.offset, this.#l1.entries * 8)) return 'the L1 table';
    if (lies(this.#refcountTable.offset, this.#refcountTable.entries * 8)) return 'the refcount table';
    // Its length is not known without reading it; its first cluster is.
    if (snapshotCount > 0 && lies(snapshotsOffset, clusterSize)) return 'the snapshot table';
    for (let at = Math.floor(start / clusterSize) * clusterSize; at < end; at += clusterSize) {
      if (this.#l1.names(at)) return 'an L2 table';
      if (this.#refcountTable.names(at)) return 'a refcount block';
    }
    return null;
  }
}
