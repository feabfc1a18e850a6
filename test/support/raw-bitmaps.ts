/**
 * The persistent bitmaps of a qcow2 file, read from its bytes by the specification alone: what our code wrote is not read by our
 * code.
 */
import { Qcow2Bytes } from './qcow2-bytes.js';

export interface RawBitmap {
  readonly name: string;
  readonly granularity: number;
  /** 1 in_use, 2 auto, 4 extra_data_compatible. */
  readonly flags: number;
  /** Entries of its table: 0 for all zeroes, 1 for all ones. */
  readonly table: readonly number[];
  /** The marked granules of the disk, by index. */
  readonly marked: ReadonlySet<number>;
}

const EXTENSION = 0x2385_2875;
const ZEROES = Buffer.alloc(256);

/** Where the data of the bitmaps extension lies; null for an image without one. */
export function extensionAt(image: Qcow2Bytes): number | null {
  for (let at = image.u32(100); image.u32(at) !== 0; at += 8 + Math.ceil(image.u32(at + 4) / 8) * 8) {
    if (image.u32(at) === EXTENSION) return at + 8;
  }
  return null;
}

/** In the order of the directory. None where the autoclear bit is clear. */
export function rawBitmaps(file: Uint8Array): RawBitmap[] {
  const image = new Qcow2Bytes(file);
  const extension = extensionAt(image);
  if ((image.bits(88) & 1n) === 0n || extension === null) return [];
  const bitmaps: RawBitmap[] = [];
  const end = image.u64(extension + 16) + image.u64(extension + 8);
  for (let at = image.u64(extension + 16); at < end;) {
    const nameLength = image.u32(at + 16) & 0xffff;
    const nameAt = at + 24 + image.u32(at + 20);
    const granularity = 2 ** ((image.u32(at + 16) >>> 16) & 0xff);
    const table = Array.from({ length: image.u32(at + 8) }, (_, index) => image.u64(image.u64(at) + 8 * index));
    const flags = image.u32(at + 12);
    // What one in use says is of no account: it may be for a disk that was larger.
    const granules = (flags & 1) !== 0 ? Infinity : Math.ceil(image.u64(24) / granularity);
    bitmaps.push({
      name: image.bytes.toString('utf8', nameAt, nameAt + nameLength),
      granularity,
      flags,
      table,
      marked: markedIn(image, table, granules),
    });
    at = Math.ceil((nameAt + nameLength) / 8) * 8;
  }
  if (bitmaps.length !== image.u32(extension))
    throw new Error(`${bitmaps.length} bitmaps, not ${image.u32(extension)}`);
  return bitmaps;
}

function markedIn(image: Qcow2Bytes, table: readonly number[], granules: number): Set<number> {
  const marked = new Set<number>();
  const { clusterSize } = image;
  table.forEach((entry, cluster) => {
    if (entry === 0) return;
    for (let byte = 0; byte < clusterSize; byte++) {
      // Most of a large cluster is zeroes, which are passed over in one go.
      if (entry > 1 && byte % ZEROES.length === 0) {
        while (byte < clusterSize && ZEROES.equals(image.bytes.subarray(entry + byte, entry + byte + ZEROES.length))) {
          byte += ZEROES.length;
        }
        if (byte >= clusterSize) break;
      }
      const bits = entry > 1 ? image.bytes[entry + byte]! : 0xff;
      for (let bit = 0; bit < 8 && bits >> bit !== 0; bit++) {
        if (((bits >> bit) & 1) === 1) marked.add((cluster * clusterSize + byte) * 8 + bit);
      }
    }
  });
  for (const granule of marked) if (granule >= granules) throw new Error(`bit ${granule} is set, of ${granules}`);
  return marked;
}

/** The granules that `length` bytes from `offset` on touch. */
export function granulesOf(offset: number, length: number, granularity: number): number[] {
  const first = Math.floor(offset / granularity);
  return Array.from({ length: Math.ceil((offset + length) / granularity) - first }, (_, index) => first + index);
}

/** For a comparison that says something when it fails. */
export function sorted(marked: Iterable<number>): number[] {
  return [...marked].toSorted((a, b) => a - b);
}
