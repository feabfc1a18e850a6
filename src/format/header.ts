/**
 * The header: the first bytes of the first cluster (spec, "Header"). Pure: bytes to a record and back.
 *
 *     0 magic            4 version         8 backing_file_offset (8)
 *    16 backing_size    20 cluster_bits   24 size (8)
 *    32 crypt_method    36 l1_size        40 l1_table_offset (8)
 *    48 refcount_table_offset (8)         56 refcount_table_clusters
 *    60 nb_snapshots    64 snapshots_offset (8)              72: end of version 2
 *    72 incompatible (8) 80 compatible (8) 88 autoclear (8)
 *    96 refcount_order 100 header_length 104 compression_type, unknown fields
 *
 * What is read here is checked against the limits of the format. Checks against the file's size come on use.
 */
import { Qcow2Error } from '../errors.js';
import { getUint64, setUint64, viewOf } from '../util/big-endian.js';
import { alignUp } from '../util/integers.js';
import {
  EXTENSION_BACKING_FORMAT,
  EXTENSION_DATA_FILE,
  decodeExtensions,
  encodeExtensions,
  findExtension,
  type HeaderExtension,
} from './header-extensions.js';
import { AUTOCLEAR_RAW_DATA_FILE, INCOMPATIBLE_DATA_FILE, INCOMPATIBLE_EXTENDED_L2 } from './features.js';
import { geometryOf, type Geometry } from './geometry.js';
import { checkHeader } from './header-checks.js';
import { MAX_BACKING_NAME_BYTES, MAX_CLUSTER_BITS, MIN_CLUSTER_BITS } from './limits.js';

export const MAGIC = 0x5146_49fb;
export const HEADER_BYTES_V2 = 72;
export const HEADER_BYTES_V3 = 104;
/** Offsets of the fields that are rewritten alone. Each group lies within one sector, so that it can't tear. */
export const HEADER_AT = {
  size: 24,
  l1Entries: 36,
  l1Offset: 40,
  refcountTableOffset: 48,
  refcountTableClusters: 56,
  snapshotCount: 60,
  snapshotsOffset: 64,
  incompatible: 72,
  autoclear: 88,
} as const;

export interface BackingFileName {
  readonly name: string;
  /** From the backing format extension; null where the image has none. */
  readonly format: string | null;
}

export interface Header {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  /** Bytes of the disk. */
  readonly size: number;
  readonly cryptMethod: number;
  readonly l1Entries: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly snapshotCount: number;
  readonly snapshotsOffset: number;
  readonly incompatible: bigint;
  readonly compatible: bigint;
  readonly autoclear: bigint;
  readonly refcountOrder: number;
  readonly headerLength: number;
  /** 0 zlib, 1 zstd. */
  readonly compressionType: number;
  /** The bytes from 104 to `headerLength`, kept when the header is rewritten. */
  readonly additionalFields: Uint8Array;
  readonly extensions: readonly HeaderExtension[];
  readonly backingFile: BackingFileName | null;
  /** The external data file's name, if the image has one and records it. */
  readonly dataFileName: string | null;
}

/** The sizes that follow from a checked header. */
export function geometryOfHeader(header: Header): Geometry {
  const extendedL2 = (header.incompatible & INCOMPATIBLE_EXTENDED_L2) !== 0n;
  return geometryOf(header.clusterBits, header.refcountOrder, extendedL2);
}

/** Whether guest data lies in a file of its own, where host offsets are guest offsets and nothing is counted. */
export function hasDataFile(header: Header): boolean {
  return (header.incompatible & INCOMPATIBLE_DATA_FILE) !== 0n;
}

/** Whether that file must at all times read as the disk does. */
export function isDataFileRaw(header: Header): boolean {
  return hasDataFile(header) && (header.autoclear & AUTOCLEAR_RAW_DATA_FILE) !== 0n;
}

/** Bytes that `decodeHeader` needs to find the cluster size. */
export const HEADER_PROBE_BYTES = HEADER_BYTES_V3;

/**
 * The bytes of the first cluster, judged from the first `HEADER_PROBE_BYTES` of a file of `fileSize` bytes.
 * Throws `NOT_QCOW2`, `UNSUPPORTED` or `BAD_IMAGE`.
 */
export function probeClusterSize(probe: Uint8Array, fileSize: number): number {
  const view = viewOf(probe);
  if (fileSize < 4 || view.getUint32(0) !== MAGIC) {
    throw new Qcow2Error('NOT_QCOW2', 'not a qcow2 image: the first four bytes are not "QFI\\xfb"');
  }
  const version = fileSize < 8 ? 0 : view.getUint32(4);
  const needed = version === 3 ? HEADER_BYTES_V3 : HEADER_BYTES_V2;
  if (fileSize < needed) {
    throw new Qcow2Error('BAD_IMAGE', `the header is cut short: the file has ${fileSize} bytes, it needs ${needed}`);
  }
  if (version !== 2 && version !== 3) {
    throw new Qcow2Error('UNSUPPORTED', `version is ${version}; versions 2 and 3 are supported`);
  }
  const clusterBits = view.getUint32(20);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
    const limits = `${MIN_CLUSTER_BITS} to ${MAX_CLUSTER_BITS}`;
    throw new Qcow2Error('BAD_IMAGE', `cluster_bits is ${clusterBits}; it must be ${limits}`);
  }
  return 2 ** clusterBits;
}

