/** `convert --bitmaps`: the bitmaps of the source are copied after its content. */
import { listBitmaps, type BitmapInfo } from '../../operations/bitmaps/bitmaps.js';
import type { BlockNode } from '../graph/block-node.js';
import { CliError, reportWarning, withPrefix, type Console } from '../text/messages.js';
import { addTo, checkSameSize, imageForBitmap, mergeInto } from './bitmap-actions.js';

/** Before anything is made: whether they can be copied. */
export function checkBitmaps(sources: readonly BlockNode[], skipBroken: boolean): void {
  if (sources.length > 1) throw new CliError('Copying bitmaps only possible with single source');
  const bitmaps = bitmapsOf(sources[0]!);
  const broken = skipBroken ? undefined : brokenOf(bitmaps)[0];
  if (broken === undefined) return;
  const hint = "Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it\n";
  throw new CliError(`Cannot copy inconsistent bitmap '${broken.name}'`, { hint });
}

/** Those that are inconsistent are skipped. Where one can't be copied, none is. */
export function copyBitmaps(console: Console, source: BlockNode, target: BlockNode): void {
  const bitmaps = bitmapsOf(source);
  for (const { name } of brokenOf(bitmaps)) reportWarning(console, `Skipping inconsistent bitmap '${name}'`);
  const whole = bitmaps.filter(({ state }) => state === 'consistent');
  for (const bitmap of whole.toReversed()) checkCopy(source, target, bitmap);
  for (const { name, granularity, enabled } of whole) {
    addTo(target, { name, granularity, enabled });
    mergeInto(target, name, { node: source, name });
  }
}

function checkCopy(source: BlockNode, target: BlockNode, { name, granularity }: BitmapInfo): void {
  let step = 'create';
  try {
    const image = imageForBitmap(target, { name, granularity });
    step = 'populate';
    checkSameSize(image, source.image!);
  } catch (error) {
    throw withPrefix(`Failed to ${step} bitmap ${name}: `, error);
  }
}

function bitmapsOf({ image }: BlockNode): BitmapInfo[] {
  if (image === null || image.header.version < 3) throw new CliError('Source lacks bitmap support');
  return listBitmaps(image);
}

/** In the order in which QEMU meets them, which puts each that it loads before the others. */
function brokenOf(bitmaps: readonly BitmapInfo[]): BitmapInfo[] {
  return bitmaps.filter(({ state }) => state !== 'consistent').toReversed();
}
