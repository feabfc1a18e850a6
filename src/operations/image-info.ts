/**
 * Image info: what an image says of itself, as data. The same facts as `qemu-img info --output=json`, but for two that are
 * not the image's: its name, and how many bytes its host has really allocated.
 */
import {
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DIRTY,
  INCOMPATIBLE_EXTENDED_L2,
  COMPATIBLE_LAZY_REFCOUNTS,
} from '../format/features.js';
import { hasDataFile, isDataFileRaw, type BackingFileName } from '../format/header.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import { listSnapshots } from './snapshots/list-snapshots.js';
import type { SnapshotInfo } from './snapshots/snapshot-info.js';

export interface ImageInfo {
  /** Bytes of the disk. */
  readonly virtualSize: number;
  /** Bytes of the image file; its host may have allocated fewer. */
  readonly fileSize: number;
  readonly clusterSize: number;
  readonly version: 2 | 3;
  readonly compressionType: 'zlib' | 'zstd';
  readonly lazyRefcounts: boolean;
  readonly refcountBits: number;
  readonly extendedL2: boolean;
  /** Its refcounts may be behind; it is repaired when opened for writing. */
  readonly dirty: boolean;
  readonly corrupt: boolean;
  readonly backingFile: BackingFileName | null;
  /** `raw`: the data file always reads as the disk does. `name` is null where the image does not record it. */
  readonly dataFile: { readonly name: string | null; readonly raw: boolean } | null;
  readonly snapshots: readonly SnapshotInfo[];
}

/** Reads the snapshot table; all else is known. Throws `BAD_IMAGE` or `LIMIT` when that table is damaged. */
export function imageInfo(image: Qcow2Image): ImageInfo {
  const { header } = image;
  const has = (bits: bigint, bit: bigint): boolean => (bits & bit) !== 0n;
  return {
    virtualSize: header.size,
    fileSize: image.storage.size,
    clusterSize: image.clusterSize,
    version: header.version,
    compressionType: header.compressionType === 0 ? 'zlib' : 'zstd',
    lazyRefcounts: has(header.compatible, COMPATIBLE_LAZY_REFCOUNTS),
    refcountBits: image.refcountBits,
    extendedL2: has(header.incompatible, INCOMPATIBLE_EXTENDED_L2),
    dirty: has(header.incompatible, INCOMPATIBLE_DIRTY),
    corrupt: has(header.incompatible, INCOMPATIBLE_CORRUPT),
    backingFile: header.backingFile,
    dataFile: hasDataFile(header) ? { name: header.dataFileName, raw: isDataFileRaw(header) } : null,
    snapshots: listSnapshots(image),
  };
}
