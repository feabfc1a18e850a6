/**
 * A machine's state into the VM state of a snapshot and out of it, in pieces, so that there is never more than one copy of
 * RAM besides the machine's own. Where what lies: `state-map.ts`.
 *
 * Pieces of zeroes are not written: VM state reads as zeroes where nothing is. The record comes last, so a state that was
 * not finished has none.
 */
import { Qcow2Error } from '../errors.js';
import { invalid } from './checked-json.js';
import { readRam, writeRam, type ReadState, type WriteState } from './ram-pages.js';
import type { SavedState } from './saved-state.js';
import { PIECE_BYTES, planState, RECORD_BYTES, vmStateBytesOf, type StateMap } from './state-map.js';
import { encodeRecord, type StateRecord } from './state-record.js';
import { wordsOf, murmurHash32 } from '../util/murmur-hash.js';

export interface NewState {
  readonly state: SavedState;
  readonly picture: Uint8Array | null;
  /** What the record says besides where things are. */
  readonly identity: Pick<StateRecord, 'emulator' | 'disk'>;
}

export interface StateTarget {
  /** Of the image, in bytes. */
  readonly clusterSize: number;
  readonly write: WriteState;
  /** Called with the bytes of v86's buffer that have been seen to since the last call. */
  readonly onBytes: (count: number) => void;
}

/** A state written before, which the new one is to share clusters with. */
export interface BaseState {
  readonly record: StateRecord;
  readonly read: ReadState;
}

/** Bytes of VM state, and where they are from. */
interface Source {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Writes all of it; returns how many bytes of VM state it takes. */
export async function writeMachineState(
  { state, picture, identity }: NewState,
  target: StateTarget,
  base: BaseState | null,
): Promise<number> {
  const sources: Source[] = picture ? [{ offset: RECORD_BYTES, bytes: picture }] : [];
  let map = planState(state, murmurHash32(state.bytes), RECORD_BYTES + (picture?.length ?? 0));
  for (const { offset, at, length } of map.parts) {
    sources.push({ offset, bytes: state.bytes.subarray(at, at + length) });
  }
  if (map.ram) {
    const place = base?.record.state.ram;
    const ofBase = base && place?.bytes === map.ram.bytes ? { place, read: base.read } : null;
    const slotList = await writeRam(state, { ...target, place: map.ram }, ofBase);
    sources.push({ offset: map.ram.slotListOffset, bytes: new Uint8Array(slotList.buffer) });
    map = { ...map, ram: { ...map.ram, slots: slotList.length } };
  }
  const place = picture && { offset: RECORD_BYTES, length: picture.length, checksum: murmurHash32(picture) };
  const record = encodeRecord({ ...identity, machine: state.shape, picture: place, state: map });
  sources.push({ offset: 0, bytes: record });
  const vmStateBytes = vmStateBytesOf(map);
  for (let start = vmStateBytes - PIECE_BYTES; start >= 0; start -= PIECE_BYTES) {
    await writeSources(start, sources, target);
  }
  return vmStateBytes;
}

/** Writes the piece at `start` with what of `sources` lies in it. */
async function writeSources(start: number, sources: readonly Source[], target: StateTarget): Promise<void> {
  const end = start + PIECE_BYTES;
  const inside = sources.filter(({ offset, bytes }) => offset < end && offset + bytes.length > start);
  if (inside.length === 0) return;
  const piece = new Uint8Array(PIECE_BYTES);
  for (const { offset, bytes } of inside) {
    const part = bytes.subarray(Math.max(0, start - offset), end - offset);
    piece.set(part, Math.max(0, offset - start));
    target.onBytes(part.length);
  }
  if (wordsOf(piece).some((word) => word !== 0)) await target.write(start, piece);
}

/**
 * Reads a state back: the buffer that `restore_state` takes, byte for byte what was saved.
 * @throws `BAD_IMAGE` if it is not, `LIMIT` if there is no memory for it.
 */
export async function readMachineState(map: StateMap, read: ReadState): Promise<ArrayBuffer> {
  const buffer = allocate(map.length);
  for (const { offset, at, length } of map.parts) {
    for (let done = 0; done < length; done += PIECE_BYTES) {
      buffer.set(await read(offset + done, Math.min(PIECE_BYTES, length - done)), at + done);
    }
  }
  if (map.ram) await readRam(buffer, map.ram, read);
  const checksum = murmurHash32(buffer);
  if (checksum !== map.checksum) throw invalid('its checksum', checksum, map.checksum);
  return buffer.buffer;
}

function allocate(length: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(length);
  } catch (cause) {
    throw new Qcow2Error('LIMIT', `there is no memory for the machine state of ${length} bytes`, { cause });
  }
}
