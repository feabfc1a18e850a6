/**
 * What `bitmap`, `convert` and others do with bitmaps, in QEMU's order of looking and in its words; what the engine finds beyond that
 * is said in its own.
 */
import { MAX_BITMAP_NAME_BYTES, MAX_GRANULARITY_BITS, MIN_GRANULARITY_BITS } from '../../format/limits.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { addBitmap, listBitmaps, mergeBitmap, type BitmapInfo } from '../../operations/bitmaps/bitmaps.js';
import { newBitmapProblem, type NewBitmap, type NewBitmapProblem } from '../../operations/bitmaps/new-bitmap.js';
import type { BlockNode } from '../graph/block-node.js';
import { strerror } from '../text/errno.js';
import { CliError } from '../text/messages.js';

/** What QEMU calls a node that has no name; its number is another each time. */
const UNNAMED = '#block000';

/** The image of a node that has this bitmap. */
export function imageWithBitmap({ image }: BlockNode, name: string): Qcow2Image {
  if (image !== null && bitmapOf(image, name) !== undefined) return image;
  throw new CliError(`Dirty bitmap '${name}' not found`);
}

/** The same, for a bitmap that can be used. */
export function imageWithUsableBitmap(node: BlockNode, name: string): Qcow2Image {
  const image = imageWithBitmap(node, name);
  checkUsable(bitmapOf(image, name)!);
  return image;
}

export function checkUsable({ name, state }: BitmapInfo): void {
  if (state === 'consistent') return;
  const hint = 'Try block-dirty-bitmap-remove to delete this bitmap from disk\n';
  throw new CliError(`Bitmap '${name}' is inconsistent and cannot be used`, { hint });
}

export function addTo(node: BlockNode, bitmap: NewBitmap): void {
  addBitmap(imageForBitmap(node, bitmap), bitmap);
}

/** The image of a node that can be given this bitmap. */
export function imageForBitmap({ image, nodeName: given }: BlockNode, bitmap: NewBitmap): Qcow2Image {
  const nodeName = given === '' ? UNNAMED : given;
  if (image === null) {
    throw new CliError(`Can't store persistent bitmaps to ${nodeName}: ${strerror('ENOTSUP')}`, { errno: 'ENOTSUP' });
  }
  const problem = newBitmapProblem(image, bitmap);
  const words = problem === null ? undefined : WORDS[problem];
  if (problem === 'exists') throw new CliError(`Bitmap already exists: ${bitmap.name}`);
  if (words?.alone === true) throw new CliError(words.text);
  if (words !== undefined) {
    throw new CliError(`Can't make bitmap '${bitmap.name}' persistent in '${nodeName}': ${words.text}`);
  }
  return image;
}

interface Words {
  readonly text: string;
  /** It is said before the node is looked at. */
  readonly alone?: boolean;
}

const SMALLEST = 2 ** MIN_GRANULARITY_BITS;
const LARGEST = 2 ** MAX_GRANULARITY_BITS;
const GRANULARITY: Words = { text: `Granularity must be power of 2 and at least ${SMALLEST}`, alone: true };

const WORDS: Readonly<Partial<Record<NewBitmapProblem, Words>>> = {
  name: { text: 'Bitmap name must be UTF-8 without NUL', alone: true },
  'no name': { text: 'Bitmap name cannot be empty', alone: true },
  granularity: GRANULARITY,
  'granularity too small': GRANULARITY,
  'version 2': { text: 'Cannot store dirty bitmaps in qcow2 v2 files' },
  'granularity too large': { text: `Granularity exceeds maximum (${LARGEST} bytes)` },
  'too large': { text: 'Too much space will be occupied by the bitmap. Use larger granularity' },
  'too large together': { text: 'Too much space will be occupied by all bitmaps. Use larger granularity' },
  'name too long': { text: `Name length exceeds maximum (${MAX_BITMAP_NAME_BYTES} characters)` },
  'too many': { text: 'Maximum number of persistent bitmaps is already reached' },
  'directory too large': { text: 'Not enough space in the bitmap directory' },
};

/** Marks in `name` of one node what is marked in `from` of the other. */
export function mergeInto(node: BlockNode, name: string, source: { readonly node: BlockNode; readonly name: string }) {
  const image = imageWithBitmap(node, name);
  const other = imageWithBitmap(source.node, source.name);
  imageWithUsableBitmap(node, name);
  imageWithUsableBitmap(source.node, source.name);
  checkSameSize(image, other);
  mergeBitmap(image, name, { image: other, name: source.name });
}

export function checkSameSize(image: Qcow2Image, source: Qcow2Image): void {
  if (source.size === image.size) return;
  const sizes = `destination size is ${image.size}, source size is ${source.size}`;
  throw new CliError(`Bitmaps are of different sizes (${sizes}) and can't be merged`);
}

function bitmapOf(image: Qcow2Image, name: string): BitmapInfo | undefined {
  return listBitmaps(image).find((bitmap) => bitmap.name === name);
}