/** Decodes and checks the header in `cluster`, the whole first cluster (zeroes where the file ends before it). */
export function decodeHeader(cluster: Uint8Array): Header {
  const view = viewOf(cluster);
  const version = view.getUint32(4) as 2 | 3;
  const headerLength = version === 3 ? view.getUint32(100) : HEADER_BYTES_V2;
  if (headerLength < (version === 3 ? HEADER_BYTES_V3 : 0) || headerLength > cluster.length || headerLength % 8 !== 0) {
    const limits = `${HEADER_BYTES_V3} to ${cluster.length} (the cluster size), a multiple of 8`;
    throw new Qcow2Error('BAD_IMAGE', `header_length is ${headerLength}; it must be ${limits}`);
  }
  const backing = locateBackingName(view, cluster.length, headerLength);
  const extensions = decodeExtensions(cluster, headerLength, backing ? backing.start : cluster.length);
  const format = findExtension(extensions, EXTENSION_BACKING_FORMAT);
  const dataFile = findExtension(extensions, EXTENSION_DATA_FILE);
  const text = new TextDecoder();
  const header: Header = {
    version,
    clusterBits: view.getUint32(20),
    size: getUint64(view, 24, 'size'),
    cryptMethod: view.getUint32(32),
    l1Entries: view.getUint32(36),
    l1Offset: getUint64(view, 40, 'l1_table_offset'),
    refcountTableOffset: getUint64(view, 48, 'refcount_table_offset'),
    refcountTableClusters: view.getUint32(56),
    snapshotCount: view.getUint32(60),
    snapshotsOffset: getUint64(view, 64, 'snapshots_offset'),
    incompatible: version === 3 ? view.getBigUint64(72) : 0n,
    compatible: version === 3 ? view.getBigUint64(80) : 0n,
    autoclear: version === 3 ? view.getBigUint64(88) : 0n,
    refcountOrder: version === 3 ? view.getUint32(96) : 4,
    headerLength,
    compressionType: headerLength > 104 ? cluster[104]! : 0,
    additionalFields: cluster.slice(Math.min(HEADER_BYTES_V3, headerLength), headerLength),
    extensions,
    backingFile: backing && {
      name: text.decode(cluster.subarray(backing.start, backing.end)),
      format: format ? text.decode(format.data) : null,
    },
    dataFileName: dataFile ? text.decode(dataFile.data) : null,
  };
  checkHeader(header);
  return header;
}

function locateBackingName(view: DataView, clusterSize: number, headerLength: number) {
  const start = getUint64(view, 8, 'backing_file_offset');
  if (start === 0) return null;
  const length = view.getUint32(16);
  if (start < headerLength || start > clusterSize) {
    const limits = `${headerLength} (the header's end) to ${clusterSize} (the first cluster's end)`;
    throw new Qcow2Error('BAD_IMAGE', `backing_file_offset is ${start}; it must be ${limits}`);
  }
  const limit = Math.min(MAX_BACKING_NAME_BYTES, clusterSize - start);
  if (length > limit) {
    throw new Qcow2Error('BAD_IMAGE', `backing_file_size is ${length}; it must be at most ${limit}`);
  }
  return length === 0 ? null : { start, end: start + length };
}

/**
 * The header, its extensions and the backing file name, to be written at offset 0 of the image.
 * Throws `LIMIT` when they don't fit the first cluster.
 */
export function encodeHeader(header: Header): Uint8Array {
  const headerBytes =
    header.version === 2 ? HEADER_BYTES_V2 : HEADER_BYTES_V3 + alignUp(header.additionalFields.length, 8);
  const extensions = encodeExtensions(header.extensions);
  const name = new TextEncoder().encode(header.backingFile?.name ?? '');
  const total = headerBytes + extensions.length + name.length;
  if (name.length > MAX_BACKING_NAME_BYTES) {
    throw new Qcow2Error(
      'LIMIT',
      `the backing file name has ${name.length} bytes; the limit is ${MAX_BACKING_NAME_BYTES}`,
    );
  }
  if (total > 2 ** header.clusterBits) {
    throw new Qcow2Error('LIMIT', `the header needs ${total} bytes; the first cluster has ${2 ** header.clusterBits}`);
  }
  const bytes = new Uint8Array(total);
  const view = viewOf(bytes);
  view.setUint32(0, MAGIC);
  view.setUint32(4, header.version);
  setUint64(view, 8, name.length > 0 ? headerBytes + extensions.length : 0);
  view.setUint32(16, name.length);
  view.setUint32(20, header.clusterBits);
  setUint64(view, 24, header.size);
  view.setUint32(32, header.cryptMethod);
  view.setUint32(36, header.l1Entries);
  setUint64(view, 40, header.l1Offset);
  setUint64(view, 48, header.refcountTableOffset);
  view.setUint32(56, header.refcountTableClusters);
  view.setUint32(60, header.snapshotCount);
  setUint64(view, 64, header.snapshotsOffset);
  if (header.version === 3) {
    view.setBigUint64(72, header.incompatible);
    view.setBigUint64(80, header.compatible);
    view.setBigUint64(88, header.autoclear);
    view.setUint32(96, header.refcountOrder);
    view.setUint32(100, headerBytes);
    bytes.set(header.additionalFields, HEADER_BYTES_V3);
  }
  bytes.set(extensions, headerBytes);
  bytes.set(name, headerBytes + extensions.length);
  return bytes;
}
