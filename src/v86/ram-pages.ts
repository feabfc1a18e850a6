/**
 * RAM in the VM state. A page's home is at its number, so what has not changed is where it was. But an idle guest changes
 * about one page in a hundred, scattered: with clusters of 16 pages it would cost ten in a hundred. So where few pages of
 * a unit have changed, the unit stays as the base has it, old bytes and all, and these pages move to slots of their own:
 *
 *   home    | 0  1  2  3 | 4  5  6  7 | 8  9  10 11 |      slots  | 2' 9' 10' - |
 *                  ^ old                   ^  ^ old
 *
 *   1. A unit (a cluster, at least 64 KiB) is written anew if more than half of its pages differ from what the base has at
 *      home; all its pages are at home then. Else those that differ are in slots.
 *   2. A unit of slots stays as it is while at least half of it holds what its pages hold now. Else those move on.
 *   3. Pages without a slot go to the units of slots that are free, from the first on.
 *
 * So a save costs about the pages that changed since the base, and all of RAM at most twice its size. A page that is zero
 * has no place at all; what lies at its home is of no matter.
 */
import { invalid } from './checked-json.js';
import { PAGE_BYTES, rankPages, type SavedState } from './saved-state.js';
import { PIECE_BYTES, type RamPlace } from './state-map.js';
import { wordsOf } from '../util/murmur-hash.js';

const PIECE_PAGES = PIECE_BYTES / PAGE_BYTES;
const PAGE_WORDS = PAGE_BYTES / 4;
const MINIMUM_UNIT_PAGES = 16;

/** Reads from VM state; the array is the caller's. */
export type ReadState = (offset: number, length: number) => Promise<Uint8Array<ArrayBuffer>>;

/** Writes a piece of VM state and takes it over. */
export type WriteState = (offset: number, piece: Uint8Array<ArrayBuffer>) => Promise<void>;

/** The state that a new one is to share clusters with. */
export interface BaseRam {
  readonly place: RamPlace;
  readonly read: ReadState;
}

export interface RamTarget {
  readonly place: RamPlace;
  /** Of the image. */
  readonly clusterSize: number;
  readonly write: WriteState;
  /** Called with the bytes of RAM that have been seen to since the last call. */
  readonly onBytes: (count: number) => void;
}

/** Writes RAM. Returns the slot list: for each slot the page it holds and 1, or 0. */
export function writeRam(state: SavedState, target: RamTarget, base: BaseRam | null): Promise<Int32Array<ArrayBuffer>> {
  return new RamWriter(state, target, base).write();
}

class RamWriter {
  readonly #packed: Uint8Array;
  readonly #words: Int32Array;
  readonly #ranks: Int32Array;
  readonly #target: RamTarget;
  readonly #base: BaseRam | null;
  readonly #unitPages: number;
  /** Pages whose home holds something else. */
  readonly #moved = new Set<number>();

  constructor({ bytes }: SavedState, target: RamTarget, base: BaseRam | null) {
    const { packedAt, packedBytes, bitmapAt, bytes: ramBytes } = target.place;
    this.#packed = bytes.subarray(packedAt, packedAt + packedBytes);
    this.#words = wordsOf(this.#packed);
    this.#ranks = rankPages(bytes.subarray(bitmapAt), ramBytes / PAGE_BYTES).ranks;
    this.#target = target;
    this.#base = base;
    this.#unitPages = Math.max(MINIMUM_UNIT_PAGES, target.clusterSize / PAGE_BYTES);
  }

