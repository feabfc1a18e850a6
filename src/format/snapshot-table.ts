/**
 * Snapshot table: the directory of internal snapshots (spec, "Snapshots"). Pure.
 *
 *    0 l1_offset (8)   8 l1_entries   12 id bytes (2)  14 name bytes (2)
 *   16 date seconds   20 nanoseconds  24 VM clock (8)  32 VM state bytes  36 extra bytes
 *   40 extra data, id, name, padding to 8
 *
 * The extra data are, as far as an entry has them:
 *
 *   40 VM state bytes (8), which then counts instead of the 4 bytes at 32
 *   48 disk size (8), by default that of the image now
 *   56 instruction count of the VM (8), all ones for none
 *   64 newer fields, which stay as they are: an entry that is kept is kept byte for byte
 */
import { Qcow2Error } from '../errors.js';
import { getUint64, setUint64, viewOf } from '../util/big-endian.js';
import { alignUp, hex, isAligned } from '../util/integers.js';
import { MAX_HOST_OFFSET, MAX_L1_BYTES, MAX_SNAPSHOT_EXTRA_BYTES } from './limits.js';

export const SNAPSHOT_FIXED_BYTES = 40;

/** What an entry says, whether it is read or to be written. */
export interface SnapshotFields {
  /** Above 2^53 the nearest double. */
  readonly l1Offset: number;
  readonly l1Entries: number;
  readonly id: string;
  readonly name: string;
  /** When it was made: seconds since 1970, and nanoseconds. */
  readonly date: { readonly seconds: number; readonly nanoseconds: number };
  /** How long the VM had run, in nanoseconds. */
  readonly vmClock: bigint;
  /** Bytes of the VM's state; 0 for a snapshot of the disk alone. */
  readonly vmStateBytes: number;
  /** Bytes of the disk then. Null where the entry does not say it; it is that of the image then. */
  readonly diskSize: number | null;
  /** Instructions that the VM had executed, where it counted them. */
  readonly instructionCount: bigint | null;
}

export interface SnapshotEntry extends SnapshotFields {
  /** Bytes of the entry in the table, padding included. */
  readonly byteLength: number;
}

const AT = { idBytes: 12, nameBytes: 14, seconds: 16, nanoseconds: 20, vmClock: 24, stateBytes: 32, extraBytes: 36 };
const EXTRA_AT = { stateBytes: 40, diskSize: 48, instructions: 56 };
/** The three fields above. */
const EXTRA_BYTES = 8 + 8 + 8;
/** Made once: a list has many entries. */
const text = new TextDecoder();
const NO_COUNT = 0xffff_ffff_ffff_ffffn;

/** Bytes of an entry, judged from its first `SNAPSHOT_FIXED_BYTES`. */
export function snapshotEntryBytes(fixed: Uint8Array): number {
  const view = viewOf(fixed);
  const extra = view.getUint32(AT.extraBytes);
  if (extra > MAX_SNAPSHOT_EXTRA_BYTES) {
    throw new Qcow2Error(
      'BAD_IMAGE',
      `a snapshot's extra data has ${extra} bytes; the limit is ${MAX_SNAPSHOT_EXTRA_BYTES}`,
    );
  }
  return alignUp(SNAPSHOT_FIXED_BYTES + extra + view.getUint16(AT.idBytes) + view.getUint16(AT.nameBytes), 8);
}

/**
 * Decodes one entry of `snapshotEntryBytes` bytes. What it says of its L1 table is judged when that is used
 * (`checkSnapshotL1`). Throws `LIMIT` for a size above 2^53 - 1.
 */
export function decodeSnapshotEntry(bytes: Uint8Array): SnapshotEntry {
  const view = viewOf(bytes);
  const extraEnd = SNAPSHOT_FIXED_BYTES + view.getUint32(AT.extraBytes);
  const has = (at: number): boolean => at + 8 <= extraEnd;
  const names = snapshotNames(bytes);
  const instructions = has(EXTRA_AT.instructions) ? view.getBigUint64(EXTRA_AT.instructions) : NO_COUNT;
  return {
    // No spread: that takes 5 microseconds, and lists are long.
    l1Offset: view.getUint32(0) * 0x1_0000_0000 + view.getUint32(4),
    l1Entries: view.getUint32(8),
    id: text.decode(names.id),
    name: text.decode(names.name),
    date: { seconds: view.getUint32(AT.seconds), nanoseconds: view.getUint32(AT.nanoseconds) },
    vmClock: view.getBigUint64(AT.vmClock),
    vmStateBytes: has(EXTRA_AT.stateBytes)
      ? getUint64(view, EXTRA_AT.stateBytes, 'vm_state_size of a snapshot')
      : view.getUint32(AT.stateBytes),
    diskSize: has(EXTRA_AT.diskSize) ? getUint64(view, EXTRA_AT.diskSize, 'disk_size of a snapshot') : null,
    instructionCount: instructions === NO_COUNT ? null : instructions,
    byteLength: bytes.length,
  };
}

