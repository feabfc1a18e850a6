/**
 * The conformance suite of the kernels, run for each implementation. It proves, against the naive model:
 *
 * - tables: byte order both ways; the length of a run and the making of one, also across 2^32 and 2^64
 * - refcounts: one entry, a range, and the lengths of runs, for all seven widths; a range add is all or nothing
 * - nothing outside the range named is written
 */
import * as fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { SCRATCH_BYTES, type Kernels, type KernelsFactory } from '../../src/kernels/index.js';
import {
  BLOCK_BYTES,
  blockArbitrary,
  encodeBlock,
  encodeTable,
  entriesOf,
  lengthWhile,
  maximumOf,
  ORDERS,
  rangeArbitrary,
  TWO_TO_64,
} from './model.js';

/** The slot under test; the ones before and after it hold a pattern that has to stay. */
const SLOT = SCRATCH_BYTES + BLOCK_BYTES;
const GUARD_BYTE = 0xa5;
const GUARD = new Uint8Array(BLOCK_BYTES).fill(GUARD_BYTE);

/** Runs the suite on the kernels that `factory` makes. */
export function testKernelsConformance(title: string, factory: KernelsFactory): void {
  const kernels = factory({ slotBytes: BLOCK_BYTES, slots: 3 });
  const slot = kernels.bytes.subarray(SLOT, SLOT + BLOCK_BYTES);

  const expectGuards = () => {
    for (const guard of [SLOT - BLOCK_BYTES, SLOT + BLOCK_BYTES]) {
      expectBytes(kernels.bytes.subarray(guard, guard + BLOCK_BYTES), GUARD);
    }
  };

  describe(title, () => {
    beforeEach(() => {
      kernels.bytes.fill(GUARD_BYTE);
    });
    testMemory(factory);
    testTables(kernels, slot, expectGuards);
    testRefcountEntries(kernels, slot);
    testRefcountRanges(kernels, slot, expectGuards);
    testFreeRuns(kernels, slot);
  });
}

function testMemory(factory: KernelsFactory): void {
  test('the memory is zeroed, holds scratch and all slots, and has one buffer for both views', () => {
    const { bytes, words } = factory({ slotBytes: 512, slots: 300 });
    expect(bytes.byteLength).toBeGreaterThanOrEqual(SCRATCH_BYTES + 512 * 300);
    expect(words.buffer).toBe(bytes.buffer);
    expect(words.byteLength).toBe(bytes.byteLength);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
  });

  test('two images do not share memory', () => {
    const [first, second] = [factory({ slotBytes: 512, slots: 1 }), factory({ slotBytes: 512, slots: 1 })];
    first.bytes[SCRATCH_BYTES] = 1;
    expect(second.bytes[SCRATCH_BYTES]).toBe(0);
  });
}

