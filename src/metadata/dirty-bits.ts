/**
 * Dirty bits: a bitmap in memory, one bit for each `granularity` bytes of the disk (spec, "Bitmap data": bit `n` is bit `n % 8`
 * of byte `n / 8`).
 *
 * Held in pages of 4 KiB, each all clear (not there), all set (one constant), or bytes of its own: a disk of 1 TiB with bits of
 * 64 KiB has 512 pages, and one that nobody writes to takes none of them. A page that comes to be all set is given back.
 *
 * Bits behind the end of the disk are always clear.
 */
import type { GuestOffset } from '../disk.js';
import { assert } from '../util/assert.js';
import { divideUp } from '../util/integers.js';

const PAGE_BYTES = 4096;
const PAGE_BITS = PAGE_BYTES * 8;
const SET = 'all set';

type Page = Uint8Array | typeof SET | undefined;

/** A run of guest bytes that all have their bit set. */
export interface DirtyRun {
  readonly offset: GuestOffset;
  readonly length: number;
}

export class DirtyBits {
  /** Bytes of the disk that one bit stands for. */
  readonly granularity: number;
  #size: number;
  #bits: number;
  readonly #pages: Page[] = [];

  /** For a disk of `size` bytes, all clear. */
  constructor(size: number, granularity: number) {
    this.granularity = granularity;
    this.#size = size;
    this.#bits = divideUp(size, granularity);
  }

  /** Bytes of the disk. */
  get size(): number {
    return this.#size;
  }