/** What an entry says of its L1 table can't be: the snapshot is listed, and nothing is done with it. */
export class BadSnapshotL1 extends Qcow2Error {
  constructor(
    readonly flaw: 'size' | 'offset',
    message: string,
  ) {
    super('BAD_IMAGE', message);
  }
}

type L1Place = Pick<SnapshotFields, 'id' | 'l1Offset' | 'l1Entries'>;

/** What is wrong with the place of a snapshot's L1 table; null for nothing. */
export function flawOfSnapshotL1({ id, l1Offset, l1Entries }: L1Place, clusterSize: number): BadSnapshotL1 | null {
  const name = `the L1 table of snapshot ${id}`;
  if (l1Entries > MAX_L1_BYTES / 8) {
    return new BadSnapshotL1('size', `${name} has ${l1Entries} entries; the limit is ${MAX_L1_BYTES / 8}`);
  }
  if (!isAligned(l1Offset, clusterSize)) {
    return new BadSnapshotL1('offset', `${name} is at ${hex(l1Offset)}, not at a cluster's start`);
  }
  if (l1Offset <= MAX_HOST_OFFSET) return null;
  return new BadSnapshotL1('offset', `${name} is at ${hex(l1Offset)}; the limit is ${hex(MAX_HOST_OFFSET)}`);
}

/** To be asked before the L1 table of a snapshot is read or its references are changed. Throws `BadSnapshotL1`. */
export function checkSnapshotL1(place: L1Place, clusterSize: number): void {
  const flaw = flawOfSnapshotL1(place, clusterSize);
  if (flaw !== null) throw flaw;
}

/** Id and name as they are stored: what is no UTF-8 would not come back from their text. */
export interface SnapshotNames {
  readonly id: Uint8Array;
  readonly name: Uint8Array;
}

/** The names in the bytes of an entry. */
export function snapshotNames(bytes: Uint8Array): SnapshotNames {
  const view = viewOf(bytes);
  const idStart = SNAPSHOT_FIXED_BYTES + view.getUint32(AT.extraBytes);
  const nameStart = idStart + view.getUint16(AT.idBytes);
  const nameEnd = nameStart + view.getUint16(AT.nameBytes);
  return { id: bytes.subarray(idStart, nameStart), name: bytes.subarray(nameStart, nameEnd) };
}

function encodedNames({ id, name }: SnapshotFields): SnapshotNames {
  const encoder = new TextEncoder();
  return { id: encoder.encode(id), name: encoder.encode(name) };
}

/** The bytes of an entry with names that have been found short enough. A state above 4 GiB is told by the extra data alone. */
export function encodeSnapshotEntry(
  fields: SnapshotFields & { readonly diskSize: number },
  { id, name }: SnapshotNames = encodedNames(fields),
): Uint8Array {
  const namesAt = SNAPSHOT_FIXED_BYTES + EXTRA_BYTES;
  const bytes = new Uint8Array(alignUp(namesAt + id.length + name.length, 8));
  const view = viewOf(bytes);
  setUint64(view, 0, fields.l1Offset);
  view.setUint32(8, fields.l1Entries);
  view.setUint16(AT.idBytes, id.length);
  view.setUint16(AT.nameBytes, name.length);
  view.setUint32(AT.seconds, fields.date.seconds);
  view.setUint32(AT.nanoseconds, fields.date.nanoseconds);
  view.setBigUint64(AT.vmClock, fields.vmClock);
  view.setUint32(AT.stateBytes, fields.vmStateBytes > 0xffff_ffff ? 0 : fields.vmStateBytes);
  view.setUint32(AT.extraBytes, EXTRA_BYTES);
  setUint64(view, EXTRA_AT.stateBytes, fields.vmStateBytes);
  setUint64(view, EXTRA_AT.diskSize, fields.diskSize);
  view.setBigUint64(EXTRA_AT.instructions, fields.instructionCount ?? NO_COUNT);
  bytes.set(id, namesAt);
  bytes.set(name, namesAt + id.length);
  return bytes;
}