function testTables(kernels: Kernels, slot: Uint8Array, expectGuards: () => void): void {
  const entry = fc.bigInt({ min: 0n, max: TWO_TO_64 - 1n });
  const step = fc.constantFrom(0, 512, 65536, 2 ** 21);

  test('swap64 reverses each entry, to another place and in place', () => {
    const bytes = fc.uint8Array({ maxLength: BLOCK_BYTES }).map((all) => all.subarray(0, all.length & ~7));
    fc.assert(
      fc.property(bytes, (source) => {
        const expected = Array.from({ length: source.length / 8 }, (_, index) =>
          [...source.subarray(index * 8, index * 8 + 8)].reverse(),
        ).flat();
        kernels.bytes.set(source, 0);
        kernels.swap64(0, SLOT, source.length / 8);
        expect([...slot.subarray(0, source.length)]).toEqual(expected);
        kernels.swap64(SLOT, SLOT, source.length / 8);
        expectBytes(slot.subarray(0, source.length), source);
        expectGuards();
      }),
      { examples: [[new Uint8Array(BLOCK_BYTES).map((_, index) => index)]] },
    );
  });

  test('a run ends where an entry is not the one before plus the step', () => {
    const runs = fc.array(fc.record({ entry, step, length: fc.integer({ min: 1, max: 90 }) }), { minLength: 1 });
    fc.assert(
      fc.property(runs, step, rangeArbitrary(BLOCK_BYTES / 8 - 1), (parts, wanted, { first, end }) => {
        const entries = parts.flatMap((part) => run(part.entry, part.step, part.length));
        const table = [...entries, ...run(0n, 512, BLOCK_BYTES / 8)].slice(0, BLOCK_BYTES / 8);
        slot.set(encodeTable(table));
        let length = 1;
        while (first + length <= end && table[first + length] === following(table[first + length - 1], wanted))
          length++;
        expect(kernels.l2RunLength(SLOT, first, end + 1, wanted)).toBe(length);
      }),
    );
  });

  test('a run that is filled in is found again, and its neighbours are kept', () => {
    fc.assert(
      fc.property(entry, step, rangeArbitrary(BLOCK_BYTES / 8), (start, increment, { first, end }) => {
        slot.fill(GUARD_BYTE);
        const low = Number(start & 0xffffffffn);
        kernels.l2FillRun(SLOT, first, end - first, low, Number(start >> 32n), increment);
        const expected = slot.slice().fill(GUARD_BYTE);
        expected.set(encodeTable(run(start, increment, end - first)), first * 8);
        expectBytes(slot, expected);
        if (end > first) expect(kernels.l2RunLength(SLOT, first, end, increment)).toBe(end - first);
        expectGuards();
      }),
      // A carry from the low word into the high one.
      { examples: [[0x7fff_ffff_0000n, 65536, { first: 3, end: 500 }]] },
    );
  });
}

/** Compares quickly; only a difference is worth the time that a good message takes. */
function expectBytes(actual: Uint8Array, expected: Uint8Array): void {
  if (Buffer.compare(actual, expected) !== 0) expect(actual).toEqual(expected);
}

function run(start: bigint, step: number, length: number): bigint[] {
  return Array.from({ length }, (_, index) => (start + BigInt(index) * BigInt(step)) % TWO_TO_64);
}

function following(entry: bigint | undefined, step: number): bigint {
  return ((entry ?? 0n) + BigInt(step)) % TWO_TO_64;
}

function testRefcountEntries(kernels: Kernels, slot: Uint8Array): void {
  test('an entry is read as the model writes it', () => {
    fc.assert(
      fc.property(blockArbitrary, fc.nat(), ({ order, entries }, pick) => {
        slot.set(encodeBlock(order, entries));
        const index = pick % entries.length;
        expect(kernels.refcountGet(SLOT, order, index)).toBe(Number(entries[index]));
      }),
    );
  });

  test('an entry above 2^53 is read as the nearest double', () => {
    slot.set(encodeBlock(6, [2n ** 64n - 1n, 2n ** 53n + 1n, 2n ** 53n - 1n]));
    expect([0, 1, 2].map((index) => kernels.refcountGet(SLOT, 6, index))).toEqual([2 ** 64, 2 ** 53, 2 ** 53 - 1]);
  });

  test('an entry that is set is set alone', () => {
    fc.assert(
      fc.property(blockArbitrary, fc.nat(), fc.maxSafeNat(), ({ order, entries }, pick, number) => {
        const index = pick % entries.length;
        const value = BigInt(number) % (maximumOf(order) + 1n);
        slot.set(encodeBlock(order, entries));
        kernels.refcountSet(SLOT, order, index, Number(value));
        expectBytes(slot, encodeBlock(order, entries.with(index, value)));
      }),
    );
  });
}

