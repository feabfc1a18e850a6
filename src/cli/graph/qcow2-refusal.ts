/**
 * Why QEMU would not open a qcow2 image, in its words and in its order of looking. Asked for when the engine has refused one: it is
 * as strict, and says more, but scripts and QEMU's test suite know these messages.
 */
import { decodeFeatureNames } from '../../format/features.js';
import type { BadSnapshotL1 } from '../../format/snapshot-table.js';
import type { Storage } from '../../storage/storage.js';
import { viewOf } from '../../util/big-endian.js';
import { alignUp } from '../../util/integers.js';
import type { Errno } from '../text/errno.js';
import { CliError } from '../text/messages.js';

/** Offsets of the header's fields (spec, "Header"). */
const FIELD = {
  version: 4,
  backingOffset: 8,
  backingSize: 16,
  clusterBits: 20,
  size: 24,
  l1Entries: 36,
  l1Offset: 40,
  refcountTableOffset: 48,
  refcountTableClusters: 56,
  snapshotCount: 60,
  snapshotsOffset: 64,
  incompatible: 72,
  refcountOrder: 96,
  headerLength: 100,
  compressionType: 104,
} as const;

const MAGIC = 0x5146_49fb;
const EXTENSION_FEATURE_NAMES = 0x6803_f857;
const EXTENSION_BACKING_FORMAT = 0xe279_2aca;
const MAX_REFCOUNT_TABLE_BYTES = 8n << 20n;
const MAX_L1_BYTES = 32n << 20n;
const MAX_SNAPSHOTS = 65536n;
const SNAPSHOT_HEADER_BYTES = 40n;
const MAX_SNAPSHOT_TABLE_BYTES = 64 << 20;
const MAX_SNAPSHOT_EXTRA = 1024;
const MAX_INT64 = 2n ** 63n - 1n;
const MAX_INT = 2n ** 31n - 1n;
const KNOWN_INCOMPATIBLE = 0x1fn;
const CORRUPT_BIT = 2n;
const COMPRESSION_BIT = 8n;
const EXTENDED_L2_BIT = 16n;

type Verdict = CliError | null;

function refused(message: string, options: { readonly hint?: string; readonly errno?: Errno } = {}): CliError {
  return new CliError(message, options);
}

/** The header's fields as they stand. */
class RawHeader {
  readonly storage: Storage;
  readonly #view: DataView;

  constructor(storage: Storage) {
    const bytes = new Uint8Array(112);
    storage.read(0, bytes);
    this.storage = storage;
    this.#view = viewOf(bytes);
  }

  small(offset: number): number {
    return this.#view.getUint32(offset);
  }

  large(offset: number): bigint {
    return this.#view.getBigUint64(offset);
  }

  get version(): number {
    return this.small(FIELD.version);
  }

  get headerLength(): number {
    return this.version === 2 ? 72 : this.small(FIELD.headerLength);
  }

  get incompatible(): bigint {
    return this.version === 2 ? 0n : this.large(FIELD.incompatible);
  }

  get clusterSize(): bigint {
    return 1n << BigInt(this.small(FIELD.clusterBits));
  }

  get compressionType(): number {
    return this.headerLength > FIELD.compressionType ? this.small(FIELD.compressionType) >>> 24 : 0;
  }

  /** Where the extensions end at the latest. */
  get extensionsEnd(): bigint {
    return this.large(FIELD.backingOffset) || this.clusterSize;
  }
}

/** QEMU's message; null where it finds nothing wrong with the header. */
export function refusalOf(storage: Storage, mode: { readonly writable: boolean }): Verdict {
  const header = new RawHeader(storage);
  return (
    checkBasics(header) ??
    checkFeatures(header, mode.writable) ??
    checkTables(header) ??
    extensionsOf(header, null) ??
    checkBackingName(header) ??
    checkSnapshots(header)
  );
}

