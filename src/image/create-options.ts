/**
 * What an image can be created with, and which of it goes together. The rules are QEMU 7.2's (`qemu-img create`).
 */
import { Qcow2Error } from '../errors.js';
import { geometryOf, type Geometry } from '../format/geometry.js';
import {
  MAX_BACKING_NAME_BYTES,
  MAX_CLUSTER_BITS,
  MAX_L1_BYTES,
  MIN_CLUSTER_BITS,
  MIN_EXTENDED_L2_CLUSTER_BITS,
  SECTOR_BYTES,
} from '../format/limits.js';
import type { Storage } from '../storage/storage.js';
import { isPowerOfTwo } from '../util/integers.js';
import { PREALLOCATIONS, type Preallocation } from './preallocate.js';
import type { NewEncryption } from './unlock-image.js';

export const COMPRESSION_TYPES = ['zlib', 'zstd'] as const;
export type CompressionType = (typeof COMPRESSION_TYPES)[number];

export interface NewDataFile {
  /** Recorded in the image, for whoever opens it. */
  readonly name: string;
  /** The file itself: emptied, and not closed. */
  readonly storage: Storage;
  /** It must at all times read as the disk does. Default false. */
  readonly raw?: boolean;
}

export interface CreateOptions {
  /** Bytes of the disk, a multiple of 512. */
  readonly size: number;
  /** Bytes, a power of two from 512 to 2 MiB. Default 65536. */
  readonly clusterSize?: number;
  /** Default 3. All options below but `backing` and `preallocation` need it. */
  readonly version?: 2 | 3;
  /** Default 16, which is the only width of version 2. */
  readonly refcountBits?: 1 | 2 | 4 | 8 | 16 | 32 | 64;
  /** Default false. */
  readonly lazyRefcounts?: boolean;
  /** Subclusters. Clusters have at least 16 KiB then. Default false. */
  readonly extendedL2?: boolean;
  /** Of compressed clusters. Default `zlib`. */
  readonly compressionType?: CompressionType;
  readonly backing?: { readonly name: string; readonly format: 'qcow2' | 'raw' };
  /** Keeps guest data apart from the metadata. Not with a backing file if it is to be raw. */
  readonly dataFile?: NewDataFile;
  /** Made by `newEncryption`, for this image alone; `opened` of it opens the image then. */
  readonly encryption?: NewEncryption | undefined;
  /** Not with a backing file, but for extended L2 entries. A raw data file always gets `metadata`. Default `off`. */
  readonly preallocation?: Preallocation;
}

/** The geometry of an image with `options`. Throws `BAD_ARGUMENT` for options out of range or against each other. */
export function checkCreateOptions(options: CreateOptions): Geometry {
  const { size, clusterSize = 65536, refcountBits = 16, extendedL2 = false } = options;
  if (!Number.isSafeInteger(size) || size < 0 || size % SECTOR_BYTES !== 0) {
    refuse(`size is ${size}; it must be a multiple of ${SECTOR_BYTES}, 0 or more`);
  }
  if (!isPowerOfTwo(clusterSize) || clusterSize < 2 ** MIN_CLUSTER_BITS || clusterSize > 2 ** MAX_CLUSTER_BITS) {
    refuse(`clusterSize is ${clusterSize}; it must be a power of two from 512 to ${2 ** MAX_CLUSTER_BITS}`);
  }
  if (!isPowerOfTwo(refcountBits) || refcountBits > 64) {
    refuse(`refcountBits is ${refcountBits}; it must be 1, 2, 4, 8, 16, 32 or 64`);
  }
  if (extendedL2 && clusterSize < 2 ** MIN_EXTENDED_L2_CLUSTER_BITS) {
    const limit = `extendedL2 needs at least ${2 ** MIN_EXTENDED_L2_CLUSTER_BITS}`;
    refuse(`clusterSize is ${clusterSize}; ${limit}`);
  }
  checkVersion(options);
  checkFiles(options);
  const geometry = geometryOf(Math.log2(clusterSize), Math.log2(refcountBits), extendedL2);
  const most = (MAX_L1_BYTES / 8) * geometry.l2Coverage;
  if (size > most) refuse(`size is ${size}; with clusters of ${clusterSize} bytes it must be at most ${most}`);
  return geometry;
}

function checkVersion(options: CreateOptions): void {
  const { version = 3, refcountBits = 16, compressionType = 'zlib' } = options;
  if (version !== 2 && version !== 3) refuse(`version is ${String(version)}; it must be 2 or 3`);
  if (!COMPRESSION_TYPES.includes(compressionType)) {
    refuse(`compressionType is ${String(compressionType)}; it must be ${COMPRESSION_TYPES.join(' or ')}`);
  }
  if (version === 3) return;
  if (refcountBits !== 16) refuse(`refcountBits is ${refcountBits}; version 2 has 16 only`);
  if (options.lazyRefcounts === true) refuse('lazyRefcounts needs version 3');
  if (options.extendedL2 === true) refuse('extendedL2 needs version 3');
  if (options.dataFile !== undefined) refuse('dataFile needs version 3');
  if (compressionType !== 'zlib') refuse(`compressionType is ${compressionType}; version 2 has zlib only`);
}

function checkFiles(options: CreateOptions): void {
  const { backing, dataFile, preallocation = 'off', extendedL2 = false } = options;
  if (!PREALLOCATIONS.includes(preallocation)) {
    refuse(`preallocation is ${String(preallocation)}; it must be one of ${PREALLOCATIONS.join(', ')}`);
  }
  if (backing !== undefined) {
    checkName('backing.name', backing.name);
    if (backing.format !== 'qcow2' && backing.format !== 'raw') {
      refuse(`backing.format is ${JSON.stringify(backing.format)}; it must be qcow2 or raw`);
    }
    if (preallocation !== 'off' && !extendedL2) {
      refuse(`preallocation is ${preallocation}; over a backing file it needs extendedL2`);
    }
    if (dataFile?.raw === true) refuse('a raw data file and a backing file cannot be used at the same time');
  }
  if (dataFile !== undefined) checkName('dataFile.name', dataFile.name);
  checkEncryption(options.encryption);
}

/** What `newEncryption` makes: settings, or a promise, would otherwise be taken for legacy AES, which has no area. */
function checkEncryption(encryption: NewEncryption | undefined): void {
  if (encryption === undefined) return;
  const { opened, area } = encryption ?? {};
  if (opened?.format === 'luks' ? area instanceof Uint8Array : opened?.format === 'aes' && area === null) return;
  refuse('encryption is nothing that newEncryption() has made; await what it returns, and give that');
}

function checkName(field: string, name: string): void {
  const bytes = new TextEncoder().encode(name).length;
  if (bytes > 0 && bytes <= MAX_BACKING_NAME_BYTES) return;
  refuse(`${field} has ${bytes} bytes; it must have 1 to ${MAX_BACKING_NAME_BYTES}`);
}

function refuse(message: string): never {
  throw new Qcow2Error('BAD_ARGUMENT', message);
}
