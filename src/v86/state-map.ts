/**
 * Where the parts of a machine state lie in the VM state of a snapshot. What has not changed since the snapshot before is
 * at the same place with the same neighbours, so whole clusters of it are shared; what is new in every state is together.
 *
 *   0          the record (`state-record.ts`)     -.
 *   16 KiB     the picture                          } new in every state
 *              small parts, close together          }
 *              which page each slot holds         -'
 *   ram.offset *     RAM: page p at p * 4096, unless it has moved to a slot (`ram-pages.ts`)
 *              *     large buffers, each at a multiple of 64 KiB
 *   ram.slotsOffset *  slots of 4 KiB for pages that have moved
 *
 *   * at multiples of 2 MiB, the largest cluster there is, so that every image can hold it
 *
 * The parts fill v86's buffer exactly. Nothing below is trusted when it comes out of an image: see `state-record.ts`.
 */
import { alignUp } from '../util/integers.js';
import { PAGE_BYTES, type SavedState, type StateRange } from './saved-state.js';

/** VM state is read and written in pieces of this many bytes, at multiples of it. */
export const PIECE_BYTES = 2 * 2 ** 20;

/** Room for the record, in bytes. */
export const RECORD_BYTES = 16 * 2 ** 10;

/** Buffers from here on have clusters of their own. */
const LARGE_BYTES = 64 * 2 ** 10;

/** How many of them at most, so that the record has room for them. */
export const MAXIMUM_LARGE_PARTS = 64;

/** `length` bytes from `offset` of the VM state, which are at `at` in v86's buffer. */
export interface PartPlace extends StateRange {
  readonly offset: number;
}

export interface RamPlace {
  /** Bytes of RAM, and where its first page is in the VM state. */
  readonly bytes: number;
  readonly offset: number;
  /** Where v86's buffer has the pages that are not zero, how many bytes, and the bitmap of which they are. */
  readonly packedAt: number;
  readonly packedBytes: number;
  readonly bitmapAt: number;
  /** One number of 32 bits a slot: the page it holds and 1, or 0. */
  readonly slotListOffset: number;
  readonly slots: number;
  readonly slotsOffset: number;
}

export interface StateMap {
  /** Bytes of v86's buffer, and their sum (`util/murmur-hash.ts`). */
  readonly length: number;
  readonly checksum: number;
  readonly parts: readonly PartPlace[];
  readonly ram: RamPlace | null;
}

/** The most slots that RAM of `pageCount` pages can need (`ram-pages.ts`). */
export function maximumSlots(pageCount: number): number {
  return alignUp(pageCount, PIECE_BYTES / PAGE_BYTES);
}

/** Lays out a state behind `headBytes` of record and picture. No page has moved yet. */
export function planState(state: SavedState, checksum: number, headBytes: number): StateMap {
  const { bytes, ram, shape } = state;
  const large = state.buffers
    .filter((buffer) => buffer.length >= LARGE_BYTES && buffer !== ram?.packed)
    .slice(0, MAXIMUM_LARGE_PARTS);
  const apart = ram ? [...large, ram.packed].toSorted((one, other) => one.at - other.at) : large;
  const small = placeFrom(headBytes, 1, rangesBetween(apart, bytes.length));
  const slotListOffset = alignUp(endOf(small, headBytes), 4);
  const headEnd = ram ? slotListOffset + maximumSlots(shape.memoryBytes / PAGE_BYTES) * 4 : slotListOffset;
  const ramOffset = alignUp(headEnd, PIECE_BYTES);
  const largeOffset = alignUp(ramOffset + (ram ? shape.memoryBytes : 0), PIECE_BYTES);
  const placed = placeFrom(largeOffset, LARGE_BYTES, large);
  const slotsOffset = alignUp(endOf(placed, largeOffset), PIECE_BYTES);
  const ramPlace = ram && {
    bytes: shape.memoryBytes,
    offset: ramOffset,
    packedAt: ram.packed.at,
    packedBytes: ram.packed.length,
    bitmapAt: ram.bitmap.at,
    slotListOffset,
    slots: 0,
    slotsOffset,
  };
  return { length: bytes.length, checksum, parts: [...small, ...placed], ram: ramPlace };
}

/** Bytes of VM state that hold all of it: whole pieces. */
export function vmStateBytesOf({ parts, ram }: StateMap): number {
  const ends = [endOf(parts, RECORD_BYTES)];
  if (ram) {
    ends.push(ram.offset + ram.bytes, ram.slotListOffset + ram.slots * 4, ram.slotsOffset + ram.slots * PAGE_BYTES);
  }
  return alignUp(Math.max(...ends), PIECE_BYTES);
}

function placeFrom(start: number, unit: number, ranges: readonly StateRange[]): PartPlace[] {
  let end = start;
  return ranges.map(({ at, length }) => {
    const offset = alignUp(end, unit);
    end = offset + length;
    return { at, length, offset };
  });
}

function endOf(parts: readonly PartPlace[], otherwise: number): number {
  return parts.reduce((end, { offset, length }) => Math.max(end, offset + length), otherwise);
}

/** What of a buffer of `length` bytes lies outside `ranges`, which are in order. */
function rangesBetween(ranges: readonly StateRange[], length: number): StateRange[] {
  const starts = [0, ...ranges.map((range) => range.at + range.length)];
  const ends = [...ranges.map((range) => range.at), length];
  return starts.map((at, index) => ({ at, length: ends[index]! - at })).filter((range) => range.length > 0);
}
