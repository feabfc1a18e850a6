/**
 * What `info` says of an image: as the object that `--output=json` prints, and as text for people, with QEMU's names.
 */
import type { LuksVolume } from '../../crypto/luks-volume.js';
import { SECTOR_BYTES } from '../../format/limits.js';
import { STRIPES } from '../../format/luks-header.js';
import { readVolume } from '../../image/unlock-image.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { imageInfo, type EncryptionInfo } from '../../operations/image-info.js';
import { listBitmaps } from '../../operations/bitmaps/bitmaps.js';
import type { SnapshotInfo } from '../../operations/snapshots/snapshot-info.js';
import type { BlockNode } from '../graph/block-node.js';
import { volumeOf } from '../graph/luks-driver.js';
import { fullBackingName } from '../text/file-name.js';
import { isArray, orderedMembers, type JsonObject, type JsonValue } from '../text/json-text.js';
import { CliError } from '../text/messages.js';
import { humanSize } from '../text/sizes.js';
import { snapshotTable } from './snapshot-table.js';

export interface ImageReport {
  readonly fileName: string;
  readonly format: string;
  readonly virtualSize: number;
  readonly allocatedBytes: number | null;
  /** Null where the format keeps none. */
  readonly dirty: boolean | null;
  /** Of a qcow2 image. */
  readonly qcow2: Qcow2Report | null;
  /** What the format itself has to say. */
  readonly specific: JsonObject | null;
  readonly encrypted: boolean;
}

interface Qcow2Report {
  readonly clusterSize: number;
  readonly backing: { readonly name: string; readonly full: string | null; readonly format: string | null } | null;
  readonly snapshots: readonly SnapshotInfo[];
}

export function reportOn(node: BlockNode): ImageReport {
  const { fileName, driver: format, size: virtualSize, allocatedBytes, image } = node;
  const common = { fileName, format, virtualSize, allocatedBytes };
  if (image === null) {
    const dirty = format === 'raw' || format === 'luks' ? false : null;
    const specific = format === 'luks' && node.file !== null ? luksReport(volumeOf(node.file.storage)) : null;
    return { ...common, dirty, qcow2: null, specific, encrypted: format === 'luks' };
  }
  const { dirty, clusterSize, encryption, backingFile, snapshots } = imageInfo(image);
  const backing = backingFile && { ...backingFile, full: backingName(node, backingFile.name) };
  const qcow2 = { clusterSize, backing, snapshots };
  return { ...common, dirty, qcow2, specific: specificOf(image), encrypted: encryption !== null };
}

/** The backing file's name as seen from the folder of the image's file; null where that is not known. */
function backingName(node: BlockNode, name: string): string | null {
  let lowest = node;
  while (lowest.file !== null) lowest = lowest.file;
  try {
    return fullBackingName(lowest.fileName, name);
  } catch (error) {
    if (error instanceof CliError) return null;
    throw error;
  }
}

function specificOf(image: Qcow2Image): JsonObject {
  const info = imageInfo(image);
  const encrypt = info.encryption === null ? undefined : encryptionReport(image, info.encryption);
  const common = { 'compression-type': info.compressionType, 'refcount-bits': info.refcountBits, encrypt };
  if (info.version === 2) return { compat: '0.10', ...common };
  return {
    compat: '1.1',
    ...common,
    'lazy-refcounts': info.lazyRefcounts,
    corrupt: info.corrupt,
    'extended-l2': info.extendedL2,
    'data-file': info.dataFile?.name ?? undefined,
    'data-file-raw': info.dataFile?.raw,
    bitmaps: bitmapsOf(image),
  };
}

function bitmapsOf(image: Qcow2Image): JsonValue | undefined {
  const bitmaps = listBitmaps(image);
  if (bitmaps.length === 0) return undefined;
  return bitmaps.map(({ name, granularity, enabled, state }) => ({
    name,
    granularity,
    flags: [...(state === 'inconsistent' ? ['in-use'] : []), ...(enabled ? ['auto'] : [])],
  }));
}

function encryptionReport(image: Qcow2Image, { format }: EncryptionInfo): JsonObject {
  if (format === 'aes') return { format };
  return { format, ...luksReport(readVolume(image.storage, image.header)) };
}

