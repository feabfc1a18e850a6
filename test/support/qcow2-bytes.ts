/**
 * A qcow2 file as bytes with names: where its tables and entries lie, so that a test can damage exactly one of them. It is
 * written from the specification alone and shares no code with what it tests.
 */
export class Qcow2Bytes {
  #bytes: Buffer;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes);
  }

  get bytes(): Buffer {
    return this.#bytes;
  }

  get length(): number {
    return this.#bytes.length;
  }

  get clusterSize(): number {
    return 2 ** this.u32(20);
  }

  get version(): number {
    return this.u32(4);
  }

  get l1Offset(): number {
    return this.u64(40);
  }

  get refcountTableOffset(): number {
    return this.u64(48);
  }

  get refcountBits(): number {
    return this.version === 2 ? 16 : 2 ** this.u32(96);
  }

  get snapshotsOffset(): number {
    return this.u64(64);
  }

  u32(at: number): number {
    return this.#bytes.readUInt32BE(at);
  }

  u64(at: number): number {
    return Number(this.#bytes.readBigUInt64BE(at));
  }

  bits(at: number): bigint {
    return this.#bytes.readBigUInt64BE(at);
  }

  setU32(at: number, value: number): void {
    this.#bytes.writeUInt32BE(value, at);
  }

  setBits(at: number, value: bigint): void {
    this.#bytes.writeBigUInt64BE(value, at);
  }

  fill(at: number, length: number, value = 0): void {
    this.#bytes.fill(value, at, at + length);
  }

  truncate(length: number): void {
    this.#bytes = this.#bytes.subarray(0, length);
  }

  /** Puts `bytes` at the end, from a cluster's start on; returns where. */
  append(bytes: Uint8Array): number {
    const at = Math.ceil(this.length / this.clusterSize) * this.clusterSize;
    this.#bytes = Buffer.concat([this.#bytes, Buffer.alloc(at - this.length), bytes]);
    return at;
  }

  /** Where the L1 entry that maps `guest` lies; in the table of the active disk, or in the one at `l1Offset`. */
  l1EntryAt(guest: number, l1Offset = this.l1Offset): number {
    const entryBytes = (this.bits(72) & 16n) !== 0n && this.version === 3 ? 16 : 8;
    return l1Offset + 8 * Math.floor(guest / ((this.clusterSize / entryBytes) * this.clusterSize));
  }

  l2TableOf(guest: number, l1Offset = this.l1Offset): number {
    return Number(this.bits(this.l1EntryAt(guest, l1Offset)) & 0x00ff_ffff_ffff_fe00n);
  }

  /** Where the L2 entry that maps `guest` lies. */
  l2EntryAt(guest: number, l1Offset = this.l1Offset): number {
    const entryBytes = (this.bits(72) & 16n) !== 0n && this.version === 3 ? 16 : 8;
    const index = Math.floor(guest / this.clusterSize) % (this.clusterSize / entryBytes);
    return this.l2TableOf(guest, l1Offset) + index * entryBytes;
  }

  /** The host offset that the L2 entry of `guest` names. */
  hostOf(guest: number): number {
    return Number(this.bits(this.l2EntryAt(guest)) & 0x00ff_ffff_ffff_fe00n);
  }

  /** Where the first snapshot's L1 table lies. */
  get snapshotL1(): number {
    return this.u64(this.snapshotsOffset);
  }

  refcountBlock(index: number): number {
    return this.u64(this.refcountTableOffset + 8 * index);
  }

  setRefcount(host: number, value: number): void {
    const bits = this.refcountBits;
    const perBlock = (this.clusterSize * 8) / bits;
    const cluster = Math.floor(host / this.clusterSize);
    const block = this.refcountBlock(Math.floor(cluster / perBlock));
    const entry = cluster % perBlock;
    if (bits >= 8) {
      const width = bits / 8;
      this.#bytes.fill(0, block + entry * width, block + (entry + 1) * width);
      this.#bytes[block + (entry + 1) * width - 1] = value % 256;
      if (width > 1) this.#bytes[block + (entry + 1) * width - 2] = Math.floor(value / 256);
      return;
    }
    const at = block + Math.floor((entry * bits) / 8);
    const shift = (entry * bits) % 8;
    const mask = (2 ** bits - 1) << shift;
    this.#bytes[at] = (this.#bytes[at]! & ~mask) | (value << shift);
  }
}
