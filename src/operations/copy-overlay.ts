/**
 * Copying an overlay: what an image holds itself of its disk, and nothing that shows through from its backing file. The copy is over the
 * same one, and reads as the disk with it.
 *
 *   disk     | a | . | 0 | b . | . |        . of the backing file, 0 zeroes that hide it
 *   copy     | a |   | 0 | b   |   |        (b: a part of a cluster, with extended L2 entries)
 *
 * - What is copied is whole clusters, or with extended L2 entries whole subclusters, so nothing is looked for in the backing file.
 * - Data that is zeroes becomes zeroes that take no room.
 */
import type { Disk, GuestOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import { SECTOR_BYTES } from '../format/limits.js';
import type { CreateOptions } from '../image/create-options.js';
import { Qcow2Image } from '../image/qcow2-image.js';
import { alignDown, alignUp } from '../util/integers.js';
import { stepsOf, type Steps } from '../util/steps.js';
import type { NewBackingFile } from './change-backing.js';
import { dataWriter, writeContent, type ContentWriter } from './content-writer.js';
import type { CopyOptions } from './copy-disk.js';
import type { DiskRange } from './snapshots/disk-differences.js';

/** Guest bytes that one step looks at: whole clusters, whatever their size. */
const STEP_BYTES = 2 * 1024 * 1024;

/** The name and the format by which an overlay records its backing file. Throws `BAD_ARGUMENT` for an image that names none. */
export function recordedBacking(image: Qcow2Image): NewBackingFile {
  const { backingFile } = image.header;
  if (backingFile === null) {
    throw new Qcow2Error('BAD_ARGUMENT', 'the image names no backing file, so no part of it is an overlay');
  }
  const { name, format } = backingFile;
  if (format === 'qcow2' || format === 'raw') return { name, format };
  // Left out, or in the words of other software: what it was opened as.
  return { name, format: image.backing instanceof Qcow2Image ? 'qcow2' : 'raw' };
}

/** With what `createImage` makes the copy of `disk`, that of the image or of one of its snapshots: as the image, subclusters included. */
export function layoutForOverlay(image: Qcow2Image, disk: Disk, backing: NewBackingFile): CreateOptions {
  const { header, clusterSize, refcountBits, tables } = image;
  return {
    size: alignUp(disk.size, SECTOR_BYTES),
    version: header.version,
    clusterSize,
    // An image that opened has one of these widths.
    refcountBits: refcountBits as NonNullable<CreateOptions['refcountBits']>,
    extendedL2: tables.geometry.subclusterSize < clusterSize,
    compressionType: header.compressionType === 0 ? 'zlib' : 'zstd',
    backing,
  };
}

/**
 * Copies what `source` holds itself to `target`, which was made with `layoutForOverlay` and is open without its backing file. Compressed
 * are only clusters that are there as a whole.
 */
export function copyOverlay(source: Disk, target: Qcow2Image, { compress = false }: CopyOptions = {}): Steps {
  const { clusterSize } = target;
  const zeroes = (offset: GuestOffset, length: number): void => target.writeZeroes(offset, length, { unmap: true });
  const plain = { ...dataWriter(target, false), unit: target.tables.geometry.subclusterSize, zeroes };
  const packed = compress ? { ...dataWriter(target, true), zeroes } : null;
  const total = source.size;
  const buffer = new Uint8Array(Math.min(STEP_BYTES, total));
  let done = 0;
  const copy = (writer: ContentWriter, { offset, length }: DiskRange): void => {
    const content = buffer.subarray(0, length);
    source.read(offset, content);
    writeContent(writer, offset, content);
  };
  return stepsOf(() => {
    if (done >= total) return null;
    const within = { offset: done, length: Math.min(STEP_BYTES, total - done) };
    for (const range of ownRanges(source, within)) {
      const whole = packed === null ? null : wholeClusters(range, clusterSize, total);
      if (packed === null || whole === null) copy(plain, range);
      else for (const { writer, part } of split(range, whole, { plain, packed })) copy(writer, part);
    }
    done += within.length;
    return { done, total, what: 'copying the overlay' };
  });
}

/** What is stored in the image itself, neighbours joined. */
function ownRanges(disk: Disk, within: DiskRange): DiskRange[] {
  const ranges: DiskRange[] = [];
  for (const { kind, offset, length } of disk.extents(within.offset, within.length)) {
    if (kind === 'backing' || kind === 'unallocated') continue;
    const last = ranges.at(-1);
    if (last !== undefined && last.offset + last.length === offset) {
      ranges[ranges.length - 1] = { offset: last.offset, length: last.length + length };
    } else ranges.push({ offset, length });
  }
  return ranges;
}

/** The whole clusters in a range; the last one of the disk may be short. Null for none. */
function wholeClusters({ offset, length }: DiskRange, clusterSize: number, size: number): DiskRange | null {
  const start = alignUp(offset, clusterSize);
  const end = offset + length === size ? size : alignDown(offset + length, clusterSize);
  return end > start ? { offset: start, length: end - start } : null;
}

/** The parts before, in and behind the whole clusters, and how each is written. */
function split(range: DiskRange, whole: DiskRange, writers: { plain: ContentWriter; packed: ContentWriter }) {
  const wholeEnd = whole.offset + whole.length;
  return [
    { writer: writers.plain, part: { offset: range.offset, length: whole.offset - range.offset } },
    { writer: writers.packed, part: whole },
    { writer: writers.plain, part: { offset: wholeEnd, length: range.offset + range.length - wholeEnd } },
  ].filter(({ part }) => part.length > 0);
}
