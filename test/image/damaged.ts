/** Small valid images to be damaged by tests, and the places of their fields. */
import { createImage, MemoryStorage, openImage } from '../../src/index.js';

export const CLUSTER_SIZE = 4096;
/** Four L1 entries' worth: an L2 table of 512 entries maps 2 MiB. */
export const DISK_SIZE = 0x80_0000;
/** What guest bytes 0 .. WRITTEN_BYTES hold. */
export const WRITTEN_BYTES = 10 * CLUSTER_SIZE;
export const WRITTEN_VALUE = 0x5c;

/** Byte offsets of header fields (spec, "Header"); all big-endian. */
export const FIELD = {
  magic: 0,
  version: 4,
  backingOffset: 8,
  backingSize: 16,
  clusterBits: 20,
  size: 24,
  cryptMethod: 32,
  l1Size: 36,
  l1Offset: 40,
  refcountTableOffset: 48,
  refcountTableClusters: 56,
  snapshotCount: 60,
  snapshotsOffset: 64,
  incompatible: 72,
  autoclear: 88,
  refcountOrder: 96,
  headerLength: 100,
  compressionType: 104,
} as const;

export interface SmallImage {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  /** Host offsets. */
  readonly l1: number;
  readonly l2: number;
  readonly refcountTable: number;
  readonly refcountBlock: number;
}

export function smallImage(version: 2 | 3 = 3): SmallImage {
  const storage = new MemoryStorage();
  createImage(storage, { size: DISK_SIZE, clusterSize: CLUSTER_SIZE, version });
  const image = openImage(storage);
  image.write(0, new Uint8Array(WRITTEN_BYTES).fill(WRITTEN_VALUE));
  image.close();
  return locateTables(storage.toBytes());
}

/** The first table of each kind in an image file. */
export function locateTables(bytes: Uint8Array<ArrayBuffer>): SmallImage {
  const view = new DataView(bytes.buffer);
  const l1 = Number(view.getBigUint64(FIELD.l1Offset));
  const refcountTable = Number(view.getBigUint64(FIELD.refcountTableOffset));
  return {
    ...{ bytes, view, l1, refcountTable },
    l2: Number(view.getBigUint64(l1) & 0x00ff_ffff_ffff_fe00n),
    refcountBlock: Number(view.getBigUint64(refcountTable)),
  };
}

/** Puts one header extension right behind the header, in place of all that were there. */
export function setExtension({ bytes, view }: SmallImage, type: number, length: number, data: Uint8Array): void {
  const at = view.getUint32(FIELD.headerLength);
  bytes.fill(0, at, CLUSTER_SIZE);
  view.setUint32(at, type);
  view.setUint32(at + 4, length);
  bytes.set(data, at + 8);
}
