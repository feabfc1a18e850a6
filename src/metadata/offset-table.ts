/**
 * Offset table: the first level of a two-level structure, held whole in memory: the active L1 table (32 MiB at most) or
 * the refcount table (8 MiB at most). Entries are kept as numbers; `write` brings changed sectors to the file.
 *
 * An L1 entry is the offset of an L2 table with bit 63, COPIED, set where its refcount is exactly one (spec, "L1 table
 * entry"). A refcount table entry is the offset of a refcount block (spec, "Refcount table entry"). Both are 0 for none.
 */
import type { HostOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import { SECTOR_BYTES } from '../format/limits.js';
import type { AccessPurpose } from '../storage/access-purpose.js';
import type { Storage } from '../storage/storage.js';
import { viewOf } from '../util/big-endian.js';
import { alignUp, hex, isAligned } from '../util/integers.js';
import type { CorruptionFinding } from './corruption.js';

const ENTRIES_PER_SECTOR = SECTOR_BYTES / 8;
const COPIED = 0x8000_0000;
/** Bits 0 to 8 are reserved. */
const LOW_OFFSET_MASK = 0xffff_fe00;

export interface OffsetTableOptions {
  readonly storage: Storage;
  /** For messages: "L1 table" or "refcount table". */
  readonly name: string;
  readonly offset: HostOffset;
  readonly entries: number;
  readonly clusterSize: number;
  /** Bits of the high word that are part of the offset. */
  readonly highMask: number;
  /** The error to throw for a misaligned offset. Default: `CORRUPT`, and nothing else. */
  readonly corrupt?: ((finding: CorruptionFinding) => Qcow2Error) | undefined;
  /** What its writes are announced as. */
  readonly updatePurpose?: AccessPurpose | undefined;
  /** Called with each range of the file before it is written; throws to prevent it. */
  readonly beforeWrite?: ((offset: HostOffset, length: number) => void) | undefined;
}

/** Offsets of L2 tables have 56 bits. */
export const L1_HIGH_MASK = 0x00ff_ffff;
/** Offsets of refcount blocks have 64 bits. */
export const REFCOUNT_TABLE_HIGH_MASK = 0xffff_ffff;

export class OffsetTable {
  readonly #options: OffsetTableOptions;
  #offset: HostOffset;
  /** Low and high word of each entry. */
  #words: Uint32Array;
  /** All offsets that the entries name, for `names`. */
  readonly #named = new Set<HostOffset>();
  readonly #dirtySectors = new Set<number>();

  constructor(options: OffsetTableOptions) {
    this.#options = options;
    this.#offset = options.offset;
    const { storage, entries, clusterSize, offset, name } = options;
    if (entries > 0 && offset + entries * 8 > alignUp(storage.size, clusterSize)) {
      const where = `${hex(offset)} to ${hex(offset + entries * 8)}`;
      throw new Qcow2Error('BAD_IMAGE', `the ${name} lies at ${where}; the file ends at ${hex(storage.size)}`);
    }
    const bytes = new Uint8Array(entries * 8);
    storage.read(offset, bytes);
    this.#words = decodeWords(bytes);
    this.#collectNames();
  }

  get offset(): HostOffset {
    return this.#offset;
  }

  get entries(): number {
    return this.#words.length / 2;
  }

  /** How many places the entries name. */
  get namedEntries(): number {
    return this.#named.size;
  }

  get dirty(): boolean {
    return this.#dirtySectors.size > 0;
  }

  /** The offset that entry `index` names, checked: 0, or a cluster inside the file. Throws `CORRUPT`. */
  get(index: number): HostOffset {
    const host = this.#hostOf(index);
    return this.#checked(index, host);
  }

  /** Whether the L2 table of L1 entry `index` has a refcount of exactly one. */
  copied(index: number): boolean {
    return (this.#words[2 * index + 1]! & COPIED) !== 0;
  }

  /** Whether some entry names `offset`. */
  names(offset: HostOffset): boolean {
    return this.#named.has(offset);
  }

  set(index: number, offset: HostOffset, options: { readonly copied: boolean }): void {
    this.#named.delete(this.#hostOf(index));
    if (offset !== 0) this.#named.add(offset);
    this.#words[2 * index] = offset % 0x1_0000_0000;
    this.#words[2 * index + 1] = (Math.floor(offset / 0x1_0000_0000) | (options.copied ? COPIED : 0)) >>> 0;
    this.#dirtySectors.add(Math.floor(index / ENTRIES_PER_SECTOR));
  }

  /** Writes the changed sectors, neighbours in one write. What the new entries name must be stable. */
  write(): void {
    const { storage, updatePurpose } = this.#options;
    const sectors = [...this.#dirtySectors].sort((a, b) => a - b);
    let start = 0;
    while (start < sectors.length) {
      let end = start + 1;
      while (end < sectors.length && sectors[end] === sectors[end - 1]! + 1) end++;
      const first = sectors[start]! * ENTRIES_PER_SECTOR;
      const last = Math.min(this.entries, (sectors[end - 1]! + 1) * ENTRIES_PER_SECTOR);
      this.#options.beforeWrite?.(this.#offset + first * 8, (last - first) * 8);
      if (updatePurpose !== undefined) storage.announce?.(updatePurpose);
      storage.write(this.#offset + first * 8, this.#encode(first, last));
      start = end;
    }
    this.#dirtySectors.clear();
  }

  /** The whole table as `entries` entries, the new ones 0, as it is to be written elsewhere. */
  encodeGrown(entries: number): Uint8Array {
    const bytes = new Uint8Array(entries * 8);
    bytes.set(this.#encode(0, Math.min(entries, this.entries)));
    return bytes;
  }

  /** The table has been written whole at `offset` with this `content`, and the header names it. */
  adopt(offset: HostOffset, content: Uint8Array): void {
    this.#words = decodeWords(content);
    this.#offset = offset;
    this.#dirtySectors.clear();
    this.#collectNames();
  }

  #hostOf(index: number): HostOffset {
    const high = (this.#words[2 * index + 1]! & this.#options.highMask) >>> 0;
    const low = (this.#words[2 * index]! & LOW_OFFSET_MASK) >>> 0;
    return high * 0x1_0000_0000 + low;
  }

  #collectNames(): void {
    this.#named.clear();
    for (let index = 0; index < this.entries; index++) {
      const host = this.#hostOf(index);
      if (host !== 0) this.#named.add(host);
    }
  }

  #encode(first: number, end: number): Uint8Array {
    const bytes = new Uint8Array((end - first) * 8);
    const view = viewOf(bytes);
    for (let index = first; index < end; index++) {
      view.setUint32((index - first) * 8, this.#words[2 * index + 1]!);
      view.setUint32((index - first) * 8 + 4, this.#words[2 * index]!);
    }
    return bytes;
  }

  #checked(index: number, host: HostOffset): HostOffset {
    const { storage, name, clusterSize, corrupt } = this.#options;
    if (isAligned(host, clusterSize) && (host < storage.size || host === 0)) return host;
    const limits = `it must be a multiple of ${hex(clusterSize)} inside the file, which ends at ${hex(storage.size)}`;
    const message = `entry ${index} of the ${name} names offset ${hex(host)}; ${limits}`;
    if (corrupt === undefined || isAligned(host, clusterSize)) throw new Qcow2Error('CORRUPT', message);
    const facts = { fact: 'misaligned-table', table: name, index, host } as const;
    throw corrupt({ message, offset: this.#offset + index * 8, size: 8, facts });
  }
}

function decodeWords(bytes: Uint8Array): Uint32Array {
  const view = viewOf(bytes);
  const words = new Uint32Array(bytes.length / 4);
  for (let at = 0; at < bytes.length; at += 8) {
    words[at / 4] = view.getUint32(at + 4);
    words[at / 4 + 1] = view.getUint32(at);
  }
  return words;
}
