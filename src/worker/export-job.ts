/**
 * What an export writes: the disk, flattened, with its snapshots or without them; the disk of one snapshot; the overlay alone; what is marked
 * in a bitmap; or the file as it is. What is written of an encrypted disk is encrypted, with the same key behind the same passphrases, unless
 * it is given an encryption of its own.
 *
 * What the disk of now is, a moment says (`operations/snapshots/export-moment.ts`): then, and for one snapshot, the disk may be written
 * between the steps, while its snapshots stay. Otherwise the image must not be changed.
 */
import type { Disk } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import { SECTOR_BYTES } from '../format/limits.js';
import { createImage, type CreateOptions } from '../image/create.js';
import { encryptionFormat } from '../image/image-encryption.js';
import { openImage } from '../image/open.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import type { NewEncryption } from '../image/unlock-image.js';
import { exportIncremental, type IncrementToken } from '../operations/bitmaps/export-incremental.js';
import type { NewBackingFile } from '../operations/change-backing.js';
import { copiedEncryption } from '../operations/copy-encryption.js';
import { copyDisk } from '../operations/copy-disk.js';
import { copyOverlay, layoutForOverlay, recordedBacking } from '../operations/copy-overlay.js';
import { copiedSnapshots, copyWithSnapshots, layoutForCopy } from '../operations/snapshots/copy-with-snapshots.js';
import { isMoment, type ExportMoment } from '../operations/snapshots/export-moment.js';
import { openSnapshot, type SnapshotView } from '../operations/snapshots/open-snapshot.js';
import type { SnapshotKey } from '../operations/snapshots/snapshot-info.js';
import type { Storage } from '../storage/storage.js';
import { alignUp } from '../util/integers.js';
import type { Progress } from '../util/progress.js';
import { stepsOf, type Steps } from '../util/steps.js';
import { copyFile } from './copy-file.js';
import type { Compression, ExportContent } from './export-content.js';

export type ExportJob = Steps | IterableIterator<Progress, IncrementToken>;

export interface ExportInput {
  /** Of the copy, the caller's to wipe; not for `file`. */
  readonly encryption?: NewEncryption | undefined;
  /** What the disk of now is; null for the image, which nobody writes meanwhile. */
  readonly moment: ExportMoment | null;
}

/** Whether what is exported includes the disk of now, which a moment can hold. */
export function isOfNow(content: ExportContent): boolean {
  return content.of === 'disk' || (content.of === 'overlay' && content.key === undefined);
}

/** Whether a snapshot that is there anyway holds all that is exported. */
export function isOfSnapshot(content: ExportContent): boolean {
  return content.of === 'snapshot' || (content.of === 'overlay' && content.key !== undefined);
}

/** What can be said before a moment is taken. Throws `BAD_ARGUMENT`, and `KEY_NEEDED` as `copiedEncryption` does. */
export function checkExport(image: Qcow2Image, content: ExportContent, encryption?: NewEncryption): void {
  if (content.of === 'file' || content.of === 'increment') return;
  if (content.of === 'overlay' && content.backing === undefined) recordedBacking(image);
  const encrypted = encryptionFor(image, content, encryption) !== null;
  const { compress = false } = content;
  if (![true, false, 'deflate', 'zstd'].includes(compress)) {
    throw new Qcow2Error(
      'BAD_ARGUMENT',
      `compress is ${JSON.stringify(compress)}; it must be deflate, zstd or a boolean`,
    );
  }
  if (compress === false || !encrypted) return;
  throw new Qcow2Error(
    'BAD_ARGUMENT',
    'the copy is encrypted, and compressed clusters would not be; leave one of the two out',
  );
}

/**
 * Writes what is asked for to `file`, which is empty. An increment results in its token. Throws as `checkExport`, and `NOT_FOUND` for a
 * snapshot that there is none of.
 */
