/**
 * Image info: what an image says of itself, as data. The same facts as `qemu-img info --output=json`, but for two that are
 * not the image's: its name, and how many bytes its host has really allocated.
 */
import { cipherOf, hashOf, type CipherSpec } from '../crypto/luks-cipher.js';
import { isQcow2Error } from '../errors.js';
import {
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DIRTY,
  INCOMPATIBLE_EXTENDED_L2,
  COMPATIBLE_LAZY_REFCOUNTS,
} from '../format/features.js';
import { hasDataFile, isDataFileRaw, type BackingFileName } from '../format/header.js';
import { SECTOR_BYTES } from '../format/limits.js';
import type { LuksHeader } from '../format/luks-header.js';
import { encryptionFormat } from '../image/image-encryption.js';
import { readLuksHeaderOf } from '../image/luks-header-of.js';
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
  /** Null for an image that is not encrypted. */
  readonly encryption: EncryptionInfo | null;
  readonly snapshots: readonly SnapshotInfo[];
}

/** What anybody can read of an encryption, without a passphrase. */
export type EncryptionInfo = { readonly format: 'aes' } | LuksInfo;

export type LuksInfo = LuksFacts & (({ readonly supported: true } & CipherSpec) | { readonly supported: false });

interface LuksFacts {
  readonly format: 'luks';
  /** As the header has it: `aes`, or one that is not supported. */
  readonly cipherName: string;
  /** As the header has it: `xts-plain64`, `cbc-essiv:sha256`, ... */
  readonly cipherMode: string;
  /** Bytes of the key: with XTS two of the cipher's. */
  readonly keyBytes: number;
  /** Of key derivation. */
  readonly hash: string;
  readonly uuid: string;
  readonly keyDigestIterations: number;
  readonly slots: readonly KeySlotInfo[];
}

export interface KeySlotInfo {
  readonly active: boolean;
  /** 0 where it is not active. */
  readonly iterations: number;
  /** Of its key material, in bytes from the start of the LUKS header. */
  readonly materialOffset: number;
}

/**
 * Reads the snapshot table and the LUKS header, no key material; all else is known. Throws `BAD_IMAGE`, `LIMIT`, `UNSUPPORTED` for what
 * is damaged; a cipher or hash that is not supported is told of, and damages nothing.
 */
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
    encryption: encryptionInfo(image),
    snapshots: listSnapshots(image),
  };
}

function encryptionInfo({ storage, header }: Qcow2Image): EncryptionInfo | null {
  const format = encryptionFormat(header);
  if (format !== 'luks') return format && { format };
  const luks = readLuksHeaderOf(storage, header);
  const { cipherName, cipherMode, keyBytes, hash, uuid, keyDigestIterations } = luks;
  const cipher = supportedCipher(luks);
  return {
    format,
    ...(cipher === null ? { supported: false } : { supported: true, ...cipher }),
    ...{ cipherName, cipherMode, keyBytes, hash, uuid, keyDigestIterations },
    slots: luks.slots.map(({ active, iterations, materialSector }) => ({
      active,
      iterations,
      materialOffset: materialSector * SECTOR_BYTES,
    })),
  };
}

/** Null where the cipher, its mode or the hash is not handled here. */
function supportedCipher(luks: LuksHeader): CipherSpec | null {
  try {
    hashOf(luks);
    return cipherOf(luks);
  } catch (error) {
    if (isQcow2Error(error, 'UNSUPPORTED')) return null;
    throw error;
  }
}
