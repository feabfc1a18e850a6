/**
 * The kernels in plain TypeScript: the oracle of the tests, and the measure of the benches; never the default.
 * Clear before fast: one entry at a time, each function what its line in `kernels.ts` says.
 */
import type { Kernels, KernelsFactory } from './kernels.js';
import { kernelMemoryBytes } from './kernel-memory.js';
import { getRefcountEntry, readUint32, setRefcountEntry, writeUint32 } from './refcount-entry.js';

const TWO_TO_32 = 0x1_0000_0000;

/** The order of 64-bit entries, whose values can pass 2^53 and are therefore handled as two words. */
const ORDER_OF_64_BITS = 6;

class ReferenceKernels implements Kernels {
  readonly name = 'reference';
  readonly words: Uint32Array;

  constructor(readonly bytes: Uint8Array) {
    this.words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2);
  }

  swap64(from: number, to: number, count: number): void {
    for (let offset = 0; offset < count * 8; offset += 8) {
      const high = readUint32(this.bytes, from + offset);
      const low = readUint32(this.bytes, from + offset + 4);
      this.words[(to + offset) >>> 2] = low;
      this.words[(to + offset + 4) >>> 2] = high;
    }
  }

  l2RunLength(table: number, first: number, end: number, step: number): number {
    let low = this.words[(table >>> 2) + first * 2] ?? 0;
    let high = this.words[(table >>> 2) + first * 2 + 1] ?? 0;
    let index = first + 1;
    for (let word = (table >>> 2) + index * 2; index < end; index++, word += 2) {
      if (low + step >= TWO_TO_32) high = (high + 1) >>> 0;
      low = (low + step) >>> 0;
      if (this.words[word] !== low || this.words[word + 1] !== high) break;
    }
    return index - first;
  }

  l2FillRun(table: number, first: number, count: number, low: number, high: number, step: number): void {
    let entryLow = low >>> 0;
    let entryHigh = high >>> 0;
    for (let index = first; index < first + count; index++) {
      this.words[(table >>> 2) + index * 2] = entryLow;
      this.words[(table >>> 2) + index * 2 + 1] = entryHigh;
      if (entryLow + step >= TWO_TO_32) entryHigh = (entryHigh + 1) >>> 0;
      entryLow = (entryLow + step) >>> 0;
    }
  }

  refcountGet(block: number, order: number, index: number): number {
    return getRefcountEntry(this.bytes, block, order, index);
  }

  refcountSet(block: number, order: number, index: number, value: number): void {
    setRefcountEntry(this.bytes, block, order, index, value);
  }

  refcountAdd(block: number, order: number, first: number, count: number, delta: number): number {
    if (order === ORDER_OF_64_BITS) return this.addTo64BitEntries(block, first, count, delta);
    const maximum = 2 ** (1 << order) - 1;
    for (let index = first; index < first + count; index++) {
      const sum = this.refcountGet(block, order, index) + delta;
      if (sum < 0 || sum > maximum) return index;
    }
    for (let index = first; index < first + count; index++) {
      this.refcountSet(block, order, index, this.refcountGet(block, order, index) + delta);
    }
    return -1;
  }

  /** Values may pass 2^53, so the words are added to one by one: what the low word carries or borrows goes into the high. */
  private addTo64BitEntries(block: number, first: number, count: number, delta: number): number {
    const end = block + (first + count) * 8;
    for (let address = block + first * 8; address < end; address += 8) {
      const carry = Math.floor((readUint32(this.bytes, address + 4) + delta) / TWO_TO_32);
      const high = readUint32(this.bytes, address) + carry;
      if (high < 0 || high >= TWO_TO_32) return (address - block) / 8;
    }
    for (let address = block + first * 8; address < end; address += 8) {
      const low = readUint32(this.bytes, address + 4) + delta;
      writeUint32(this.bytes, address, readUint32(this.bytes, address) + Math.floor(low / TWO_TO_32));
      writeUint32(this.bytes, address + 4, low);
    }
    return -1;
  }

  refcountFreeLength(block: number, order: number, first: number, end: number): number {
    let index = first;
    while (index < end && this.refcountGet(block, order, index) === 0) index++;
    return index - first;
  }

  refcountUsedLength(block: number, order: number, first: number, end: number): number {
    let index = first;
    while (index < end && this.refcountGet(block, order, index) !== 0) index++;
    return index - first;
  }
}

/** Kernels without WebAssembly. */
export const referenceKernels: KernelsFactory = (shape) =>
  new ReferenceKernels(new Uint8Array(kernelMemoryBytes(shape)));