function testRefcountRanges(kernels: Kernels, slot: Uint8Array, expectGuards: () => void): void {
  const deltaFor = (order: number) => {
    const limit = Math.min(Number(maximumOf(order)), 2 ** 31 - 1);
    return fc.oneof(
      fc.constantFrom(1, -1, 2, -2, limit, -limit),
      fc.integer({ min: -limit, max: limit }),
      fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
    );
  };
  const anyAdd = blockArbitrary.chain((block) =>
    fc.record({ block: fc.constant(block), range: rangeArbitrary(block.entries.length), delta: deltaFor(block.order) }),
  );

  test('a range add does what adding one by one would, or changes nothing and names the first entry in its way', () => {
    fc.assert(
      fc.property(anyAdd, ({ block: { order, entries }, range: { first, end }, delta: added }) => {
        slot.set(encodeBlock(order, entries));
        const sums = entries.map((entry, index) => (index >= first && index < end ? entry + BigInt(added) : entry));
        const outside = sums.findIndex((sum) => sum < 0n || sum > maximumOf(order));
        expect(kernels.refcountAdd(SLOT, order, first, end - first, added)).toBe(outside);
        expectBytes(slot, encodeBlock(order, outside === -1 ? sums : entries));
        expectGuards();
      }),
      { numRuns: 500 },
    );
  });

  test.each(ORDERS)('width 2^%i: a range goes from empty to full and back, and not one further', (order) => {
    const count = entriesOf(order) - 5;
    const full = Math.min(Number(maximumOf(order)), 2 ** 31 - 1);
    slot.fill(0);
    expect(kernels.refcountAdd(SLOT, order, 3, count, full)).toBe(-1);
    expect([2, 3, count + 2, count + 3].map((index) => kernels.refcountGet(SLOT, order, index))).toEqual([
      0,
      full,
      full,
      0,
    ]);
    if (order < 5) expect(kernels.refcountAdd(SLOT, order, 0, count, 1)).toBe(3);
    expect(kernels.refcountAdd(SLOT, order, 3, count + 1, -full)).toBe(count + 3);
    expect(kernels.refcountAdd(SLOT, order, 3, count, -full)).toBe(-1);
    expect(slot.every((byte) => byte === 0)).toBe(true);
  });

  test('64-bit entries carry into their high half and borrow from it exactly', () => {
    slot.set(encodeBlock(6, [2n ** 32n - 1n, 2n ** 63n - 1n, 2n ** 64n - 2n]));
    expect(kernels.refcountAdd(SLOT, 6, 0, 3, 1)).toBe(-1);
    expect(slot.subarray(0, 24)).toEqual(encodeBlock(6, [2n ** 32n, 2n ** 63n, 2n ** 64n - 1n]));
    expect(kernels.refcountAdd(SLOT, 6, 0, 3, 1)).toBe(2);
    expect(kernels.refcountAdd(SLOT, 6, 0, 3, -2)).toBe(-1);
    expect(slot.subarray(0, 24)).toEqual(encodeBlock(6, [2n ** 32n - 2n, 2n ** 63n - 2n, 2n ** 64n - 3n]));
  });
}

function testFreeRuns(kernels: Kernels, slot: Uint8Array): void {
  const search = blockArbitrary.chain((block) =>
    fc.record({
      block: fc.constant(block),
      range: rangeArbitrary(block.entries.length),
    }),
  );

  test('the lengths of free and of used runs are those of the model', () => {
    fc.assert(
      fc.property(search, ({ block: { order, entries }, range: { first, end } }) => {
        slot.set(encodeBlock(order, entries));
        const free = lengthWhile(entries, first, end, (entry) => entry === 0n);
        const used = lengthWhile(entries, first, end, (entry) => entry !== 0n);
        expect(kernels.refcountFreeLength(SLOT, order, first, end)).toBe(free);
        expect(kernels.refcountUsedLength(SLOT, order, first, end)).toBe(used);
      }),
      { numRuns: 500 },
    );
  });

  test.each(ORDERS)('width 2^%i: runs of every length up to 130 are measured at every place of a group', (order) => {
    const count = Math.min(entriesOf(order), 320);
    for (let length = 1; length <= 130; length += 3) {
      for (const start of [0, 1, 31, 62, 63, 64, 65, 100, 127]) {
        slot.fill(0xff);
        for (let index = start; index < start + length; index++) kernels.refcountSet(SLOT, order, index, 0);
        expect(kernels.refcountUsedLength(SLOT, order, 0, count)).toBe(start);
        expect(kernels.refcountFreeLength(SLOT, order, start, count)).toBe(length);
      }
    }
  });
}