  async write(): Promise<Int32Array<ArrayBuffer>> {
    for (let first = 0; first < this.#ranks.length; first += PIECE_PAGES) await this.#writeHomes(first);
    const keptUnits = new Set<number>();
    const slots: number[] = [];
    const base = this.#base;
    if (base && base.place.slots > 0) await this.#keepSlots(base, slots, keptUnits);
    let slot = 0;
    for (const page of this.#moved) {
      while (keptUnits.has(Math.floor(slot / this.#unitPages))) slot += this.#unitPages;
      slots[slot++] = page + 1;
    }
    const list = Int32Array.from(slots, (entry) => entry ?? 0);
    for (let first = 0; first < list.length; first += PIECE_PAGES) await this.#writeSlots(list, first, keptUnits);
    return list;
  }

  async #writeHomes(first: number): Promise<void> {
    const live = this.#ranks.subarray(first, first + PIECE_PAGES).filter((rank) => rank >= 0).length;
    if (live === 0) return;
    const at = first * PAGE_BYTES;
    const { place, write, onBytes } = this.#target;
    const piece = this.#base ? await this.#base.read(this.#base.place.offset + at, PIECE_BYTES) : null;
    const written = piece ?? new Uint8Array(PIECE_BYTES);
    const old = piece && wordsOf(piece);
    for (let page = first; page < first + PIECE_PAGES; page += this.#unitPages) {
      this.#settleUnit(page, written.subarray((page - first) * PAGE_BYTES), old?.subarray((page - first) * PAGE_WORDS));
    }
    await write(place.offset + at, written);
    onBytes(live * PAGE_BYTES);
  }

  /** Rule 1. `unit` is what is written, `old` the words of it that are the base's. */
  #settleUnit(first: number, unit: Uint8Array, old: Int32Array | undefined): void {
    const live: number[] = [];
    for (let page = first; page < first + this.#unitPages; page++) if (this.#isLive(page)) live.push(page);
    const differing = live.filter((page) => !old || !this.#holds(page, old, page - first));
    if (old && live.length > 0 && differing.length <= this.#unitPages / 2) {
      for (const page of differing) this.#moved.add(page);
      return;
    }
    unit.fill(0, 0, this.#unitPages * PAGE_BYTES);
    for (const page of live) this.#copy(page, unit, page - first);
  }

  /** Rule 2. What stays in its slot is no longer among the pages to be placed. */
  async #keepSlots({ place, read }: BaseRam, slots: number[], keptUnits: Set<number>): Promise<void> {
    const list = await readSlotList(place, read);
    for (let first = 0; first < list.length; first += PIECE_PAGES) {
      const old = wordsOf(await read(place.slotsOffset + first * PAGE_BYTES, PIECE_BYTES));
      for (let unit = first; unit < Math.min(first + PIECE_PAGES, list.length); unit += this.#unitPages) {
        const kept: number[] = [];
        for (let slot = unit; slot < unit + this.#unitPages; slot++) {
          const page = (list[slot] ?? 0) - 1;
          if (this.#moved.has(page) && this.#holds(page, old, slot - first)) kept.push(slot);
        }
        if (kept.length < this.#unitPages / 2) continue;
        keptUnits.add(unit / this.#unitPages);
        for (const slot of kept) if (this.#moved.delete(list[slot]! - 1)) slots[slot] = list[slot]!;
      }
    }
  }

  async #writeSlots(list: Int32Array, first: number, keptUnits: ReadonlySet<number>): Promise<void> {
    const isKept = (slot: number): boolean => keptUnits.has(Math.floor(slot / this.#unitPages));
    const { place, write } = this.#target;
    const base = this.#base?.place;
    const at = first * PAGE_BYTES;
    const isOfBase = base !== undefined && first < base.slots;
    const piece = isOfBase ? await this.#base!.read(base.slotsOffset + at, PIECE_BYTES) : new Uint8Array(PIECE_BYTES);
    for (let slot = first; slot < first + PIECE_PAGES; slot++) {
      if (isKept(slot)) continue;
      const page = (list[slot] ?? 0) - 1;
      if (page >= 0) this.#copy(page, piece, slot - first);
      else piece.fill(0, (slot - first) * PAGE_BYTES, (slot - first + 1) * PAGE_BYTES);
    }
    await write(place.slotsOffset + at, piece);
  }

  #isLive(page: number): boolean {
    return (this.#ranks[page] ?? -1) >= 0;
  }

  /** Whether page `index` of `words` is what `page` holds now. */
  #holds(page: number, words: Int32Array, index: number): boolean {
    const own = this.#ranks[page]! * PAGE_WORDS;
    const other = index * PAGE_WORDS;
    for (let word = 0; word < PAGE_WORDS; word++) {
      if (this.#words[own + word] !== words[other + word]) return false;
    }
    return true;
  }

  #copy(page: number, target: Uint8Array, index: number): void {
    const at = this.#ranks[page]! * PAGE_BYTES;
    target.set(this.#packed.subarray(at, at + PAGE_BYTES), index * PAGE_BYTES);
  }
}

/**
 * Reads RAM into v86's buffer, whose other parts are there already.
 * @throws `BAD_IMAGE` if the bitmap or the slot list contradict the record.
 */
export async function readRam(buffer: Uint8Array, place: RamPlace, read: ReadState): Promise<void> {
  const { ranks, live } = rankPages(buffer.subarray(place.bitmapAt), place.bytes / PAGE_BYTES);
  if (live * PAGE_BYTES !== place.packedBytes) {
    throw invalid('the size of its RAM', place.packedBytes, live * PAGE_BYTES);
  }
  const list = await readSlotList(place, read);
  const slotted = new Set<number>();
  for (const entry of list) {
    if (entry === 0) continue;
    const page = entry - 1;
    if (!((ranks[page] ?? -1) >= 0)) throw invalid('a page in a slot', page, 'one that is not zero');
    slotted.add(page);
  }
  const copyPieces = async (offset: number, count: number, pageAt: (index: number) => number): Promise<void> => {
    for (let first = 0; first < count; first += PIECE_PAGES) {
      let piece: Uint8Array | null = null;
      for (let index = first; index < Math.min(first + PIECE_PAGES, count); index++) {
        const page = pageAt(index);
        if (page < 0) continue;
        piece ??= await read(offset + first * PAGE_BYTES, PIECE_BYTES);
        const at = (index - first) * PAGE_BYTES;
        buffer.set(piece.subarray(at, at + PAGE_BYTES), place.packedAt + ranks[page]! * PAGE_BYTES);
      }
    }
  };
  await copyPieces(place.offset, ranks.length, (page) => (ranks[page]! < 0 || slotted.has(page) ? -1 : page));
  await copyPieces(place.slotsOffset, list.length, (slot) => list[slot]! - 1);
}

async function readSlotList({ slotListOffset, slots }: RamPlace, read: ReadState): Promise<Int32Array> {
  return slots === 0 ? new Int32Array(0) : wordsOf(await read(slotListOffset, slots * 4));
}
