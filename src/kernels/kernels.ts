/**
 * The kernels: the hot loops over L2 tables and refcount blocks, behind one interface with two implementations:
 * WASM (`wasm-kernels.ts`, the default) and TypeScript (`reference-kernels.ts`, the oracle of the tests).
 *
 * A `Kernels` owns one run of memory that never grows, so that views of it stay valid for its life:
 *
 *   0                  SCRATCH_BYTES (64 KiB)            SCRATCH_BYTES + slotBytes * slots
 *   +------------------+--------+--------+---- ... ------+
 *   | scratch          | slot 0 | slot 1 |               |
 *   +------------------+--------+--------+---- ... ------+
 *
 * L2 tables are kept in *native* order in their slots: entry `i` is two little-endian 32-bit words, low first, so that
 * plain JavaScript can look at one entry without a call. `swap64` converts on load and on store. Refcount blocks are
 * kept in the order of the file. Addresses are byte offsets into `bytes`, multiples of 16 for tables and blocks.
 *
 * Values cross the boundary as 32-bit words or doubles, never as `BigInt`.
 */

/** Scratch at address 0: one slice of a table, on its way to or from a storage. */
export const SCRATCH_BYTES = 0x10000;

export interface Kernels {
  readonly name: 'wasm' | 'reference';
  /** All of the memory. Its buffer is never detached. */
  readonly bytes: Uint8Array;
  /** The same memory as 32-bit little-endian words. */
  readonly words: Uint32Array;

  /** Copies `count` 64-bit entries from `from` to `to` with their byte order reversed. `from` may equal `to`; otherwise no overlap. */
  swap64(from: number, to: number, count: number): void;

  /**
   * How many entries of the L2 table (native order) continue the run that starts at `first`: entry `first + k` must equal
   * entry `first` plus `k * step`, for `first + k < end`. At least 1. `step` is the cluster size for a run of contiguous
   * host clusters and 0 for a run of equal entries. Flag bits count as part of the entry.
   */
  l2RunLength(table: number, first: number, end: number, step: number): number;

  /** Sets entries `first .. first + count` to `high:low + k * step` (native order). */
  l2FillRun(table: number, first: number, count: number, low: number, high: number, step: number): void;

  /** The refcount of entry `index`, exact up to 2^53, rounded above. `order` is log2 of the width in bits, 0 to 6. */
  refcountGet(block: number, order: number, index: number): number;

  /** Sets entry `index`. `value` is an integer from 0 to 2^53 - 1 that fits the width (the caller checks). */
  refcountSet(block: number, order: number, index: number, value: number): void;

  /**
   * Adds `delta` (any integer of 32 bits) to `count` entries from `first`. All or nothing: returns -1 when done, otherwise
   * the index of the first entry that would leave 0 .. 2^width - 1, and nothing has changed.
   */
  refcountAdd(block: number, order: number, first: number, count: number, delta: number): number;

  /** How many entries from `first` on, below `end`, are zero without a gap. */
  refcountFreeLength(block: number, order: number, first: number, end: number): number;

  /** How many entries from `first` on, below `end`, are not zero without a gap. */
  refcountUsedLength(block: number, order: number, first: number, end: number): number;
}

/** Makes the kernels for one image: `slots` table slots of `slotBytes` (a multiple of 16) each. */
export type KernelsFactory = (shape: { readonly slotBytes: number; readonly slots: number }) => Kernels;
