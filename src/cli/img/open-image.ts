/**
 * Opening of the images that a command names: by file name and format, or with `--image-opts` by options.
 */
import type { BlockNode, CacheMode, NodeReference, OpenFlags, OptionValue } from '../graph/block-node.js';
import { parseCacheMode } from '../graph/cache-mode.js';
import { openNode } from '../graph/open-node.js';
import { CliError, reportWarning, withPrefix, type Console } from '../text/messages.js';
import { parseOptionList } from '../text/option-list.js';
import type { CommandContext } from './command.js';

export interface ImageArgument {
  readonly name: string;
  readonly format: string | undefined;
  /** The name is a list of options. */
  readonly imageOpts: boolean;
}

/** How a command opens an image; warnings go to its console. */
export type ImageFlags = Omit<OpenFlags, 'console'>;

/** Opens it. Rejects with "Could not open '...': ..." */
export async function openImageArgument(
  { console }: Pick<CommandContext, 'console'>,
  image: ImageArgument,
  flags: ImageFlags,
): Promise<BlockNode> {
  const { name, format, imageOpts } = image;
  if (imageOpts && format !== undefined) {
    throw new CliError('--image-opts and --format are mutually exclusive');
  }
  const reference = referenceTo(image);
  if (imageOpts) warnOfFlags(console, name);
  if (imageOpts && flags.forceShare === true && (reference.options?.get('force-share') ?? 'on') !== 'on') {
    throw new CliError('--force-share/-U conflicts with image options');
  }
  try {
    return await openNode(reference, { ...flags, console });
  } catch (error) {
    throw withPrefix(`Could not open '${name}': `, error);
  }
}

/** What the argument means to the block graph. */
export function referenceTo({ name, format, imageOpts }: ImageArgument): NodeReference {
  if (!imageOpts) return { fileName: name, options: new Map(format === undefined ? [] : [['driver', format]]) };
  // The first word may be a file's name.
  return { fileName: null, options: new Map<string, OptionValue>(parseOptionList(name, 'file').entries) };
}

function warnOfFlags(console: Console, text: string): void {
  for (const { written, key, value } of parseOptionList(text, 'file').flags) {
    reportWarning(console, `short-form boolean option '${written}' deprecated`);
    console.err(`Please use ${key}=${value} instead\n`);
  }
}

/** `-t` and `-T`. `what` is "cache" or "source cache". */
export function cacheMode(word: string, what = 'cache'): CacheMode {
  const mode = parseCacheMode(word);
  if (mode === null) throw new CliError(`Invalid ${what} option: ${word}`);
  return mode;
}
