/**
 * Resizing a disk: growing it, with or without preallocation, and shrinking it.
 *
 * Growing is `image/grow-disk.ts`. Shrinking goes the other way round:
 *
 *   smaller size -> |barrier| -> what lies behind the end is freed -> unused refcount blocks -> end of the file
 *
 * so that after a crash the disk has its old size and all of its data, or the new one. QEMU frees first and publishes the
 * size last, which leaves a disk of the old size with holes. What a crash keeps from being freed, the next resize frees.
 */
import { Qcow2Error } from '../errors.js';
import { hasDataFile } from '../format/header.js';
import { checkResize } from '../image/check-resize.js';
import { growDisk, prepareResize, publishSize } from '../image/grow-disk.js';
import { PREALLOCATIONS, type Preallocation } from '../image/preallocate.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import { unmapFrom } from '../image/unmap-from.js';
import { shrinkRefcounts } from '../metadata/refcount-shrink.js';
import { sequence, singleStep, type Steps } from '../util/steps.js';

export interface ResizeOptions {
  /** Bytes, a multiple of 512. */
  readonly size: number;
  /** For what is new; only for growing. Default `off`. */
  readonly preallocation?: Preallocation;
  /** Allows a smaller size, which loses what lies behind it. Default false. */
  readonly shrink?: boolean;
}

/**
 * Resizes the disk of an image opened for writing. Throws `BAD_ARGUMENT`, `LIMIT` or `UNSUPPORTED` at once; nothing has
 * changed then.
 */
export function resizeImage(image: Qcow2Image, options: ResizeOptions): Steps {
  const { size, preallocation = 'off', shrink = false } = options;
  checkResize(image, size, image.header.version);
  if (!PREALLOCATIONS.includes(preallocation)) {
    const limits = `it must be one of ${PREALLOCATIONS.join(', ')}`;
    throw new Qcow2Error('BAD_ARGUMENT', `preallocation is ${String(preallocation)}; ${limits}`);
  }
  if (size <= image.size && preallocation !== 'off') {
    const sizes = `the disk has ${image.size} bytes, and is to have ${size}`;
    throw new Qcow2Error('BAD_ARGUMENT', `preallocation is ${preallocation}; it is for growing only: ${sizes}`);
  }
  if (size < image.size && !shrink) {
    const sizes = `size is ${size}; the disk has ${image.size} bytes`;
    throw new Qcow2Error('BAD_ARGUMENT', `${sizes}, and shrinking it, which loses data, needs the option shrink`);
  }
  return sequence([
    () => singleStep('preparing', () => prepareResize(image.changeableTables())),
    () => (size >= image.size ? growDisk(image, size, preallocation) : shrinkDisk(image, size)),
    () => singleStep('storing the bitmaps', () => storeResized(image)),
    () => singleStep('fitting the caches', () => image.fitCaches()),
  ]);
}

/** They have been marked in use, the disabled ones, too: from now on a crash does not cost them any more. */
function storeResized(image: Qcow2Image): void {
  const tables = image.changeableTables();
  tables.bitmaps.store(tables);
}

function shrinkDisk(image: Qcow2Image, size: number): Steps {
  return sequence([
    () => singleStep('publishing the size', () => publishSize(image.changeableTables(), size)),
    () => unmapFrom(image, size),
    () => singleStep('shrinking the file', () => cutFiles(image)),
  ]);
}

function cutFiles(image: Qcow2Image): void {
  const { size } = image;
  const tables = image.changeableTables();
  shrinkRefcounts(tables);
  if (!hasDataFile(tables.header.value) || tables.data.size <= size) return;
  tables.data.truncate(size);
  tables.data.flush();
}
