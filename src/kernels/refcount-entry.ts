/**
 * One entry of a refcount block, in plain TypeScript. Spec: "Refcount block entry".
 *
 *   order 0   |7|6|5|4|3|2|1|0|     eight entries a byte, the first in the least significant bit
 *   order 1   | 3 | 2 | 1 | 0 |     four
 *   order 2   |   1   |   0   |     two
 *   order 3   |       0       |     one; wider entries are big endian
 */
const TWO_TO_32 = 0x1_0000_0000;

/** The entry `index` of the block at `block`; above 2^53 the nearest double. */
export function getRefcountEntry(bytes: Uint8Array, block: number, order: number, index: number): number {
  switch (order) {
    case 4:
      return readUint16(bytes, block + index * 2);
    case 3:
      return byteAt(bytes, block + index);
    case 5:
      return readUint32(bytes, block + index * 4);
    case 6:
      return readUint32(bytes, block + index * 8) * TWO_TO_32 + readUint32(bytes, block + index * 8 + 4);
    default: {
      const bit = index << order;
      const mask = (1 << (1 << order)) - 1;
      return (byteAt(bytes, block + (bit >>> 3)) >>> (bit & 7)) & mask;
    }
  }
}

/** The same, for whoever shows it: what a number would round is a bigint. */
export function exactRefcountEntry(bytes: Uint8Array, block: number, order: number, index: number): number | bigint {
  const count = getRefcountEntry(bytes, block, order, index);
  if (Number.isSafeInteger(count)) return count;
  const at = block + index * 8;
  return (BigInt(readUint32(bytes, at)) << 32n) | BigInt(readUint32(bytes, at + 4));
}

/** Sets the entry to `value`, an integer that fits the width and is at most 2^53 - 1. */
export function setRefcountEntry(bytes: Uint8Array, block: number, order: number, index: number, value: number): void {
  switch (order) {
    case 4:
      bytes[block + index * 2] = value >>> 8;
      bytes[block + index * 2 + 1] = value;
      return;
    case 3:
      bytes[block + index] = value;
      return;
    case 5:
      writeUint32(bytes, block + index * 4, value);
      return;
    case 6:
      writeUint32(bytes, block + index * 8, Math.floor(value / TWO_TO_32));
      writeUint32(bytes, block + index * 8 + 4, value % TWO_TO_32);
      return;
    default: {
      const bit = index << order;
      const address = block + (bit >>> 3);
      const mask = ((1 << (1 << order)) - 1) << (bit & 7);
      bytes[address] = (byteAt(bytes, address) & ~mask) | (value << (bit & 7));
    }
  }
}

/** Addresses are inside the memory; were one not, the byte counts as zero. */
function byteAt(bytes: Uint8Array, address: number): number {
  return bytes[address] ?? 0;
}

function readUint16(bytes: Uint8Array, address: number): number {
  return (byteAt(bytes, address) << 8) | byteAt(bytes, address + 1);
}

export function readUint32(bytes: Uint8Array, address: number): number {
  return ((readUint16(bytes, address) << 16) | readUint16(bytes, address + 2)) >>> 0;
}

export function writeUint32(bytes: Uint8Array, address: number, value: number): void {
  bytes[address] = value >>> 24;
  bytes[address + 1] = value >>> 16;
  bytes[address + 2] = value >>> 8;
  bytes[address + 3] = value;
}
