/**
 * The naive model the kernels are held against: tables and blocks as arrays of BigInt, converted by the letter of the spec.
 */
import * as fc from 'fast-check';

/** log2 of every refcount width. */
export const ORDERS = [0, 1, 2, 3, 4, 5, 6] as const;

/** Bytes of the blocks and tables under test: eight of the smallest clusters. */
export const BLOCK_BYTES = 4096;

export const TWO_TO_64 = 1n << 64n;

export function widthOf(order: number): number {
  return 2 ** order;
}

export function maximumOf(order: number): bigint {
  return (1n << BigInt(widthOf(order))) - 1n;
}

export function entriesOf(order: number): number {
  return (BLOCK_BYTES * 8) / widthOf(order);
}

/** Spec: sub-byte entries from the least significant bit on, all others big endian. */
export function encodeBlock(order: number, entries: readonly bigint[]): Uint8Array {
  const bytes = new Uint8Array((entries.length * widthOf(order)) / 8);
  const width = widthOf(order);
  entries.forEach((entry, index) => {
    if (width < 8) {
      const bit = index * width;
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) | (Number(entry) << (bit & 7));
      return;
    }
    const size = width / 8;
    for (let byte = 0; byte < size; byte++) {
      bytes[index * size + byte] = Number((entry >> BigInt((size - 1 - byte) * 8)) & 0xffn);
    }
  });
  return bytes;
}

/** An L2 table in native order: 64-bit little-endian entries. */
export function encodeTable(entries: readonly bigint[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(entries.length * 8));
  entries.forEach((entry, index) => view.setBigUint64(index * 8, entry, true));
  return new Uint8Array(view.buffer);
}

/** How many entries from `first` on, below `end`, satisfy `matches` without a gap. */
export function lengthWhile(
  entries: readonly bigint[],
  first: number,
  end: number,
  matches: (entry: bigint) => boolean,
): number {
  const stop = entries.slice(first, end).findIndex((entry) => !matches(entry));
  return stop === -1 ? Math.max(0, end - first) : stop;
}

/** A width, and a block of it made of runs, as blocks in the world are. */
export const blockArbitrary: fc.Arbitrary<{ order: number; entries: bigint[] }> = fc
  .constantFrom(...ORDERS)
  .chain((order) => fc.record({ order: fc.constant(order), entries: entriesArbitrary(order) }));

function entriesArbitrary(order: number): fc.Arbitrary<bigint[]> {
  const maximum = maximumOf(order);
  const value = fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(0n, 1n, maximum, maximum - 1n) },
    { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: maximum }) },
  );
  const run = fc.record({ value, length: fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 400 })) });
  return fc.array(run, { maxLength: 24 }).map((runs) => {
    const entries = runs.flatMap((part) => Array.from({ length: part.length }, () => part.value));
    const count = entriesOf(order);
    return [...entries, ...Array.from({ length: Math.max(0, count - entries.length) }, () => 0n)].slice(0, count);
  });
}

/** Two positions in order, `first <= end`, often near the start where the runs are. */
export function rangeArbitrary(count: number): fc.Arbitrary<{ first: number; end: number }> {
  const position = fc.oneof(fc.integer({ min: 0, max: Math.min(count, 300) }), fc.integer({ min: 0, max: count }));
  return fc.tuple(position, position).map(([a, b]) => ({ first: Math.min(a, b), end: Math.max(a, b) }));
}
