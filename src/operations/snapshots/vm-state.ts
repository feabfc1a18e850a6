/**
 * VM state: bytes that lie behind the end of the disk, in the first clusters that no L1 entry of the disk leads to (spec,
 * "Snapshots"). They are written to the active tables; creating a snapshot takes them over (QEMU: `savevm`).
 *
 *   0 ... disk ... | up to a whole L1 entry | VM state ...
 *                                           ^ vmStateOffset
 *
 * Each cluster costs as little as it can: one of zeroes nothing, one that an earlier snapshot has at the same place a
 * reference, any other its place, compressed if asked for. A crash leaves what was written where the guest can't see it;
 * `discardVmState`, or the next snapshot, clears it away.
 */
import { Qcow2Error } from '../../errors.js';
import { l1EntriesFor } from '../../format/geometry.js';
import { MAX_L1_BYTES } from '../../format/limits.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import type { ChangeableTables } from '../../metadata/changeable-tables.js';
import { unmapFrom } from '../../image/unmap-from.js';
import { equalAt, isZero } from '../../util/bytes.js';
import { alignUp } from '../../util/integers.js';
import { runToEnd } from '../../util/steps.js';
import { changeableForSnapshots, vmStateStart } from './snapshot-tables.js';
import { openSnapshot, type SnapshotView } from './open-snapshot.js';
import type { VmStateOptions, VmStateWritten } from './snapshot-info.js';

/** Where the VM state of the active disk starts, as a guest offset. */
export function vmStateOffset(image: Qcow2Image): number {
  return vmStateStart(image.tables);
}

/** Reads VM state of the active disk: what was written since the last snapshot, or what the snapshot gone to had. */
export function readVmState(image: Qcow2Image, offset: number, target: Uint8Array): void {
  checkOffset(offset, target.length);
  image.storage.announce?.('vmstate_load');
  image.readBehind(vmStateOffset(image) + offset, target);
}

/** Frees the VM state of the active disk. That of snapshots stays. Stable when it returns. */
export function discardVmState(image: Qcow2Image): void {
  changeableForSnapshots(image).header.beforeChange();
  runToEnd(unmapFrom(image, vmStateOffset(image)));
}

/**
 * Writes VM state. Throws `LIMIT` past what an L1 table can hold, `UNSUPPORTED` for an external data file, `NOT_FOUND` for a
 * snapshot to share with that does not exist, and as a write does.
 */
export function writeVmState(
  image: Qcow2Image,
  offset: number,
  source: Uint8Array,
  options: VmStateOptions = {},
): VmStateWritten {
  const { like = null, compress = false } = options;
  return writeVmStateLike(image, { offset, source, like: like === null ? null : openSnapshot(image, like), compress });
}

export interface VmStatePiece {
  readonly offset: number;
  readonly source: Uint8Array;
  readonly like: SnapshotView | null;
  readonly compress: boolean;
}

/** The same, with the snapshot to share with open. */
export function writeVmStateLike(image: Qcow2Image, piece: VmStatePiece): VmStateWritten {
  checkOffset(piece.offset, piece.source.length);
  image.storage.announce?.('vmstate_save');
  makeRoom(image, piece.offset + piece.source.length);
  return new VmStateWriter(image, piece).write();
}

/** A host that has no room for `clusters` more says so before anything is changed, and the image stays of use. */
function reserve({ storage, writable }: ChangeableTables, clusters: number): void {
  if (clusters > 0) storage.reserve(writable.allocator.endOfNext(clusters));
}

/** Grows the L1 table to the end of its last cluster, so that a state that comes in pieces does not move it each time. */
function makeRoom(image: Qcow2Image, stateBytes: number): void {
  const tables = changeableForSnapshots(image);
  const { geometry, header, l1 } = tables;
  const needed = l1EntriesFor(geometry, header.value.size) + l1EntriesFor(geometry, stateBytes);
  if (needed <= l1.entries) return;
  if (needed * 8 > MAX_L1_BYTES) {
    const limit = `the L1 table would need ${needed * 8} bytes; the limit is ${MAX_L1_BYTES}`;
    throw new Qcow2Error('LIMIT', `the VM state reaches to ${stateBytes} bytes; ${limit}`);
  }
  header.beforeChange();
  const entries = Math.min(MAX_L1_BYTES / 8, alignUp(needed, geometry.clusterSize / 8));
  reserve(tables, Math.ceil((entries * 8) / geometry.clusterSize));
  tables.growL1(entries * geometry.l2Coverage);
}

class VmStateWriter {
  readonly #image: Qcow2Image;
  readonly #piece: VmStatePiece;
  readonly #clusterSize: number;
  readonly #start: number;
  /** What the snapshot to share with has in place of the piece; null for none. */
  readonly #other: Uint8Array | null;
  readonly #written = { stored: 0, shared: 0, zero: 0 };
  /** Bytes of the piece from here on wait to be stored in one write. */
  #waitingFrom = -1;