export function exportJob(image: Qcow2Image, file: Storage, content: ExportContent, input: ExportInput): ExportJob {
  const { encryption, moment } = input;
  if (content.of === 'file') {
    // Opened anew, the file is marked clean; with lazy refcounts a flush alone would leave it dirty.
    image.reopen({});
    return copyFile(image.storage, file);
  }
  if (content.of === 'increment') {
    const { bitmap, backing = null } = content;
    return exportIncremental(image, bitmap, file, { backing, ...(encryption && { encryption }) });
  }
  checkExport(image, content, encryption);
  const copy: Copy = {
    file,
    encryption: encryptionFor(image, content, encryption),
    compress: content.compress ?? false,
  };
  const now = moment?.view ?? image;
  if (content.of === 'overlay') {
    const disk = content.key === undefined ? now : requireView(image, content.key);
    return copyTheOverlay(image, disk, { ...copy, backing: content.backing });
  }
  if (content.of === 'snapshot') return copyOneDisk(image, requireView(image, content.key), copy);
  return content.snapshots && copiedSnapshots(image).length > 0
    ? copyAll(image, moment?.view, copy)
    : copyOneDisk(image, now, copy);
}

/** What is to be made. */
interface Copy {
  readonly file: Storage;
  readonly encryption: NewEncryption | null;
  readonly compress: Compression;
}

/** An overlay holds nothing of its backing file, so what that is encrypted with is of no concern. */
function encryptionFor(image: Qcow2Image, content: ExportContent, given?: NewEncryption): NewEncryption | null {
  if (given !== undefined) return given;
  return content.of === 'overlay' && encryptionFormat(image.header) === null ? null : copiedEncryption(image);
}

function requireView(image: Qcow2Image, key: SnapshotKey): SnapshotView {
  const view = openSnapshot(image, key);
  if (!isMoment(view.info)) return view;
  throw new Qcow2Error('NOT_FOUND', `the snapshot ${view.info.id} is that of an export, and is not to be used`);
}

function copyAll(image: Qcow2Image, now: SnapshotView | undefined, copy: Copy): Steps {
  const options = { now, compress: copy.compress !== false };
  const target = emptyCopy(compressedAs(layoutForCopy(image, options), copy.compress), copy);
  return closedAtEnd(copyWithSnapshots(image, target, options), target);
}

function copyOneDisk(image: Qcow2Image, disk: Disk, copy: Copy): Steps {
  const { clusterSize, header } = image;
  // An image that opened has one of these widths.
  const refcountBits = image.refcountBits as NonNullable<CreateOptions['refcountBits']>;
  const compressionType = header.compressionType === 0 ? 'zlib' : 'zstd';
  const size = alignUp(disk.size, SECTOR_BYTES);
  const layout = { size, version: header.version, clusterSize, refcountBits, compressionType } as const;
  const target = emptyCopy(compressedAs(layout, copy.compress), copy);
  return closedAtEnd(copyDisk(disk, target, { compress: copy.compress !== false }), target);
}

function copyTheOverlay(
  image: Qcow2Image,
  disk: Disk,
  { backing, ...copy }: Copy & { readonly backing: NewBackingFile | undefined },
): Steps {
  const layout = layoutForOverlay(image, disk, backing ?? recordedBacking(image));
  const target = emptyCopy(compressedAs(layout, copy.compress), copy);
  return closedAtEnd(copyOverlay(disk, target, { compress: copy.compress !== false }), target);
}

/** The same layout for clusters that are compressed so. Version 2 knows deflate only. */
function compressedAs(layout: CreateOptions, compress: Compression): CreateOptions {
  if (typeof compress === 'boolean') return layout;
  if (compress === 'deflate') return { ...layout, compressionType: 'zlib' };
  return { ...layout, compressionType: 'zstd', version: 3 };
}

/** Whatever lies below it is not looked at: only whole clusters are written over a backing file. */
function emptyCopy(layout: CreateOptions, { file, encryption }: Copy): Qcow2Image {
  createImage(file, { ...layout, ...(encryption && { encryption }) });
  return openImage(file, { backing: null, ...(encryption && { encryption: encryption.opened }) });
}

/** The target is whole, stable and clean then. */
function closedAtEnd(steps: Steps, target: Qcow2Image): Steps {
  return stepsOf(
    () => {
      const step = steps.next();
      if (step.done !== true) return step.value;
      target.close();
      return null;
    },
    () => steps.return?.(),
  );
}
