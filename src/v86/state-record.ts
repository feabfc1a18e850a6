/**
 * The record at the start of a machine's VM state: what made it, for which machine and disk, and where its parts are.
 *
 *    0        8         12      16         20
 *   +--------+---------+-------+----------+--------------+
 *   | magic  | version | bytes | checksum | JSON, UTF-8  |   numbers big endian, as all of qcow2
 *   +--------+---------+-------+----------+--------------+
 *                       of the   MurmurHash3
 *                       JSON     of the JSON
 *
 * It comes out of an image that anybody may have made, so nothing in it is taken without a look: each number is a whole
 * one within its limit, all that it points at lies within the VM state, and the parts fill a buffer of a bounded size
 * exactly, so that reading them ends.
 */
import { Qcow2Error } from '../errors.js';
import { isAligned } from '../util/integers.js';
import { invalid, listOf, objectOf, orNull, text, upTo } from './checked-json.js';
import { PAGE_BYTES, type MachineShape } from './saved-state.js';
import {
  MAXIMUM_LARGE_PARTS,
  maximumSlots,
  PIECE_BYTES,
  RECORD_BYTES,
  vmStateBytesOf,
  type PartPlace,
  type RamPlace,
  type StateMap,
} from './state-map.js';
import { murmurHash32 } from '../util/murmur-hash.js';

/** The largest picture, in bytes. */
export const MAXIMUM_PICTURE_BYTES = 64 * 2 ** 10;

/** What a machine's state may have besides its RAM, in bytes: the memory of its screen, disks that v86 keeps itself. */
const MAXIMUM_BYTES_BESIDES_RAM = 2 ** 30;

/** "QW86STAT" */
const MAGIC = 0x5157383653544154n;
const VERSION = 1;
const HEADER_BYTES = 20;
const MAXIMUM_DEVICES = 256;

/** The disk that the state was saved with. */
export interface DiskIdentity {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Writes of the guest so far. */
  readonly generation: number;
  /** The backing file as the image names it; null: none, or not known. */
  readonly backingFile: string | null;
}

export interface PicturePlace {
  readonly offset: number;
  readonly length: number;
  readonly checksum: number;
}

export interface StateRecord {
  readonly emulator: string;
  readonly machine: MachineShape;
  readonly disk: DiskIdentity;
  readonly picture: PicturePlace | null;
  readonly state: StateMap;
}

/** @throws `BAD_IMAGE` for a machine beyond the limits, and so without a way back. */
export function encodeRecord(record: StateRecord): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(JSON.stringify(record));
  const bytes = new Uint8Array(HEADER_BYTES + json.length);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, MAGIC);
  view.setUint32(8, VERSION);
  view.setUint32(12, json.length);
  view.setUint32(16, murmurHash32(json));
  bytes.set(json, HEADER_BYTES);
  decodeRecord(bytes.subarray(0, RECORD_BYTES), Number.MAX_SAFE_INTEGER);
  return bytes;
}

/**
 * The record at the start of `head`, the first `RECORD_BYTES` of a VM state of `vmStateBytes`.
 * @throws `UNSUPPORTED` if another program made the state, or a later version of this one; `BAD_IMAGE` if it is damaged.
 */
export function decodeRecord(head: Uint8Array, vmStateBytes: number): StateRecord {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (head.length < HEADER_BYTES || view.getBigUint64(0) !== MAGIC) {
    throw new Qcow2Error('UNSUPPORTED', 'the machine state was made by another program');
  }
  const [version, jsonLength] = [view.getUint32(8), view.getUint32(12)];
  if (version !== VERSION) {
    throw new Qcow2Error('UNSUPPORTED', `the machine state has a record of version ${version}; ${VERSION} is known`);
  }
  limit('the length of its record', jsonLength, head.length - HEADER_BYTES);
  const json = head.subarray(HEADER_BYTES, HEADER_BYTES + jsonLength);
  const [checksum, expected] = [murmurHash32(json), view.getUint32(16)];
  if (checksum !== expected) throw invalid('the checksum of its record', checksum, expected);
  return recordOf(parse(json), vmStateBytes);
}

/** Any sum of a few of these is exact. */
const whole = upTo(2 ** 50);

const checkedRecord = objectOf<StateRecord>({
  emulator: text,
  machine: objectOf<MachineShape>({
    stateVersion: whole,
    memoryBytes: whole,
    vgaBytes: whole,
    devices: listOf(whole, MAXIMUM_DEVICES),
  }),
  disk: objectOf<DiskIdentity>({ name: text, size: whole, generation: whole, backingFile: orNull(text) }),
  picture: orNull(objectOf<PicturePlace>({ offset: whole, length: upTo(MAXIMUM_PICTURE_BYTES), checksum: whole })),
  state: objectOf<StateMap>({
    length: whole,
    checksum: whole,
    parts: listOf(objectOf<PartPlace>({ at: whole, length: whole, offset: whole }), 2 * MAXIMUM_LARGE_PARTS + 2),
    ram: orNull(
      objectOf<RamPlace>({
        bytes: whole,
        offset: whole,
        packedAt: whole,
        packedBytes: whole,
        bitmapAt: whole,
        slotListOffset: whole,
        slots: whole,
        slotsOffset: whole,
      }),
    ),
  }),
});

function recordOf(value: unknown, vmStateBytes: number): StateRecord {
  const record = checkedRecord(value, 'record');
  const { machine, picture, state } = record;
  const { length, parts, ram } = state;
  limit('state.length', length, machine.memoryBytes + MAXIMUM_BYTES_BESIDES_RAM);
  const ends = parts.map(({ at, length: partLength }) => at + partLength);
  if (ram) {
    const pageCount = ram.bytes / PAGE_BYTES;
    limit('state.ram.slots', ram.slots, maximumSlots(pageCount));
    const isPlaced = isAligned(ram.offset, PIECE_BYTES) && isAligned(ram.slotsOffset, PIECE_BYTES);
    if (ram.bytes !== machine.memoryBytes || !Number.isInteger(pageCount) || !isPlaced) {
      throw invalid('state.ram', ram, "the machine's, at whole pieces");
    }
    ends.push(ram.packedAt + ram.packedBytes, ram.bitmapAt + Math.ceil(pageCount / 8));
  }
  limit('end of a part', Math.max(0, ...ends), length);
  const filled = parts.reduce((sum, part) => sum + part.length, ram?.packedBytes ?? 0);
  if (filled !== length) throw invalid('the sum of its parts', filled, length);
  const endOfPicture = picture ? picture.offset + picture.length : 0;
  limit('the end of all', Math.max(vmStateBytesOf(state), endOfPicture), vmStateBytes);
  return record;
}

function limit(name: string, value: number, most: number): void {
  if (value > most) throw invalid(name, value, most);
}

function parse(json: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(json));
  } catch {
    return null;
  }
}
