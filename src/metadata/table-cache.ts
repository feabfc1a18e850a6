/**
 * Table cache: slices of L2 tables or of refcount blocks, held in slots of the kernels' memory and written back late.
 *
 * A *slice* is a part of a table, `slotBytes` long and aligned in the file, so that with large clusters one lookup does not
 * read 2 MiB. A slice is known by its host offset. Eviction goes round like the hand of a clock.
 *
 * - An address is good until the next `load` of the same cache.
 * - `dropUnused`, called now and then, forgets the clean slices that were not looked up since the call before.
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
  /** Called with each range of the file before it is written; throws to prevent it. */
  readonly beforeWrite?: ((offset: HostOffset, length: number) => void) | undefined;
}

const EMPTY = -1;
/** Bits of `#recentlyUsed`: since the hand of the clock passed, and since the last `dropUnused`. */
const SINCE_HAND = 1;
const SINCE_DROP = 2;
const JUST_USED = SINCE_HAND | SINCE_DROP;

export class TableCache {
  readonly slotBytes: number;
  hits = 0;
  misses = 0;
  readonly #options: TableCacheOptions;
  readonly #slotOf = new Map<HostOffset, number>();
  readonly #offsetOf: Float64Array;
  readonly #recentlyUsed: Uint8Array;
  readonly #dirtySlots = new Set<number>();
  /** Slots from 0 on that have ever held a slice, and so cost memory. */
  #touched = 0;
  #hand = 0;

  constructor(options: TableCacheOptions) {
    this.#options = options;
    this.slotBytes = options.slotBytes;
    this.#offsetOf = new Float64Array(options.slots).fill(EMPTY);
    this.#recentlyUsed = new Uint8Array(options.slots);
  }

  get dirty(): boolean {
    return this.#dirtySlots.size > 0;
  }

  /** Bytes of the slices held, and of the memory that has been in use for slices at some time. */
  get usage(): { readonly held: number; readonly touched: number } {
    return { held: this.#slotOf.size * this.slotBytes, touched: this.#touched * this.slotBytes };
  }

  /** The address of the slice at `offset`, read from the storage if it is not here. */
  load(offset: HostOffset): number {
    const known = this.#slotOf.get(offset);
    if (known !== undefined) {
      this.hits++;
      this.#recentlyUsed[known] = JUST_USED;
      return this.#address(known);
    }
    this.misses++;
    const { storage, native } = this.#options;
    return this.#fill(offset, (bytes) => {
      if (native) storage.announce?.('l2_load');
      storage.read(offset, bytes);
    });
  }

  /** Keeps the slice at `offset`, which is not here, as it has just been written to the storage. */
  keep(offset: HostOffset, content: Uint8Array): void {
    this.#fill(offset, (bytes) => bytes.set(content));
  }

  /** Says that the slice at `offset`, which has just been loaded, was changed. */
  markDirty(offset: HostOffset): void {
    this.#dirtySlots.add(this.#slotOf.get(offset)!);
  }

  /** Forgets the slices in a range of the file, dirty or not: the range is no table any more, or was written past us. */
  forget(offset: HostOffset, length: number): void {
    for (let at = offset; at < offset + length; at += this.slotBytes) {
      const slot = this.#slotOf.get(at);
      if (slot !== undefined) this.#release(slot);
    }
  }

  /** Forgets the clean slices that nobody looked up since the last call. */
  dropUnused(): void {
    for (const slot of this.#slotOf.values()) {
      const used = (this.#recentlyUsed[slot]! & SINCE_DROP) !== 0;
      if (used) this.#recentlyUsed[slot]! &= ~SINCE_DROP;
      else if (!this.#dirtySlots.has(slot)) this.#release(slot);
    }
  }

  /** Writes all dirty slices, in the order of the file, neighbours in one write. Their dependencies must be stable. */
  writeBack(): void {
    if (!this.dirty) return;
    const slots = [...this.#dirtySlots].sort((a, b) => this.#offsetOf[a]! - this.#offsetOf[b]!);
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
    const { kernels, storage, native, beforeWrite } = this.#options;
    const offset = this.#offsetOf[slots[0]!]!;
    beforeWrite?.(offset, slots.length * this.slotBytes);
    slots.forEach((slot, index) => {
      const to = index * this.slotBytes;
      const from = this.#address(slot);
      if (native) kernels.swap64(from, to, this.slotBytes / 8);
      else kernels.bytes.copyWithin(to, from, from + this.slotBytes);
    });
    storage.announce?.(native ? 'l2_update' : 'refblock_update_part');
    storage.write(offset, kernels.bytes.subarray(0, slots.length * this.slotBytes));
    for (const slot of slots) this.#dirtySlots.delete(slot);
  }

  /** The address of a slot for the slice at `offset`, which has its bytes from `read`. */
  #fill(offset: HostOffset, read: (bytes: Uint8Array) => void): number {
    const slot = this.#takeSlot();
    const { kernels, native } = this.#options;
    const address = this.#address(slot);
    read(kernels.bytes.subarray(address, address + this.slotBytes));
    if (native) kernels.swap64(address, address, this.slotBytes / 8);
    this.#slotOf.set(offset, slot);
    this.#offsetOf[slot] = offset;
    this.#recentlyUsed[slot] = JUST_USED;
    this.#touched = Math.max(this.#touched, slot + 1);
    return address;
  }

  #address(slot: number): number {
    return this.#options.firstAddress + slot * this.slotBytes;
  }

  #takeSlot(): number {
    for (;;) {
      const slot = this.#hand;
      this.#hand = (this.#hand + 1) % this.#offsetOf.length;
      if ((this.#recentlyUsed[slot]! & SINCE_HAND) !== 0) {
        this.#recentlyUsed[slot]! &= ~SINCE_HAND;
        continue;
      }
      if (this.#dirtySlots.has(slot)) {
        this.#options.makeDependenciesStable();
        this.writeBack();
      }
      if (this.#offsetOf[slot] !== EMPTY) this.#release(slot);
      return slot;
    }
  }

  #release(slot: number): void {
    this.#dirtySlots.delete(slot);
    this.#slotOf.delete(this.#offsetOf[slot]!);
    this.#offsetOf[slot] = EMPTY;
    this.#recentlyUsed[slot] = 0;
  }
}
