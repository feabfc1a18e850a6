/** VM states in memory, as the snapshots of one image hold them: what is written is zeroes elsewhere. */
import type { BaseState } from '../../src/v86/machine-state.js';
import { decodeRecord } from '../../src/v86/state-record.js';
import { RECORD_BYTES } from '../../src/v86/state-map.js';

export class MemoryVmState {
  bytes = new Uint8Array(0);
  /** Offsets of the pieces that were written, in that order. */
  readonly pieces: number[] = [];

  readonly write = async (offset: number, piece: Uint8Array<ArrayBuffer>): Promise<void> => {
    if (offset + piece.length > this.bytes.length) {
      const grown = new Uint8Array(offset + piece.length);
      grown.set(this.bytes);
      this.bytes = grown;
    }
    this.bytes.set(piece, offset);
    this.pieces.push(offset);
  };

  readonly read = async (offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> => {
    const piece = new Uint8Array(length);
    piece.set(this.bytes.subarray(offset, offset + length));
    return piece;
  };

  async base(vmStateBytes: number): Promise<BaseState> {
    return { record: decodeRecord(await this.read(0, RECORD_BYTES), vmStateBytes), read: this.read };
  }

  /** Clusters that are not zero, and how many of them differ from what `other` has in their place. */
  costAgainst(other: MemoryVmState | null, clusterSize: number): { stored: number; own: number } {
    const count = { stored: 0, own: 0 };
    const zeroes = new Uint8Array(clusterSize);
    for (let at = 0; at < this.bytes.length; at += clusterSize) {
      const cluster = this.bytes.subarray(at, at + clusterSize);
      if (Buffer.compare(cluster, zeroes.subarray(0, cluster.length)) === 0) continue;
      count.stored++;
      const before = other?.bytes.subarray(at, at + clusterSize) ?? new Uint8Array(0);
      if (Buffer.compare(cluster, before) !== 0) count.own++;
    }
    return count;
  }
}
