/**
 * What v86's `save_state()` gives (0.5.462, version 6 of its format), taken apart without a copy.
 *
 *    0   4   8   12  16
 *   +---+---+---+---+------------------+-----------------------------------+
 *   |   |   |   | n | n bytes of JSON  | buffers, each at a multiple of 4  |
 *   +---+---+---+---+------------------+-----------------------------------+
 *     |   |   `- bytes in all
 *     |   `- version
 *     `- magic
 *
 * The numbers are 32 bits, little endian. The JSON is `{ buffer_infos: [{ offset, length }, ...], state: [...] }`; an entry
 * of `state` is a number, an array for each device, or `{ buffer_id }`, which stands for a buffer. RAM is two of them: its
 * pages that are not zero, packed in their order, and a bitmap of which those are.
 *
 * What is not found where it is expected is not guessed: without `ram` the state is still a whole.
 */
import { Qcow2Error } from '../errors.js';

export const PAGE_BYTES = 4096;

const MAGIC = -2039052682;
const HEADER_BYTES = 16;

/** Entries of the state array. */
const MEMORY_SIZE = 0;
const VGA = 52;
const FIRMWARE_VALUE = 62;
const PACKED_MEMORY = 77;
const MEMORY_BITMAP = 78;
const VGA_MEMORY_SIZE = 0;

/** A part of the state, in bytes. */
export interface StateRange {
  readonly at: number;
  readonly length: number;
}

/** What a machine and a state must have in common. */
export interface MachineShape {
  readonly stateVersion: number;
  /** Bytes of RAM; 0 where the state does not say. */
  readonly memoryBytes: number;
  /** Bytes of the VGA's memory; 0 where the state does not say. */
  readonly vgaBytes: number;
  /** Which entries of the state array are a device's. v86 takes what is there for one without a look. */
  readonly devices: readonly number[];
}

export interface SavedState {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly shape: MachineShape;
  /** All buffers, in the order in which they lie. */
  readonly buffers: readonly StateRange[];
  /** The two of them that are RAM, or null: this v86 keeps it otherwise. */
  readonly ram: { readonly packed: StateRange; readonly bitmap: StateRange } | null;
}

/** @throws `V86_SEAM` if it does not begin like a state of v86. */
export function readSavedState(state: ArrayBuffer): SavedState {
  const bytes = new Uint8Array(state);
  const header = new Int32Array(state, 0, bytes.length >= HEADER_BYTES ? 4 : 0);
  const [magic, stateVersion = 0, length, jsonLength = -1] = header;
  if (magic !== MAGIC || length !== bytes.length || jsonLength < 0 || HEADER_BYTES + jsonLength > bytes.length) {
    throw new Qcow2Error('V86_SEAM', `the machine state of ${bytes.length} bytes does not begin as v86's do`);
  }
  const json = parseJson(bytes.subarray(HEADER_BYTES, HEADER_BYTES + jsonLength));
  const buffers = buffersOf(json, (HEADER_BYTES + jsonLength + 3) & ~3, bytes.length);
  const entries = listOf(json, 'state');
  const memoryBytes = sizeOf(entries[MEMORY_SIZE]);
  const vga: unknown = entries[VGA];
  // The last answer of the firmware's port is no device, but a list at times.
  const devices = entries.flatMap((entry, index) => (Array.isArray(entry) && index !== FIRMWARE_VALUE ? [index] : []));
  const vgaBytes = Array.isArray(vga) ? sizeOf(vga[VGA_MEMORY_SIZE]) : 0;
  const [packed, bitmap] = [PACKED_MEMORY, MEMORY_BITMAP].map((index) => buffers[bufferIdOf(entries[index])]);
  const ram = packed && bitmap && isRam(bytes, { packed, bitmap }, memoryBytes) ? { packed, bitmap } : null;
  return { bytes, shape: { stateVersion, memoryBytes, vgaBytes, devices }, buffers, ram };
}

/** The pages of RAM that are not zero, by their place among them: -1 for a page of zeroes. */
export function rankPages(bitmap: Uint8Array, pageCount: number): { ranks: Int32Array; live: number } {
  const ranks = new Int32Array(pageCount);
  let live = 0;
  for (let page = 0; page < pageCount; page++) {
    ranks[page] = (bitmap[page >> 3]! >> (page & 7)) & 1 ? live++ : -1;
  }
  return { ranks, live };
}

function isRam(bytes: Uint8Array, ram: { packed: StateRange; bitmap: StateRange }, memoryBytes: number): boolean {
  const pageCount = memoryBytes / PAGE_BYTES;
  if (!Number.isInteger(pageCount) || ram.bitmap.length !== Math.ceil(pageCount / 8)) return false;
  const bitmap = bytes.subarray(ram.bitmap.at, ram.bitmap.at + ram.bitmap.length);
  return rankPages(bitmap, pageCount).live * PAGE_BYTES === ram.packed.length;
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

/** The buffers as the JSON lists them; none unless they lie one behind the other, inside the state. */
function buffersOf(json: unknown, start: number, end: number): StateRange[] {
  const ranges = listOf(json, 'buffer_infos').map((info) => ({
    at: start + sizeOf(field(info, 'offset')),
    length: sizeOf(field(info, 'length')),
  }));
  const areApart = ranges.every(({ at, length }, index) => at + length <= (ranges[index + 1]?.at ?? end));
  return areApart ? ranges : [];
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

function listOf(value: unknown, name: string): unknown[] {
  const list = field(value, name);
  return Array.isArray(list) ? list : [];
}

function sizeOf(value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : 0;
}

function bufferIdOf(entry: unknown): number {
  const id = field(entry, 'buffer_id');
  return typeof id === 'number' ? id : -1;
}