  constructor(image: Qcow2Image, piece: VmStatePiece) {
    this.#image = image;
    this.#piece = piece;
    this.#clusterSize = image.clusterSize;
    this.#start = vmStateOffset(image);
    this.#other = piece.like && new Uint8Array(piece.source.length);
    if (this.#other) piece.like!.readVmState(piece.offset, this.#other);
  }

  write(): VmStateWritten {
    const { length } = this.#piece.source;
    this.#reserve();
    for (let at = 0; at < length; at = this.#endOfPart(at)) this.#writePart(at, this.#endOfPart(at));
    this.#store(length);
    return this.#written;
  }

  /** The part of the piece from `at` on that lies in one cluster. */
  #endOfPart(at: number): number {
    const { offset, source } = this.#piece;
    return Math.min(source.length, at + this.#clusterSize - ((offset + at) % this.#clusterSize));
  }

  /** Room for what will have to be stored, and for the L2 tables that are missing. Nobody knows what compressing leaves. */
  #reserve(): void {
    const { source, compress } = this.#piece;
    const tables = this.#image.changeableTables();
    const { l2Coverage } = tables.geometry;
    let clusters = 0;
    for (let at = 0; at < source.length; at = this.#endOfPart(at)) {
      const part = source.subarray(at, this.#endOfPart(at));
      const whole = part.length === this.#clusterSize;
      const cheap = whole && (isZero(part) || (this.#other !== null && this.#equalsOther(at, part)));
      if (!cheap && !compress) clusters++;
    }
    const last = Math.floor((this.#guest(source.length) - 1) / l2Coverage);
    for (let index = Math.floor(this.#guest(0) / l2Coverage); index <= last; index++) {
      if (tables.l1.get(index) === 0 || !tables.l1.copied(index)) clusters++;
    }
    reserve(tables, clusters);
  }

  /** Bytes `at .. end` of the piece, which lie in one cluster. */
  #writePart(at: number, end: number): void {
    const { source, compress } = this.#piece;
    const part = source.subarray(at, end);
    const length = end - at;
    const cheaply = length < this.#clusterSize ? this.#storeInPart(at, part) : this.#storeCheaply(at, part);
    if (cheaply !== null) {
      this.#store(at);
      this.#written[cheaply] += length;
    } else if (compress && this.#storeCompressed(at, part)) {
      this.#written.stored += length;
    } else {
      if (this.#waitingFrom < 0) this.#waitingFrom = at;
      this.#written.stored += length;
    }
  }

  /** What need not be stored is not; it is said what was done instead. */
  #storeCheaply(at: number, part: Uint8Array): 'zero' | 'shared' | null {
    if (isZero(part)) {
      this.#unmap(at);
      return 'zero';
    }
    return this.#share(at, part) ? 'shared' : null;
  }

  /** A cluster that the piece covers in part keeps the rest of what it has. */
  #storeInPart(at: number, part: Uint8Array): 'zero' | 'shared' | 'stored' {
    const within = (this.#piece.offset + at) % this.#clusterSize;
    const guest = this.#guest(at) - within;
    const whole = new Uint8Array(this.#clusterSize);
    this.#image.readBehind(guest, whole);
    whole.set(part, within);
    this.#store(at);
    if (isZero(whole)) {
      this.#unmap(at - within);
      return 'zero';
    }
    if (within === 0 && this.#share(at, whole)) return 'shared';
    this.#image.writeBehind(guest, whole);
    return 'stored';
  }

  #storeCompressed(at: number, part: Uint8Array): boolean {
    this.#store(at);
    return this.#image.writeBehindCompressed(this.#guest(at), part);
  }

  /** Stores what waits, up to `end`. */
  #store(end: number): void {
    if (this.#waitingFrom < 0 || this.#waitingFrom === end) return;
    this.#image.writeBehind(this.#guest(this.#waitingFrom), this.#piece.source.subarray(this.#waitingFrom, end));
    this.#waitingFrom = -1;
  }

  #unmap(at: number): void {
    const { l2, geometry } = this.#image.changeableTables();
    const cluster = this.#guest(at) / geometry.clusterSize;
    const run = l2.runAt(this.#guest(at), geometry.clusterSize);
    if (run.kind !== 'unallocated' || run.reserved !== null) l2.unlink(cluster, 1);
  }

  /** Has the cluster at `at` name what the other snapshot has there, if that is the same. */
  #share(at: number, whole: Uint8Array): boolean {
    const { like, offset } = this.#piece;
    if (like === null || !this.#equalsOther(at, whole)) return false;
    const run = like.vmStateRun(offset + at);
    const { l2, writable, geometry, guestData } = this.#image.changeableTables();
    if (guestData.boundToGuestOffset && like.vmStateStart !== this.#start) return false;
    const { allocator } = writable;
    const cluster = this.#guest(at) / geometry.clusterSize;
    if (run?.kind === 'data' && run.length === geometry.clusterSize) {
      if (!allocator.share(run.host, geometry.clusterSize)) return false;
      l2.linkShared(cluster, run.host);
      return true;
    }
    if (run?.kind !== 'compressed') return false;
    const { descriptor } = run;
    if (!allocator.share(descriptor.host, descriptor.length)) return false;
    l2.linkCompressed(cluster, descriptor);
    return true;
  }

  /** The other is known for the length of the piece; behind that, where a part was filled up, it must be zeroes, too. */
  #equalsOther(at: number, whole: Uint8Array): boolean {
    const other = this.#other!;
    if (at + whole.length <= other.length) return equalAt(other, at, whole);
    const rest = new Uint8Array(whole.length);
    this.#piece.like!.readVmState(this.#piece.offset + at, rest);
    return equalAt(rest, 0, whole);
  }

  #guest(at: number): number {
    return this.#start + this.#piece.offset + at;
  }
}

function checkOffset(offset: number, length: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(offset + length)) return;
  throw new Qcow2Error('BAD_ARGUMENT', `offset is ${offset}; it must be a number of bytes from 0 to ${2 ** 53 - 1}`);
}
