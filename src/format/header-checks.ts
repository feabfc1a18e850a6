/**
 * What a header must fulfil before anything else of the image is looked at (DESIGN: "no byte of an image is trusted").
 * Each message names the field, its value and the limit.
 */
import { Qcow2Error } from '../errors.js';
import { hex, isAligned } from '../util/integers.js';
import {
  INCOMPATIBLE_COMPRESSION_TYPE,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DATA_FILE,
  INCOMPATIBLE_DIRTY,
  INCOMPATIBLE_EXTENDED_L2,
  KNOWN_FEATURES,
  decodeFeatureNames,
  describeBits,
} from './features.js';
import { geometryOf, l1EntriesFor } from './geometry.js';
import type { Header } from './header.js';
import { decodeCryptoExtension } from './crypto-extension.js';
import { EXTENSION_ENCRYPTION, EXTENSION_FEATURE_NAMES, findExtension } from './header-extensions.js';
import {
  MAX_L1_BYTES,
  MAX_REFCOUNT_ORDER,
  MAX_REFCOUNT_TABLE_BYTES,
  MAX_SNAPSHOTS,
  MIN_EXTENDED_L2_CLUSTER_BITS,
} from './limits.js';

const UNDERSTOOD =
  INCOMPATIBLE_DIRTY |
  INCOMPATIBLE_CORRUPT |
  INCOMPATIBLE_DATA_FILE |
  INCOMPATIBLE_COMPRESSION_TYPE |
  INCOMPATIBLE_EXTENDED_L2;
/** crypt_method. */
export const CRYPT_NONE = 0;
export const CRYPT_AES = 1;
export const CRYPT_LUKS = 2;
/** compression_type: zlib and zstd. */
const MAX_COMPRESSION_TYPE = 1;

/**
 * Throws `BAD_IMAGE`, or `UNSUPPORTED` for what is well formed but not handled. The snapshot table is not looked at: an image
 * is open to be read, and to be checked, however damaged that is (`checkSnapshotTable`).
 */
export function checkHeader(header: Header): void {
  checkFeatures(header);
  if (header.refcountOrder > MAX_REFCOUNT_ORDER) {
    refuse(`refcount_order is ${header.refcountOrder}; it must be at most ${MAX_REFCOUNT_ORDER} (64 bits)`);
  }
  checkEncryption(header);
  checkTables(header);
}

function checkFeatures(header: Header): void {
  const unknown = header.incompatible & ~UNDERSTOOD;
  if (unknown !== 0n) {
    const table = findExtension(header.extensions, EXTENSION_FEATURE_NAMES);
    const named = table ? decodeFeatureNames(table.data) : [];
    const words = describeBits(unknown, 'incompatible', [...KNOWN_FEATURES, ...named]);
    throw new Qcow2Error('UNSUPPORTED', `incompatible_features has ${words} set, which are unknown`);
  }
  checkCompressionType(header);
}

function checkEncryption({ cryptMethod, extensions, clusterBits }: Header): void {
  if (cryptMethod > CRYPT_LUKS) {
    refuse(`crypt_method is ${cryptMethod}; it must be 0 (none), ${CRYPT_AES} (AES) or ${CRYPT_LUKS} (LUKS)`);
  }
  const extension = findExtension(extensions, EXTENSION_ENCRYPTION);
  if (cryptMethod === CRYPT_LUKS) {
    if (extension === undefined)
      refuse(`crypt_method is ${CRYPT_LUKS} (LUKS), and the encryption extension is missing`);
    else decodeCryptoExtension(extension.data, 2 ** clusterBits);
  } else if (extension !== undefined) {
    refuse(`crypt_method is ${cryptMethod}, and there is an encryption extension; only LUKS (${CRYPT_LUKS}) has one`);
  }
}

/** The bit says that the type is not zlib, so that older software keeps off. */
function checkCompressionType({ compressionType, incompatible }: Header): void {
  const marked = (incompatible & INCOMPATIBLE_COMPRESSION_TYPE) !== 0n;
  if (!marked && compressionType !== 0) {
    refuse(`compression_type is ${compressionType} without its incompatible feature bit; it must be 0`);
  }
  if (marked && compressionType === 0) {
    refuse('compression_type is 0 with its incompatible feature bit; it must be 1 (zstd)');
  }
  if (compressionType > MAX_COMPRESSION_TYPE) {
    const limit = `it must be at most ${MAX_COMPRESSION_TYPE} (zstd)`;
    throw new Qcow2Error('UNSUPPORTED', `compression_type is ${compressionType}; ${limit}`);
  }
}

function checkTables(header: Header): void {
  const extendedL2 = (header.incompatible & INCOMPATIBLE_EXTENDED_L2) !== 0n;
  if (extendedL2 && header.clusterBits < MIN_EXTENDED_L2_CLUSTER_BITS) {
    const limit = `extended L2 entries need at least ${MIN_EXTENDED_L2_CLUSTER_BITS}`;
    refuse(`cluster_bits is ${header.clusterBits}; ${limit}`);
  }
  const geometry = geometryOf(header.clusterBits, header.refcountOrder, extendedL2);
  const { clusterSize } = geometry;
  const maxTableClusters = MAX_REFCOUNT_TABLE_BYTES / clusterSize;
  const tableClusters = header.refcountTableClusters;
  if (tableClusters === 0 || tableClusters > maxTableClusters) {
    refuse(`refcount_table_clusters is ${tableClusters}; it must be 1 to ${maxTableClusters}`);
  }
  checkAligned('refcount_table_offset', header.refcountTableOffset, clusterSize);
  if (header.refcountTableOffset === 0) refuse('refcount_table_offset is 0; the header lies there');
  if (header.l1Entries > MAX_L1_BYTES / 8) {
    refuse(`l1_size is ${header.l1Entries}; it must be at most ${MAX_L1_BYTES / 8} entries (${MAX_L1_BYTES} bytes)`);
  }
  const needed = l1EntriesFor(geometry, header.size);
  if (needed > MAX_L1_BYTES / 8) {
    refuse(
      `size is ${header.size}; with this cluster size it must be at most ${(MAX_L1_BYTES / 8) * geometry.l2Coverage}`,
    );
  }
  if (header.l1Entries < needed) {
    refuse(`l1_size is ${header.l1Entries}; a disk of ${header.size} bytes needs at least ${needed}`);
  }
  checkAligned('l1_table_offset', header.l1Offset, clusterSize);
  if (header.l1Entries > 0 && header.l1Offset === 0) refuse('l1_table_offset is 0; the header lies there');
}

/** Where the header says that the snapshot table is, for whoever will read or replace it. Throws `BAD_IMAGE`. */
export function checkSnapshotTable({ snapshotCount, snapshotsOffset, clusterBits }: Header): void {
  if (snapshotCount > MAX_SNAPSHOTS) refuse(`nb_snapshots is ${snapshotCount}; it must be at most ${MAX_SNAPSHOTS}`);
  checkAligned('snapshots_offset', snapshotsOffset, 2 ** clusterBits);
  if (snapshotCount > 0 && snapshotsOffset === 0) {
    refuse(`snapshots_offset is 0 with nb_snapshots ${snapshotCount}; the header lies there`);
  }
}

function checkAligned(field: string, offset: number, clusterSize: number): void {
  if (isAligned(offset, clusterSize)) return;
  refuse(`${field} is ${hex(offset)}; it must be a multiple of the cluster size, ${hex(clusterSize)}`);
}

function refuse(message: string): never {
  throw new Qcow2Error('BAD_IMAGE', message);
}
