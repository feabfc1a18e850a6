/**
 * Table cache: slices of L2 tables or of refcount blocks, held in slots of the kernels' memory and written back late.
 *
 * A *slice* is a part of a table, `slotBytes` long and aligned in the file, so that with large clusters one lookup does not
 * read 2 MiB. A slice is known by its host offset. Eviction goes round like the hand of a clock.
 *
 * - An address is good until the next `load` of the same cache.
 * - A dirty slice reaches the storage in `writeBack` only. Before it evicts a dirty slice, the cache calls
 *   `makeDependenciesStable` and then writes back all that is dirty: the one barrier serves every slice.
 * - `native` slices are kept with their byte order reversed (L2 tables), see `kernels/kernels.ts`.
 */
import type { HostOffset } from '../disk.js';
import { SCRATCH_BYTES, type Kernels } from '../kernels/kernels.js';
import type { Storage } from '../storage/storage.js';

export interface TableCacheOptions {
  readonly kernels: Kernels;
  readonly storage: Storage;
  /** Address of the first slot. */
  readonly firstAddress: number;
  readonly slotBytes: number;
  /** At least 2. */
  readonly slots: number;
  readonly native: boolean;
  /** Everything a slice of this cache may name is stable when it returns. */
  readonly makeDependenciesStable: () => void;
}

const EMPTY = -1;

export class TableCache {
  readonly slotBytes: number;
  hits = 0;
  misses = 0;
  readonly #options: TableCacheOptions;
  readonly #slotOf = new Map<HostOffset, number>();
  readonly #offsetOf: Float64Array;
  readonly #dirty: Uint8Array;
  readonly #recentlyUsed: Uint8Array;
  #dirtyCount = 0;
  #hand = 0;

  constructor(options: TableCacheOptions) {
    this.#options = options;
    this.slotBytes = options.slotBytes;
    this.#offsetOf = new Float64Array(options.slots).fill(EMPTY);
    this.#dirty = new Uint8Array(options.slots);
    this.#recentlyUsed = new Uint8Array(options.slots);
  }

  get dirty(): boolean {
    return this.#dirtyCount > 0;
  }

  /** The address of the slice at `offset`, read from the storage if it is not here. */
  load(offset: HostOffset): number {
    const known = this.#slotOf.get(offset);
    if (known !== undefined) {
      this.hits++;
      this.#recentlyUsed[known] = 1;
      return this.#address(known);
    }
    this.misses++;
    const slot = this.#takeSlot();
    const { kernels, storage, native } = this.#options;
    const address = this.#address(slot);
    storage.read(offset, kernels.bytes.subarray(address, address + this.slotBytes));
    if (native) kernels.swap64(address, address, this.slotBytes / 8);
    this.#slotOf.set(offset, slot);
    this.#offsetOf[slot] = offset;
    this.#recentlyUsed[slot] = 1;
    return address;
  }

  /** Says that the slice at `offset`, which has just been loaded, was changed. */
  markDirty(offset: HostOffset): void {
    const slot = this.#slotOf.get(offset)!;
    if (this.#dirty[slot] === 0) {
      this.#dirty[slot] = 1;
      this.#dirtyCount++;
    }
  }

  /** Forgets the slices in a range of the file, dirty or not: the range is no table any more, or was written past us. */
  forget(offset: HostOffset, length: number): void {
    for (let at = offset; at < offset + length; at += this.slotBytes) {
      const slot = this.#slotOf.get(at);
      if (slot !== undefined) this.#release(slot);
    }
  }

  /** Writes all dirty slices, in the order of the file, neighbours in one write. Their dependencies must be stable. */
  writeBack(): void {
    if (this.#dirtyCount === 0) return;
    const slots: number[] = [];
    for (let slot = 0; slot < this.#dirty.length; slot++) if (this.#dirty[slot] === 1) slots.push(slot);
    slots.sort((a, b) => this.#offsetOf[a]! - this.#offsetOf[b]!);
    const perWrite = SCRATCH_BYTES / this.slotBytes;
    let start = 0;
    while (start < slots.length) {
      let end = start + 1;
      while (end < slots.length && end - start < perWrite && this.#follows(slots[end - 1]!, slots[end]!)) end++;
      this.#writeRun(slots.slice(start, end));
      start = end;
    }
  }

  #follows(slot: number, next: number): boolean {
    return this.#offsetOf[next] === this.#offsetOf[slot]! + this.slotBytes;
  }

  #writeRun(slots: readonly number[]): void {
    const { kernels, storage, native } = this.#options;
    slots.forEach((slot, index) => {
      const to = index * this.slotBytes;
      const from = this.#address(slot);
      if (native) kernels.swap64(from, to, this.slotBytes / 8);
      else kernels.bytes.copyWithin(to, from, from + this.slotBytes);
    });
    storage.write(this.#offsetOf[slots[0]!]!, kernels.bytes.subarray(0, slots.length * this.slotBytes));
    for (const slot of slots) {
      this.#dirty[slot] = 0;
      this.#dirtyCount--;
    }
  }

  #address(slot: number): number {
    return this.#options.firstAddress + slot * this.slotBytes;
  }

  #takeSlot(): number {
    for (;;) {
      const slot = this.#hand;
      this.#hand = (this.#hand + 1) % this.#offsetOf.length;
      if (this.#recentlyUsed[slot] === 1) {
        this.#recentlyUsed[slot] = 0;
        continue;
      }
      if (this.#dirty[slot] === 1) {
        this.#options.makeDependenciesStable();
        this.writeBack();
      }
      if (this.#offsetOf[slot] !== EMPTY) this.#release(slot);
      return slot;
    }
  }

  #release(slot: number): void {
    if (this.#dirty[slot] === 1) {
      this.#dirty[slot] = 0;
      this.#dirtyCount--;
    }
    this.#slotOf.delete(this.#offsetOf[slot]!);
    this.#offsetOf[slot] = EMPTY;
    this.#recentlyUsed[slot] = 0;
  }
}