  /** Bytes that the bits take, packed. */
  get byteLength(): number {
    return divideUp(this.#bits, 8);
  }

  /** How many bits are set. */
  get count(): number {
    let count = 0;
    for (let at = this.#find(true, 0); at < this.#bits;) {
      const end = this.#find(false, at);
      count += end - at;
      at = this.#find(true, end);
    }
    return count;
  }

  /**
   * Sets the bits of all that `length` bytes from `offset` on touch, as far as the disk goes. Returns whether one was clear.
   */
  mark(offset: GuestOffset, length: number): boolean {
    if (length === 0 || offset >= this.#size) return false;
    const first = Math.floor(offset / this.granularity);
    return this.#set(first, Math.min(this.#bits, divideUp(offset + length, this.granularity)));
  }

  /** Sets what `other`, for a disk of the same size, has set; its granularity may be another. Returns whether one was clear. */
  merge(other: DirtyBits): boolean {
    let changed = false;
    for (const { offset, length } of other.runs()) changed = this.mark(offset, length) || changed;
    return changed;
  }

  /** What is set, in order; neighbours are one run. The bits must not change meanwhile. */
  *runs(): Generator<DirtyRun> {
    for (let run = this.nextRun(0); run !== null; run = this.nextRun(run.offset + run.length)) yield run;
  }

  /** The first run of set bits at or behind `from`, which begins at a bit. Null for none. */
  nextRun(from: GuestOffset): DirtyRun | null {
    const first = this.#find(true, divideUp(from, this.granularity));
    if (first >= this.#bits) return null;
    const offset = first * this.granularity;
    const end = Math.min(this.#size, this.#find(false, first) * this.granularity);
    return { offset, length: end - offset };
  }

  /** For a disk that has become larger or smaller. What is new is set, or clear. */
  resize(size: number, added: 'set' | 'clear'): void {
    const before = this.#bits;
    const bits = divideUp(size, this.granularity);
    const old = this.#size;
    if (bits < before) this.#cut(bits);
    // "All set" means as far as the bits go, which is further from now on.
    if (bits > before && before % PAGE_BITS !== 0) this.#ownPage(Math.floor(before / PAGE_BITS));
    this.#size = size;
    this.#bits = bits;
    if (size > old && added === 'set') this.mark(old, size - old);
  }

  copy(): DirtyBits {
    const copy = new DirtyBits(this.#size, this.granularity);
    this.#pages.forEach((page, index) => (copy.#pages[index] = page instanceof Uint8Array ? page.slice() : page));
    return copy;
  }

  /** Fills `target` with the packed bits from byte `at` on; zeroes behind their end. */
  pack(at: number, target: Uint8Array): void {
    for (let done = 0; done < target.length;) {
      const index = Math.floor((at + done) / PAGE_BYTES);
      const inPage = at + done - index * PAGE_BYTES;
      const length = Math.min(target.length - done, PAGE_BYTES - inPage);
      const page = this.#pages[index];
      const part = target.subarray(done, done + length);
      if (page instanceof Uint8Array) part.set(page.subarray(inPage, inPage + length));
      else if (page === SET) this.#packSet(at + done, part);
      else part.fill(0);
      done += length;
    }
  }

  /** Sets the bits that `source`, packed, has set; it begins at byte `at`. What it has behind the end is passed over. */
  unpack(at: number, source: Uint8Array): void {
    const end = Math.min(source.length, this.byteLength - at);
    for (let done = 0; done < end;) {
      const index = Math.floor((at + done) / PAGE_BYTES);
      const inPage = at + done - index * PAGE_BYTES;
      const length = Math.min(end - done, PAGE_BYTES - inPage);
      const part = source.subarray(done, done + length);
      if (part.some((byte) => byte !== 0) && this.#pages[index] !== SET) {
        const page = this.#ownPage(index);
        part.forEach((byte, position) => (page[inPage + position]! |= byte));
      }
      done += length;
    }
    if (end > 0) this.#cut(this.#bits);
  }

  /** Bits `first .. end`. Returns whether one was clear. */
  #set(first: number, end: number): boolean {
    assert(end <= this.#bits, `bits ${first} to ${end} of ${this.#bits}`);
    let changed = false;
    for (let at = first; at < end;) {
      const index = Math.floor(at / PAGE_BITS);
      const start = index * PAGE_BITS;
      const stop = Math.min(end, start + PAGE_BITS);
      if (this.#pages[index] !== SET) {
        if (at === start && stop === Math.min(this.#bits, start + PAGE_BITS)) {
          changed ||= this.#find(false, at) < stop;
          this.#pages[index] = SET;
        } else {
          changed = setInPage(this.#ownPage(index), at - start, stop - start) || changed;
        }
      }
      at = stop;
    }
    return changed;
  }

  /** The first bit at or behind `from` that is set, or clear; the number of bits if there is none. */
  #find(set: boolean, from: number): number {
    for (let at = from; at < this.#bits;) {
      const index = Math.floor(at / PAGE_BITS);
      const start = index * PAGE_BITS;
      const page = this.#pages[index];
      if (page instanceof Uint8Array) {
        const found = findInPage(page, at - start, set);
        if (found < PAGE_BITS) return Math.min(this.#bits, start + found);
      } else if ((page === SET) === set) {
        return at;
      }
      at = start + PAGE_BITS;
    }
    return this.#bits;
  }

  /** Clears all from bit `bits` on. */
  #cut(bits: number): void {
    const index = Math.floor(bits / PAGE_BITS);
    const inPage = bits - index * PAGE_BITS;
    this.#pages.length = Math.min(this.#pages.length, inPage === 0 ? index : index + 1);
    const page = this.#pages[index];
    if (page === undefined || inPage === 0) return;
    const own = this.#ownPage(index);
    const byte = inPage >> 3;
    own[byte]! &= (1 << (inPage & 7)) - 1;
    own.fill(0, byte + 1);
  }

  /** The page as bytes, to be changed. */
  #ownPage(index: number): Uint8Array {
    const page = this.#pages[index];
    if (page instanceof Uint8Array) return page;
    const own = new Uint8Array(PAGE_BYTES);
    if (page === SET) this.#packSet(index * PAGE_BYTES, own);
    this.#pages[index] = own;
    return own;
  }

  /** Ones as far as the bits go, `target` beginning at byte `at`. */
  #packSet(at: number, target: Uint8Array): void {
    const bits = Math.max(0, Math.min(target.length * 8, this.#bits - at * 8));
    target.fill(0xff, 0, bits >> 3).fill(0, bits >> 3);
    if ((bits & 7) !== 0) target[bits >> 3] = (1 << (bits & 7)) - 1;
  }
}

/** Bits `first .. end` of a page. Returns whether one was clear. */
function setInPage(page: Uint8Array, first: number, end: number): boolean {
  let changed = false;
  for (let at = first; at < end;) {
    const byte = at >> 3;
    const from = at & 7;
    const to = Math.min(8, from + end - at);
    const bits = ((1 << to) - 1) & ~((1 << from) - 1);
    changed ||= (page[byte]! & bits) !== bits;
    page[byte]! |= bits;
    at += to - from;
  }
  return changed;
}

/** The first bit of a page at or behind `from` that is set, or clear; `PAGE_BITS` if there is none. */
function findInPage(page: Uint8Array, from: number, set: boolean): number {
  const passed = set ? 0 : 0xff;
  for (let byte = from >> 3; byte < PAGE_BYTES; byte++) {
    const ignored = byte === from >> 3 ? (1 << (from & 7)) - 1 : 0;
    const value = set ? page[byte]! & ~ignored : page[byte]! | ignored;
    if (value === passed) continue;
    const wanted = set ? value : ~value & 0xff;
    return byte * 8 + (31 - Math.clz32(wanted & -wanted));
  }
  return PAGE_BITS;
}
