/** `dd`: copies a part of an image into a new one, block by block. */
import type { BlockNode } from '../graph/block-node.js';
import { openNode } from '../graph/open-node.js';
import type { Secrets } from '../graph/secrets.js';
import { errorWords } from '../text/errno.js';
import { CliError, reportError, withPrefix } from '../text/messages.js';
import {
  FORCE_SHARE,
  IMAGE_OPTS,
  letter,
  OBJECT,
  readCommandLine,
  sizeArgument,
  type Command,
  type CommandContext,
} from './command.js';
import { OptionValues } from './creation-options.js';
import { creatableFormat, creationTable, isFormatName, newFilePath, type Format } from './formats.js';
import { makeImage } from './new-image.js';
import { openImageArgument } from './open-image.js';

interface Operands {
  readonly blockSize: number;
  readonly count: bigint | null;
  readonly skip: bigint | null;
  readonly input: string;
  readonly output: string;
}

const LARGEST_BLOCK = 2n ** 31n - 1n;

export const run: Command = async (args, context) => {
  const specs = [letter('f', true), letter('O', true), OBJECT, IMAGE_OPTS, FORCE_SHARE];
  const line = readCommandLine(args, specs, context);
  const operands = readOperands(line.operands);
  const image = { name: operands.input, format: line.value('f'), imageOpts: line.has('image-opts') };
  const flags = { readOnly: true, forceShare: line.has('force-share'), secrets: line.secrets };
  const source = await openImageArgument(context, image, flags);
  try {
    await copy(context, source, { operands, format: outputFormat(line.value('O') ?? 'raw'), secrets: line.secrets });
  } finally {
    source.close();
  }
  return 0;
};

function outputFormat(name: string): Format {
  if (!isFormatName(name)) throw new CliError('Unknown file format');
  return creatableFormat(name);
}

function readOperands(words: readonly string[]): Operands {
  let blockSize = 512;
  let count: bigint | null = null;
  let skip: bigint | null = null;
  const files = new Map<string, string>();
  for (const word of words) {
    const equals = word.indexOf('=');
    const [key, value] = equals < 0 ? [word, ''] : [word.slice(0, equals), word.slice(equals + 1)];
    if (equals < 0 || !['bs', 'count', 'if', 'of', 'skip'].includes(key)) {
      throw new CliError(`unrecognized operand ${key}`);
    }
    if (key === 'bs') blockSize = Number(sizeArgument('bs', value, { min: 1n, max: LARGEST_BLOCK }));
    else if (key === 'count') count = sizeArgument('count', value);
    else if (key === 'skip') skip = sizeArgument('skip', value);
    else files.set(key, value);
  }
  const [input, output] = [files.get('if'), files.get('of')];
  if (input === undefined || output === undefined) throw new CliError('Must specify both input and output files');
  return { blockSize, count, skip, input, output };
}

interface Copy {
  readonly operands: Operands;
  readonly format: Format;
  readonly secrets: Secrets;
}

async function copy(context: CommandContext, source: BlockNode, { operands, format, secrets }: Copy): Promise<void> {
  const { blockSize, count, skip, output } = operands;
  newFilePath(output);
  const block = BigInt(blockSize);
  const size = BigInt(source.size);
  const end = count !== null && count * block < size ? count * block : size;
  const start = (skip ?? 0n) * block;
  const values = new OptionValues(creationTable(format));
  values.set('size', String(start > end ? 0n : end - start));
  const { interrupts } = context;
  const files = await make({ fileName: output, format, values, secrets, interrupts });
  let target: BlockNode | null = null;
  try {
    const options = new Map([['driver', format]]);
    target = await openTarget(output, options, context);
    if (start > end) reportError(context.console, `${operands.input}: cannot skip to specified offset`);
    await copyBlocks(context, { source, target }, { start: Number(start), end: Number(end), blockSize });
    target.flush();
    target.close();
  } catch (error) {
    files.remove();
    target?.close();
    throw error;
  }
}

async function make(request: Parameters<typeof makeImage>[0]): ReturnType<typeof makeImage> {
  try {
    return await makeImage(request);
  } catch (error) {
    throw withPrefix(`${request.fileName}: error while creating output image: `, error);
  }
}

async function openTarget(
  name: string,
  options: ReadonlyMap<string, string>,
  { console }: CommandContext,
): Promise<BlockNode> {
  try {
    return await openNode({ fileName: name, options }, { console });
  } catch (error) {
    throw withPrefix(`Could not open '${name}': `, error);
  }
}

async function copyBlocks(
  { interrupts }: CommandContext,
  { source, target }: { source: BlockNode; target: BlockNode },
  { start, end, blockSize }: { start: number; end: number; blockSize: number },
): Promise<void> {
  const buffer = new Uint8Array(blockSize);
  for (let at = start; at < end; at += blockSize) {
    const bytes = buffer.subarray(0, Math.min(blockSize, end - at));
    try {
      source.read(at, bytes);
    } catch (error) {
      throw new CliError(`error while reading from input image file: ${errorWords(error).words}`, { cause: error });
    }
    try {
      target.write(at - start, bytes);
    } catch (error) {
      throw new CliError(`error while writing to output image file: ${errorWords(error).words}`, { cause: error });
    }
    await interrupts.breathe();
  }
}
