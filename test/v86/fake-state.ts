/**
 * Machine states in v86's format without v86: written, and read back, as its build does it. RAM, a screen's memory, a few
 * small buffers, and a disk's state.
 */

const MAGIC = -2039052682;
const PAGE_BYTES = 4096;
const ZERO_PAGE = new Uint8Array(PAGE_BYTES);

export interface FakeState {
  readonly version: number;
  readonly memory: Uint8Array;
  readonly vga: Uint8Array;
  /** Buffers of other devices, of any length. */
  readonly others: readonly Uint8Array[];
  /** What `get_state` of the disk gave. */
  readonly disk: readonly unknown[];
  /** A network card. False unless told. */
  readonly hasNetwork?: boolean;
}

/** Entries of the state array that hold a device. */
export const FAKE_DEVICES = [52, 61, 85];

interface BufferReference {
  readonly __state_type__: 'Uint8Array';
  readonly buffer_id: number;
}

interface FakeJson {
  readonly buffer_infos: { readonly offset: number; readonly length: number }[];
  readonly state: unknown[];
}

export function encodeFakeState({ version, memory, vga, others, disk, hasNetwork = false }: FakeState): ArrayBuffer {
  const buffers: Uint8Array[] = [];
  const keep = (buffer: Uint8Array): BufferReference => ({
    __state_type__: 'Uint8Array',
    buffer_id: buffers.push(buffer) - 1,
  });
  const { packed, bitmap } = pack(memory);
  const state: unknown[] = [];
  state[0] = memory.length;
  state[52] = [vga.length, keep(vga)];
  if (hasNetwork) state[59] = [0];
  state[61] = others.map(keep);
  state[77] = keep(packed);
  state[78] = keep(bitmap);
  state[85] = [disk];
  return assemble(version, state, buffers);
}

/** A state of the same format in which RAM is not where it should be. */
export function encodeStrangeState(version: number, memory: Uint8Array): ArrayBuffer {
  return assemble(version, [memory.length, { __state_type__: 'Uint8Array', buffer_id: 0 }], [memory]);
}

export function decodeFakeState(buffer: ArrayBuffer): FakeState {
  const [magic, version = 0, length, jsonLength = 0] = new Int32Array(buffer, 0, 4);
  if (magic !== MAGIC || length !== buffer.byteLength) throw new Error('not a state');
  const json = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 16, jsonLength))) as FakeJson;
  const start = (16 + jsonLength + 3) & ~3;
  const bytesOf = (reference: unknown): Uint8Array => {
    const { offset, length: bytes } = json.buffer_infos[(reference as BufferReference).buffer_id]!;
    return new Uint8Array(buffer, start + offset, bytes).slice();
  };
  const { state } = json;
  const memory = unpack(state[0] as number, bytesOf(state[77]), bytesOf(state[78]));
  const vga = bytesOf((state[52] as unknown[])[1]);
  const others = (state[61] as unknown[]).map(bytesOf);
  return { version, memory, vga, others, disk: (state[85] as unknown[][])[0]! };
}

function assemble(version: number, state: unknown[], buffers: readonly Uint8Array[]): ArrayBuffer {
  let end = 0;
  const infos = buffers.map(({ length }) => {
    const offset = end;
    end = (end + length + 3) & ~3;
    return { offset, length };
  });
  const json = new TextEncoder().encode(JSON.stringify({ buffer_infos: infos, state }));
  const start = (16 + json.length + 3) & ~3;
  const bytes = new Uint8Array(start + end);
  new Int32Array(bytes.buffer, 0, 4).set([MAGIC, version, bytes.length, json.length]);
  bytes.set(json, 16);
  for (const [index, buffer] of buffers.entries()) bytes.set(buffer, start + infos[index]!.offset);
  return bytes.buffer;
}

function pack(memory: Uint8Array): { packed: Uint8Array; bitmap: Uint8Array } {
  const pages = memory.length / PAGE_BYTES;
  const bitmap = new Uint8Array(Math.ceil(pages / 8));
  const live: Uint8Array[] = [];
  for (let page = 0; page < pages; page++) {
    const content = memory.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
    if (Buffer.compare(content, ZERO_PAGE) === 0) continue;
    bitmap[page >> 3]! |= 1 << (page & 7);
    live.push(content);
  }
  const packed = new Uint8Array(live.length * PAGE_BYTES);
  for (const [index, content] of live.entries()) packed.set(content, index * PAGE_BYTES);
  return { packed, bitmap };
}

function unpack(memoryBytes: number, packed: Uint8Array, bitmap: Uint8Array): Uint8Array {
  const memory = new Uint8Array(memoryBytes);
  let next = 0;
  for (let page = 0; page < memoryBytes / PAGE_BYTES; page++) {
    if (((bitmap[page >> 3]! >> (page & 7)) & 1) === 0) continue;
    memory.set(packed.subarray(next, next + PAGE_BYTES), page * PAGE_BYTES);
    next += PAGE_BYTES;
  }
  return memory;
}
