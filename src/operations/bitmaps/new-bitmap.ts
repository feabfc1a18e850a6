/** Which bitmaps an image can be given: the limits of the format, and QEMU's, which has to hold them in memory. */
import { Qcow2Error } from '../../errors.js';
import { bitmapBytes, bitmapEntryBytes, encodeBitmapName } from '../../format/bitmap-directory.js';
import {
  MAX_BITMAP_BYTES,
  MAX_BITMAP_DIRECTORY_BYTES,
  MAX_BITMAP_NAME_BYTES,
  MAX_BITMAPS,
  MAX_BITMAPS_BYTES,
  MAX_GRANULARITY_BITS,
  MIN_GRANULARITY_BITS,
} from '../../format/limits.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { isPowerOfTwo } from '../../util/integers.js';

export interface NewBitmap {
  readonly name: string;
  /** Bytes of the disk that one bit stands for, a power of two. Default: the cluster size, from 4 to 64 KiB. */
  readonly granularity?: number;
  /** Whether it marks what the guest changes from now on. Default true. */
  readonly enabled?: boolean;
}

/** Why an image can't have a bitmap, in the order in which QEMU looks. */
export type NewBitmapProblem =
  | 'no name'
  | 'name'
  | 'granularity'
  | 'exists'
  | 'version 2'
  | 'granularity too large'
  | 'granularity too small'
  | 'too large'
  | 'too large together'
  | 'name too long'
  | 'too many'
  | 'directory too large'
  | 'empty disk';

const SMALLEST_DEFAULT = 4096;
const LARGEST_DEFAULT = 65536;
const SMALLEST_GRANULARITY = 2 ** MIN_GRANULARITY_BITS;
const LARGEST_GRANULARITY = 2 ** MAX_GRANULARITY_BITS;

export function defaultGranularity({ clusterSize }: Qcow2Image): number {
  return Math.min(LARGEST_DEFAULT, Math.max(SMALLEST_DEFAULT, clusterSize));
}

/** Null for a bitmap that the image can be given. Throws `BAD_IMAGE` for bitmaps that can't be read. */
export function newBitmapProblem(image: Qcow2Image, bitmap: NewBitmap): NewBitmapProblem | null {
  const { name, granularity = defaultGranularity(image) } = bitmap;
  if (name === '') return 'no name';
  const nameBytes = encodeBitmapName(name);
  if (nameBytes === null) return 'name';
  if (!isPowerOfTwo(granularity)) return 'granularity';
  const others = image.tables.bitmaps.list(image.tables);
  // As they read: the same bytes, or others that are no UTF-8, and neither of the two could be named then.
  if (others.some(({ entry }) => entry.name === name)) return 'exists';
  if (image.header.version < 3) return 'version 2';
  if (granularity > LARGEST_GRANULARITY) return 'granularity too large';
  if (granularity < SMALLEST_GRANULARITY) return 'granularity too small';
  if (bitmapBytes(image.size, Math.log2(granularity)) > MAX_BITMAP_BYTES) return 'too large';
  if (bytesTogether(image, granularity) > MAX_BITMAPS_BYTES) return 'too large together';
  if (nameBytes.length > MAX_BITMAP_NAME_BYTES) return 'name too long';
  if (others.length >= MAX_BITMAPS) return 'too many';
  const own = bitmapEntryBytes({ nameBytes, extraData: new Uint8Array(0) });
  const directory = others.reduce((sum, { entry }) => sum + bitmapEntryBytes(entry), own);
  if (directory > MAX_BITMAP_DIRECTORY_BYTES) return 'directory too large';
  return image.size === 0 ? 'empty disk' : null;
}

/** Of the bitmaps that there are and a new one. */
function bytesTogether(image: Qcow2Image, granularity: number): number {
  const others = image.tables.bitmaps.list(image.tables).map(({ entry }) => entry.granularityBits);
  return [...others, Math.log2(granularity)].reduce((sum, bits) => sum + bitmapBytes(image.size, bits), 0);
}

/** Throws `BAD_ARGUMENT`, `UNSUPPORTED` or `LIMIT` for a bitmap that the image can't be given. */
export function checkNewBitmap(image: Qcow2Image, bitmap: NewBitmap): void {
  const problem = newBitmapProblem(image, bitmap);
  if (problem !== null) throw refusal(image, bitmap, problem);
}

function refusal(image: Qcow2Image, bitmap: NewBitmap, problem: NewBitmapProblem): Qcow2Error {
  const { name, granularity = defaultGranularity(image) } = bitmap;
  const what = `the bitmap ${JSON.stringify(name)}`;
  const limits = `it must be a power of two from ${SMALLEST_GRANULARITY} to ${LARGEST_GRANULARITY}`;
  switch (problem) {
    case 'no name':
      return new Qcow2Error('BAD_ARGUMENT', 'the name of the bitmap is empty');
    case 'name':
      return new Qcow2Error(
        'BAD_ARGUMENT',
        `the name of the bitmap is ${JSON.stringify(name)}; it must be UTF-8 in the file, with no NUL in it`,
      );
    case 'granularity':
    case 'granularity too large':
    case 'granularity too small':
      return new Qcow2Error('BAD_ARGUMENT', `granularity is ${granularity}; ${limits}`);
    case 'exists':
      return new Qcow2Error('BAD_ARGUMENT', `${what} is there already`);
    case 'version 2':
      return new Qcow2Error('UNSUPPORTED', 'the image has version 2; bitmaps need version 3');
    case 'empty disk':
      return new Qcow2Error('UNSUPPORTED', 'the disk has 0 bytes; there is nothing to keep a bitmap of');
    case 'too large': {
      const bytes = bitmapBytes(image.size, Math.log2(granularity));
      const limit = `the limit is ${MAX_BITMAP_BYTES}; take a larger granularity`;
      return new Qcow2Error('LIMIT', `${what} would have ${bytes} bytes; ${limit}`);
    }
    case 'too large together': {
      const limit = `the limit is ${MAX_BITMAPS_BYTES}; take a larger granularity`;
      return new Qcow2Error(
        'LIMIT',
        `with ${what} all bitmaps would have ${bytesTogether(image, granularity)} bytes; ${limit}`,
      );
    }
    case 'name too long': {
      const bytes = new TextEncoder().encode(name).length;
      return new Qcow2Error(
        'LIMIT',
        `the name of the bitmap has ${bytes} bytes; the limit is ${MAX_BITMAP_NAME_BYTES}`,
      );
    }
    case 'too many':
      return new Qcow2Error('LIMIT', `the image has ${MAX_BITMAPS} bitmaps already, which is the limit`);
    case 'directory too large': {
      const limit = `its limit of ${MAX_BITMAP_DIRECTORY_BYTES} bytes`;
      return new Qcow2Error('LIMIT', `with ${what} the bitmap directory would pass ${limit}`);
    }
  }
}
