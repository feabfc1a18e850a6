/** Dirty bits against an array of booleans. */
import { describe, expect, it } from 'vitest';
import { DirtyBits } from '../../src/metadata/dirty-bits.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';

const GRANULARITY = 512;
/** Two pages of 32,768 bits, and a piece of a third that does not end at a byte, nor at a bit. */
const SIZE = (2 * 32_768 + 1003) * GRANULARITY - 100;

class Model {
  bits: boolean[];

  constructor(public size: number) {
    this.bits = Array.from({ length: Math.ceil(size / GRANULARITY) }, () => false);
  }

  mark(offset: number, length: number): boolean {
    let changed = false;
    if (length === 0) return false;
    const end = Math.min(offset + length, this.size);
    for (let at = Math.floor(offset / GRANULARITY); at * GRANULARITY < end; at++) {
      changed ||= !this.bits[at];
      this.bits[at] = true;
    }
    return changed;
  }

  packed(): Uint8Array {
    const bytes = new Uint8Array(Math.ceil(this.bits.length / 8));
    this.bits.forEach((bit, index) => (bytes[index >> 3]! |= Number(bit) << (index & 7)));
    return bytes;
  }
}

function packed(bits: DirtyBits): Uint8Array {
  const bytes = new Uint8Array(bits.byteLength);
  bits.pack(0, bytes);
  return bytes;
}

function expectSame(bits: DirtyBits, model: Model): void {
  expect(bits.byteLength).toBe(model.packed().length);
  expect(Buffer.compare(packed(bits), model.packed())).toBe(0);
  expect(bits.count).toBe(model.bits.filter(Boolean).length);
  const again = new Model(model.size);
  let end = -1;
  for (const { offset, length } of bits.runs()) {
    expect(offset).toBeGreaterThan(end);
    again.mark(offset, length);
    end = offset + length;
  }
  expect(end).toBeLessThanOrEqual(model.size);
  expect(Buffer.compare(again.packed(), model.packed())).toBe(0);
}

/** Short, long and whole ones, at the edges of pages more often than not. */
function range(random: SeededRandom, size: number): [number, number] {
  const edge = random.below(3) * 32_768 * GRANULARITY;
  const offset = random.oneIn(2) ? random.below(size) : Math.max(0, Math.min(size - 1, edge - random.below(5000)));
  const longest = random.pick([1, GRANULARITY, 20 * GRANULARITY, 40_000 * GRANULARITY]);
  return [offset, Math.min(size - offset, random.between(0, longest))];
}

describe('dirty bits', () => {
  it('are those of a plain array of bits, whatever is marked, resized, packed and unpacked', () =>
    withSeed('dirty bits', seedOfThisRun(800), (random) => {
      for (let history = 0; history < 6; history++) {
        let bits = new DirtyBits(SIZE, GRANULARITY);
        const model = new Model(SIZE);
        for (let step = 0; step < 30; step++) {
          const [offset, length] = range(random, model.size);
          expect(bits.mark(offset, length)).toBe(model.mark(offset, length));
          if (random.oneIn(8)) resize(bits, model, random);
          if (random.oneIn(8)) bits = random.oneIn(2) ? bits.copy() : unpacked(bits, random);
        }
        expectSame(bits, model);
      }
    }));

  function resize(bits: DirtyBits, model: Model, random: SeededRandom): void {
    const size = random.oneIn(3) ? 32_768 * GRANULARITY : random.between(1, SIZE + 100_000);
    const added = random.pick(['set', 'clear'] as const);
    const old = model.size;
    bits.resize(size, added);
    model.size = size;
    const count = Math.ceil(size / GRANULARITY);
    model.bits = Array.from({ length: count }, (_, index) => model.bits[index] ?? false);
    if (added === 'set' && size > old) model.mark(old, size - old);
  }

  function unpacked(bits: DirtyBits, random: SeededRandom): DirtyBits {
    const copy = new DirtyBits(bits.size, GRANULARITY);
    const piece = random.pick([512, 4096, 5000, 65536]);
    for (let at = 0; at < bits.byteLength; at += piece) {
      const bytes = new Uint8Array(piece);
      bits.pack(at, bytes);
      // Behind the end there is nothing to be believed.
      for (let byte = bits.byteLength; byte < at + piece; byte++) bytes[byte - at] = 0xff;
      copy.unpack(at, bytes);
    }
    return copy;
  }

  it('say nothing was clear where a whole page is marked once more', () => {
    const bits = new DirtyBits(SIZE, GRANULARITY);
    expect(bits.mark(0, SIZE)).toBe(true);
    expect(bits.mark(0, SIZE)).toBe(false);
    expect(bits.mark(SIZE, 10)).toBe(false);
    expect([...bits.runs()]).toEqual([{ offset: 0, length: SIZE }]);
  });

  it('are merged from another granularity: each way what either stands for is set', () => {
    const fine = new DirtyBits(10_000_000, 512);
    const coarse = new DirtyBits(10_000_000, 65536);
    fine.mark(70_000, 1);
    expect(coarse.merge(fine)).toBe(true);
    expect([...coarse.runs()]).toEqual([{ offset: 65536, length: 65536 }]);
    expect(fine.merge(coarse)).toBe(true);
    expect([...fine.runs()]).toEqual([{ offset: 65536, length: 65536 }]);
    expect(fine.merge(coarse)).toBe(false);
  });

  it('cost nothing for a disk of 1 PiB until it is written', () => {
    const bits = new DirtyBits(2 ** 50, 2 ** 20);
    expect(bits.byteLength).toBe(2 ** 27);
    bits.mark(2 ** 50 - 1, 1);
    expect([...bits.runs()]).toEqual([{ offset: 2 ** 50 - 2 ** 20, length: 2 ** 20 }]);
  });
});