function luksReport({ header, cipher, hash }: LuksVolume): JsonObject {
  return {
    'cipher-alg': cipher.cipher,
    'cipher-mode': cipher.mode,
    'ivgen-alg': cipher.iv,
    'ivgen-hash-alg': cipher.iv === 'essiv' ? cipher.ivHash : undefined,
    'hash-alg': hash,
    'payload-offset': header.payloadSector * SECTOR_BYTES,
    'master-key-iters': header.keyDigestIterations,
    uuid: header.uuid,
    slots: header.slots.map(({ active, iterations, materialSector }) => ({
      active,
      iters: active ? iterations : undefined,
      stripes: active ? STRIPES : undefined,
      'key-offset': materialSector * SECTOR_BYTES,
    })),
  };
}

/** As `--output=json` has it. */
export function reportObject(report: ImageReport): JsonObject {
  const { fileName, format, virtualSize, allocatedBytes, dirty, qcow2, specific, encrypted } = report;
  const backing = qcow2?.backing;
  const snapshots = qcow2?.snapshots ?? [];
  return {
    filename: fileName,
    format,
    'virtual-size': virtualSize,
    'actual-size': allocatedBytes ?? undefined,
    'dirty-flag': dirty ?? undefined,
    'cluster-size': qcow2?.clusterSize,
    encrypted: encrypted ? true : undefined,
    'backing-filename': backing?.name,
    'full-backing-filename': backing?.full ?? undefined,
    'backing-filename-format': backing?.format ?? undefined,
    snapshots: snapshots.length === 0 ? undefined : snapshots.map(snapshotObject),
    'format-specific': specific === null ? undefined : { type: format, data: specific },
  };
}

const NANOSECONDS = 1_000_000_000n;

function snapshotObject({ id, name, date, vmClock, vmStateBytes, instructionCount }: SnapshotInfo): JsonObject {
  return {
    id,
    name,
    'vm-state-size': vmStateBytes,
    'date-sec': date.seconds,
    'date-nsec': date.nanoseconds,
    'vm-clock-sec': vmClock / NANOSECONDS,
    'vm-clock-nsec': vmClock % NANOSECONDS,
    icount: instructionCount ?? undefined,
  };
}

/** For people. */
export function reportText(report: ImageReport): string {
  const { fileName, format, virtualSize, allocatedBytes, dirty, qcow2, specific, encrypted } = report;
  const lines = [
    `image: ${fileName}\n`,
    `file format: ${format}\n`,
    `virtual size: ${humanSize(virtualSize)} (${virtualSize} bytes)\n`,
    `disk size: ${allocatedBytes === null ? 'unavailable' : humanSize(allocatedBytes)}\n`,
  ];
  if (encrypted) lines.push('encrypted: yes\n');
  if (qcow2 !== null) lines.push(`cluster_size: ${qcow2.clusterSize}\n`);
  if (dirty === true) lines.push('cleanly shut down: no\n');
  if (qcow2?.backing != null) lines.push(backingText(qcow2.backing));
  if (qcow2 !== null && qcow2.snapshots.length > 0) lines.push(snapshotTable(qcow2.snapshots));
  if (specific !== null) lines.push('Format specific information:\n', membersText(specific, 1));
  return lines.join('');
}

function backingText({ name, full, format }: NonNullable<Qcow2Report['backing']>): string {
  const where = full === null ? ' (cannot determine actual path)' : full === name ? '' : ` (actual path: ${full})`;
  return `backing file: ${name}${where}\n${format === null ? '' : `backing file format: ${format}\n`}`;
}

function membersText(object: JsonObject, indent: number): string {
  return orderedMembers(object)
    .map(([key, value]) => entryText(key.replaceAll('-', ' '), value, indent))
    .join('');
}

function entryText(name: string, value: JsonValue, indent: number): string {
  const start = `${'    '.repeat(indent)}${name}:`;
  if (value === null || typeof value !== 'object') return `${start} ${value}\n`;
  if (isArray(value)) {
    return `${start}\n${value.map((item, index) => entryText(`[${index}]`, item, indent + 1)).join('')}`;
  }
  return `${start}\n${membersText(value as JsonObject, indent + 1)}`;
}