function checkBasics(header: RawHeader): Verdict {
  if (header.small(0) !== MAGIC) return refused('Image is not in qcow2 format');
  const { version } = header;
  if (version < 2 || version > 3) return refused(`Unsupported qcow2 version ${version}`);
  const clusterBits = header.small(FIELD.clusterBits);
  if (clusterBits < 9 || clusterBits > 21) return refused(`Unsupported cluster size: 2^${clusterBits}`);
  if (header.headerLength < 72 || (version === 3 && header.headerLength < 104))
    return refused('qcow2 header too short');
  if (BigInt(header.headerLength) > header.clusterSize) return refused('qcow2 header exceeds cluster size');
  return header.large(FIELD.backingOffset) > header.clusterSize ? refused('Invalid backing file offset') : null;
}

function checkFeatures(header: RawHeader, writable: boolean): Verdict {
  const { compressionType, incompatible } = header;
  if (compressionType > 1) return refused(`qcow2: unknown compression type: ${compressionType}`);
  const marked = (incompatible & COMPRESSION_BIT) !== 0n;
  if (marked !== (compressionType !== 0)) {
    return refused(`qcow2: Compression type incompatible feature bit must ${marked ? 'not ' : ''}be set`);
  }
  const unknown = incompatible & ~KNOWN_INCOMPATIBLE;
  if (unknown !== 0n) return refused(`Unsupported qcow2 feature(s): ${namesOf(header, unknown)}`);
  if ((incompatible & CORRUPT_BIT) !== 0n && writable) {
    return refused('qcow2: Image is corrupt; cannot be opened read/write');
  }
  const subcluster = header.clusterSize / ((incompatible & EXTENDED_L2_BIT) === 0n ? 1n : 32n);
  if (subcluster < 512n) return refused(`Unsupported subcluster size: ${subcluster}`);
  if (header.version === 3 && header.small(FIELD.refcountOrder) > 6) {
    return refused('Reference count entry width too large; may not exceed 64 bits');
  }
  return null;
}

/** Bytes of a name with its kind and bit. */
const FEATURE_NAME_BYTES = 48;

function filledUp(table: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(alignUp(table.length, FEATURE_NAME_BYTES));
  bytes.set(table);
  return bytes;
}

/** The names that the image has for its features, and the numbers of those without. */
function namesOf(header: RawHeader, unknown: bigint): string {
  const tables: Uint8Array[] = [];
  extensionsOf(header, (type, data) => {
    // As in QEMU, the last name need not be filled up.
    if (type === EXTENSION_FEATURE_NAMES) tables.push(filledUp(data));
  });
  const names: string[] = [];
  let left = unknown;
  for (const { kind, bit, name } of tables.flatMap((table) => decodeFeatureNames(table))) {
    const mask = 1n << BigInt(bit);
    if (kind !== 'incompatible' || (left & mask) === 0n) continue;
    names.push(name);
    left &= ~mask;
  }
  if (left !== 0n) names.push(`Unknown incompatible feature: ${left.toString(16)}`);
  return names.join(', ');
}

/** What QEMU has against the snapshot table of an image whose header is good otherwise; null for nothing. */
export function snapshotsRefusalOf(storage: Storage): Verdict {
  const header = new RawHeader(storage);
  return checkSnapshotTable(header) ?? checkSnapshots(header);
}

/** What QEMU says where the L1 table of a snapshot is to be used and can't be. */
export function snapshotL1Refusal(cause: BadSnapshotL1): CliError {
  if (cause.flaw === 'size') return new CliError('Snapshot L1 table too large', { errno: 'EFBIG', cause });
  return new CliError('Snapshot L1 table offset invalid', { errno: 'EINVAL', cause });
}

interface TablePlace {
  readonly offset: bigint;
  readonly entries: bigint;
  /** Bytes of an entry, and of all at most. */
  readonly entry: bigint;
  readonly most: bigint;
}

function checkTable(name: string, { offset, entries, entry, most }: TablePlace, clusterSize: bigint): Verdict {
  if (entries > most / entry) return refused(`${name} too large`, { errno: 'EFBIG' });
  const bad = MAX_INT64 - entries * entry < offset || offset % clusterSize !== 0n;
  return bad ? refused(`${name} offset invalid`) : null;
}

