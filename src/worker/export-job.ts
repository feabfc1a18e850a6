/**
 * What an export writes: the disk, flattened, with its snapshots or without them; the disk of one snapshot; what is marked in a
 * bitmap; or the file as it is. The image is not changed, and must not be changed between the steps. What is written of an encrypted disk is encrypted, with
 * the same key behind the same passphrases, unless it is given an encryption of its own.
 */
import type { Disk } from '../disk.js';
import { SECTOR_BYTES } from '../format/limits.js';
import { createImage, type CreateOptions } from '../image/create.js';
import { openImage } from '../image/open.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import type { NewEncryption } from '../image/unlock-image.js';
import { exportIncremental, type IncrementToken } from '../operations/bitmaps/export-incremental.js';
import { copiedEncryption } from '../operations/copy-encryption.js';
import { copyDisk } from '../operations/copy-disk.js';
import { copyWithSnapshots, layoutForCopy } from '../operations/snapshots/copy-with-snapshots.js';
import { openSnapshot } from '../operations/snapshots/open-snapshot.js';
import type { Storage } from '../storage/storage.js';
import { alignUp } from '../util/integers.js';
import type { Progress } from '../util/progress.js';
import { stepsOf, type Steps } from '../util/steps.js';
import { copyFile } from './copy-file.js';
import type { ExportContent } from './protocol.js';

export type ExportJob = Steps | IterableIterator<Progress, IncrementToken>;

/**
 * Writes what is asked for to `file`, which is empty. An increment results in its token. @param encryption of the copy, the caller's to wipe; not for `file`. Throws
 * `NOT_FOUND` for a snapshot that there is none of.
 */
export function exportJob(
  image: Qcow2Image,
  file: Storage,
  content: ExportContent,
  encryption?: NewEncryption,
): ExportJob {
  if (content.of === 'file') {
    // Opened anew, the file is marked clean; with lazy refcounts a flush alone would leave it dirty.
    image.reopen({});
    return copyFile(image.storage, file);
  }
  if (content.of === 'increment') {
    const { bitmap, backing = null } = content;
    return exportIncremental(image, bitmap, file, { backing, ...(encryption && { encryption }) });
  }
  const copy: Copy = { file, encryption: encryption ?? copiedEncryption(image) };
  if (content.of === 'snapshot') return copyOneDisk(image, openSnapshot(image, content.key), copy);
  return content.snapshots && image.header.snapshotCount > 0 ? copyAll(image, copy) : copyOneDisk(image, image, copy);
}

/** What is to be made. */
interface Copy {
  readonly file: Storage;
  readonly encryption: NewEncryption | null;
}

function copyAll(image: Qcow2Image, copy: Copy): Steps {
  const target = emptyCopy(layoutForCopy(image), copy);
  return closedAtEnd(copyWithSnapshots(image, target), target);
}

function copyOneDisk(image: Qcow2Image, disk: Disk, copy: Copy): Steps {
  const { clusterSize, header } = image;
  // An image that opened has one of these widths.
  const refcountBits = image.refcountBits as NonNullable<CreateOptions['refcountBits']>;
  const layout = { size: alignUp(disk.size, SECTOR_BYTES), version: header.version, clusterSize, refcountBits };
  const target = emptyCopy(layout, copy);
  return closedAtEnd(copyDisk(disk, target), target);
}

function emptyCopy(layout: CreateOptions, { file, encryption }: Copy): Qcow2Image {
  createImage(file, { ...layout, ...(encryption && { encryption }) });
  return openImage(file, encryption ? { encryption: encryption.opened } : {});
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
