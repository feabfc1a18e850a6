/**
 * A new file that goes elsewhere as it is written, to where it can't be read from: guest data at once, and metadata, which is read and changed
 * until the end, from memory when all is done.
 *
 *   write, guest data   --> taken with `takePieces` between the steps of the job, and forgotten
 *   write, metadata     --> kept, by sectors --> taken with `takeRest` at the end
 *
 * - Guest data is what is announced as such (`access-purpose.ts`). It may not be read again; a job that would is a mistake of ours.
 * - In memory are all L2 tables and refcounts, an 8000th part of the disk or, with small clusters, more; at the end for a moment three times.
 * - Clusters are whole sectors, so no sector is of both kinds at once. One may become the other: what was written last counts.
 */
import { assert } from '../util/assert.js';
import { ByteRanges } from '../util/byte-ranges.js';
import { alignDown } from '../util/integers.js';
import type { AccessPurpose } from './access-purpose.js';
import type { Storage } from './storage.js';

/** A part of the file. Its array owns all of its buffer. */
export interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** The smallest cluster. */
const SECTOR_BYTES = 512;

/** What lies together is taken together, up to this. Bytes. */
const PIECE_BYTES = 1024 * 1024;

export class PouredStorage implements Storage {
  readonly readOnly = false;
  #size = 0;
  #nextIsData = false;
  /** Sectors of metadata, by their numbers. */
  readonly #kept = new Map<number, Uint8Array>();
  readonly #gone = new ByteRanges();
  #pieces: Piece[] = [];
  #waitingBytes = 0;

  get size(): number {
    return this.#size;
  }

  /** Bytes that `takePieces` would take. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  announce(purpose: AccessPurpose): void {
    this.#nextIsData = purpose === 'write_aio' || purpose === 'write_compressed';
  }

  read(offset: number, target: Uint8Array): void {
    for (const { sector, at, part } of sectorsOf(offset, target)) {
      const kept = this.#kept.get(sector);
      if (kept !== undefined) part.set(kept.subarray(at, at + part.length));
      else part.fill(this.#nothingAt(sector * SECTOR_BYTES + at, part.length));
    }
  }

  write(offset: number, source: Uint8Array): void {
    const isData = this.#nextIsData;
    this.#nextIsData = false;
    if (isData) this.#pour(offset, source);
    else this.#keep(offset, source);
    this.#size = Math.max(this.#size, offset + source.length);
  }

  truncate(size: number): void {
    if (size < this.#size) this.#cut(size);
    this.#size = size;
  }

  #cut(size: number): void {
    assert(
      !this.#gone.touches(size, Infinity),
      `a file is cut to ${size} bytes, and what lies behind is written already`,
    );
    for (const [sector, bytes] of this.#kept) {
      const inside = size - sector * SECTOR_BYTES;
      if (inside <= 0) this.#kept.delete(sector);
      else if (inside < SECTOR_BYTES) bytes.fill(0, inside);
    }
  }

  /** Stable is what whoever takes the pieces makes stable. */
  flush(): void {}

  close(): void {}

  /** The guest data written since the last time, in the order in which it was written. */
  takePieces(): Piece[] {
    const pieces = joined(this.#pieces);
    this.#pieces = [];
    this.#waitingBytes = 0;
    return pieces;
  }

  /** All metadata, to be written after every piece. */
  takeRest(): Piece[] {
    const sectors = [...this.#kept.keys()].sort((a, b) => a - b);
    const whole = sectors.map((sector) => ({ offset: sector * SECTOR_BYTES, bytes: this.#kept.get(sector)!.slice() }));
    return joined(whole);
  }

  #pour(offset: number, source: Uint8Array): void {
    for (const { sector, at, part } of sectorsOf(offset, source)) {
      if (part.length === SECTOR_BYTES) this.#kept.delete(sector);
      else this.#kept.get(sector)?.set(part, at);
    }
    this.#gone.add(offset, offset + source.length);
    this.#pieces.push({ offset, bytes: source.slice() });
    this.#waitingBytes += source.length;
  }

  #keep(offset: number, source: Uint8Array): void {
    for (const { sector, at, part } of sectorsOf(offset, source)) {
      let kept = this.#kept.get(sector);
      if (kept === undefined) {
        if (part.length < SECTOR_BYTES) this.#nothingAt(sector * SECTOR_BYTES, SECTOR_BYTES);
        kept = new Uint8Array(SECTOR_BYTES);
        this.#kept.set(sector, kept);
      }
      kept.set(part, at);
    }
  }

  /** What was never written is zero. */
  #nothingAt(offset: number, length: number): 0 {
    assert(
      !this.#gone.touches(offset, offset + length),
      `guest data at ${offset} is wanted again, and was written already`,
    );
    return 0;
  }
}

/** The parts of a range, sector by sector. `at` is where in the sector the part begins. */
function* sectorsOf(offset: number, bytes: Uint8Array): Generator<{ sector: number; at: number; part: Uint8Array }> {
  for (let done = 0; done < bytes.length;) {
    const at = (offset + done) % SECTOR_BYTES;
    const length = Math.min(SECTOR_BYTES - at, bytes.length - done);
    const sector = alignDown(offset + done, SECTOR_BYTES) / SECTOR_BYTES;
    yield { sector, at, part: bytes.subarray(done, done + length) };
    done += length;
  }
}

/** Pieces that follow each other in the file as one, in the same order. */
function joined(pieces: readonly Piece[]): Piece[] {
  const runs: { offset: number; length: number; parts: Uint8Array[] }[] = [];
  for (const { offset, bytes } of pieces) {
    const last = runs.at(-1);
    const goesOn = last !== undefined && last.offset + last.length === offset;
    if (goesOn && last.length + bytes.length <= PIECE_BYTES) {
      last.parts.push(bytes);
      last.length += bytes.length;
    } else runs.push({ offset, length: bytes.length, parts: [bytes] });
  }
  return runs.map(({ offset, length, parts }) => ({ offset, bytes: concatenated(parts, length) }));
}

function concatenated(parts: readonly Uint8Array[], length: number): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