function checkTables(header: RawHeader): Verdict {
  const { clusterSize } = header;
  const refcountClusters = BigInt(header.small(FIELD.refcountTableClusters));
  if (refcountClusters === 0n) return refused('Image does not contain a reference count table');
  const refcounts = {
    offset: header.large(FIELD.refcountTableOffset),
    entries: refcountClusters,
    entry: clusterSize,
    most: MAX_REFCOUNT_TABLE_BYTES,
  };
  const entries = BigInt(header.small(FIELD.l1Entries));
  const l1 = { offset: header.large(FIELD.l1Offset), entries, entry: 8n, most: MAX_L1_BYTES };
  return (
    checkTable('Reference count table', refcounts, clusterSize) ??
    checkSnapshotTable(header) ??
    checkTable('Active L1 table', l1, clusterSize) ??
    checkSize(header, entries)
  );
}

function checkSnapshotTable(header: RawHeader): Verdict {
  const place = {
    offset: header.large(FIELD.snapshotsOffset),
    entries: BigInt(header.small(FIELD.snapshotCount)),
    entry: SNAPSHOT_HEADER_BYTES,
    most: SNAPSHOT_HEADER_BYTES * MAX_SNAPSHOTS,
  };
  return checkTable('Snapshot table', place, header.clusterSize);
}

function checkSize(header: RawHeader, l1Entries: bigint): Verdict {
  const { clusterSize } = header;
  const entry = (header.incompatible & EXTENDED_L2_BIT) === 0n ? 8n : 16n;
  const coverage = (clusterSize / entry) * clusterSize;
  const needed = (header.large(FIELD.size) + coverage - 1n) / coverage;
  if (needed > MAX_INT) return refused('Image is too big');
  return l1Entries < needed ? refused('L1 table is too small') : null;
}

/** Goes through the extensions; the first thing that is wrong with them. */
function extensionsOf(header: RawHeader, visit: ((type: number, data: Uint8Array) => void) | null): Verdict {
  const end = Number(header.extensionsEnd);
  let at = header.headerLength;
  while (at < end) {
    const head = new Uint8Array(8);
    header.storage.read(at, head);
    const type = viewOf(head).getUint32(0);
    const length = viewOf(head).getUint32(4);
    at += 8;
    if (at > end || length > end - at) return refused('Header extension too large');
    if (type === 0) return null;
    if (type === EXTENSION_BACKING_FORMAT && length >= 16) {
      return refused(`ERROR: ext_backing_format: len=${length} too large (>=16)`);
    }
    const data = new Uint8Array(length);
    header.storage.read(at, data);
    visit?.(type, data);
    at += (length + 7) & ~7;
  }
  return null;
}

function checkBackingName(header: RawHeader): Verdict {
  const offset = header.large(FIELD.backingOffset);
  if (offset === 0n) return null;
  const room = header.clusterSize - offset;
  const length = BigInt(header.small(FIELD.backingSize));
  return length > (room < 1023n ? room : 1023n) ? refused('Backing file name too long') : null;
}

function checkSnapshots(header: RawHeader): Verdict {
  const count = header.small(FIELD.snapshotCount);
  const start = Number(header.large(FIELD.snapshotsOffset));
  let at = start;
  for (let index = 0; index < count; index++) {
    at = alignUp(at, 8);
    // Zeroes from here on: entries that have nothing.
    if (at >= header.storage.size) return null;
    const head = new Uint8Array(40);
    header.storage.read(at, head);
    const view = viewOf(head);
    const extra = view.getUint32(36);
    if (extra > MAX_SNAPSHOT_EXTRA) {
      const hint = 'You can force-remove this extra metadata with qemu-img check -r all\n';
      return refused(`Too much extra metadata in snapshot table entry ${index}`, { hint, errno: 'EFBIG' });
    }
    at += 40 + extra + view.getUint16(12) + view.getUint16(14);
    if (at - start > MAX_SNAPSHOT_TABLE_BYTES) {
      const hint = `You can force-remove all ${count - index} overhanging snapshots with qemu-img check -r all\n`;
      return refused('Snapshot table is too big', { hint, errno: 'EFBIG' });
    }
  }
  return null;
}
