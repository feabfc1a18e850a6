/**
 * Write order: which changes reach the file before which, so that a crash at any moment leaves a good image.
 *
 * *Stable* means that a `storage.flush()` has completed since the write. Between two flushes any subset of the writes may be
 * lost, or torn at 512 bytes.
 *
 *  1. A cluster's refcount is stable before any entry naming it is written (waived while the dirty bit is stable).
 *  2. Its data, copied-on-write head and tail included, is stable before that entry.
 *  3. An entry is removed stably before its cluster's refcount is lowered.
 *  4. A freed cluster is not reused before the next flush completes.
 *  5. COPIED is set exactly when the refcount is 1, in active tables.
 *  6. The header is written after everything it points to is stable.
 *  7. Nothing is written before the whole header is validated and every incompatible bit understood.
 *  8. After a failed write or flush the image is poisoned until reopened, and no flag is cleared.
 *  9. Losing or tearing (at 512 bytes) any subset of the unstable writes leaves an image in which a check finds leaks only,
 *     and all flushed guest data intact.
 *
 * How a flush keeps them, with the lowered refcounts ("frees") waiting in the allocator:
 *
 *   refcount blocks -> |barrier| -> L2 tables -> |barrier| -> L1 entries -> |barrier| -> frees lower refcounts in the cache
 *   (and all data)                               (only where a new L2 table is to be linked)         -> refcount blocks
 *
 * The last write needs no barrier: a refcount that is too high is a leak. With lazy refcounts no flush writes the blocks
 * while the dirty bit is stable; a new L2 table does, as in QEMU, without a barrier: less is lost in a crash then. `close`
 * writes them all and clears the bit.
 */
import type { Storage } from '../storage/storage.js';
import type { Allocator } from './allocator.js';
import type { HeaderState } from './header-state.js';
import type { OffsetTable } from './offset-table.js';
import type { Refcounts } from './refcounts.js';
import type { TableCache } from './table-cache.js';

export interface WriteOrderParts {
  /** Metadata. */
  readonly storage: Storage;
  /** Guest data: the same, or an external data file. */
  readonly data: Storage;
  readonly header: HeaderState;
  readonly refcounts: Refcounts;
  readonly allocator: Allocator;
  readonly l1: OffsetTable;
  readonly l2Cache: TableCache;
}

export class WriteOrder {
  readonly #parts: WriteOrderParts;

  constructor(parts: WriteOrderParts) {
    this.#parts = parts;
  }

  /** Before an L2 entry is written: the refcounts and the data of what it names (invariants 1 and 2). */
  makeL2DependenciesStable(): void {
    const { refcounts, storage, data, header } = this.#parts;
    if (!header.dirty) refcounts.write();
    if (data !== storage) data.flush();
    storage.flush();
  }

  /** Returns when all changes made so far are stable. */
  flush(): void {
    const { storage, header, l1, l2Cache, refcounts, allocator } = this.#parts;
    this.makeL2DependenciesStable();
    l2Cache.writeBack();
    if (l1.dirty) {
      storage.flush();
      l1.write();
    }
    storage.flush();
    allocator.applyFrees();
    if (!header.dirty) refcounts.write();
  }

  /**
   * Puts the size of the disk and the place of a moved L1 table into the header (invariant 6). Everything it points to
   * has been written; the flush makes it stable first.
   */
  publishSizeAndL1(size: number, l1Offset: number, l1Entries: number): void {
    this.flush();
    this.#parts.header.setSizeAndL1(size, l1Offset, l1Entries);
    this.#parts.storage.flush();
  }

  /** A flush after which the file is clean: refcounts written, dirty bit cleared last. */
  makeClean(): void {
    const { storage, header, refcounts } = this.#parts;
    this.flush();
    refcounts.write();
    storage.flush();
    if (!header.dirty) return;
    header.setDirty(false);
    storage.flush();
  }
}
