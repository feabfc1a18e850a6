/** `resize`: another size of the disk: absolute, or so much more or less. */
import { PREALLOCATIONS, type Preallocation } from '../../image/preallocate.js';
import type { BlockNode } from '../graph/block-node.js';
import { CliError, UsageError } from '../text/messages.js';
import { sizeOption } from '../text/option-list.js';
import { toNumber } from '../text/sizes.js';
import {
  HelpWanted,
  IMAGE_OPTS,
  letter,
  OBJECT,
  readCommandLine,
  type Command,
  type CommandContext,
} from './command.js';
import { reserveRange } from './host-room.js';
import { openImageArgument } from './open-image.js';
import { checkNewSize } from './resize-rules.js';

const PREALLOCATION = { name: 'preallocation', long: 'preallocation', argument: true };
const SHRINK = { name: 'shrink', long: 'shrink' };

export const run: Command = async (args, context) => {
  // The size is taken away first: "-1G" is no option.
  const sizeText = args.at(-1);
  if (sizeText === '-h' || sizeText === '--help') throw new HelpWanted();
  if (sizeText === undefined || args.length < 2) throw new UsageError('Not enough arguments');
  const specs = [letter('f', true), letter('q'), PREALLOCATION, SHRINK, OBJECT, IMAGE_OPTS];
  const line = readCommandLine(args.slice(0, -1), specs, context, ({ name, value }) => {
    if (name === 'preallocation') preallocationOf(value);
  });
  if (line.operands.length !== 1) throw new UsageError('Expecting image file name and size');
  const image = { name: line.operands[0]!, format: line.value('f'), imageOpts: line.has('image-opts') };
  const change = changeOf(sizeText);
  const preallocation = preallocationOf(line.value('preallocation') ?? 'off');
  // What is cut off is given back to the host.
  const node = await openImageArgument(context, image, { unmap: true, secrets: line.secrets });
  try {
    resize(context, node, { change, preallocation, shrink: line.has('shrink') });
  } finally {
    node.close();
  }
  if (!line.has('q')) context.console.out('Image resized.\n');
  return 0;
};

function preallocationOf(word: string): Preallocation {
  const found = PREALLOCATIONS.find((mode) => mode === word);
  if (found === undefined) throw new CliError(`Invalid preallocation mode '${word}'`);
  return found;
}

interface SizeChange {
  /** 0 for an absolute size. */
  readonly sign: -1 | 0 | 1;
  readonly bytes: bigint;
}

function changeOf(text: string): SizeChange {
  const sign = text.startsWith('+') ? 1 : text.startsWith('-') ? -1 : 0;
  return { sign, bytes: sizeOption('size', sign === 0 ? text : text.slice(1)) };
}

interface ResizeRequest {
  readonly change: SizeChange;
  readonly preallocation: Preallocation;
  readonly shrink: boolean;
}

function resize({ console }: CommandContext, node: BlockNode, { change, preallocation, shrink }: ResizeRequest): void {
  const current = BigInt(node.size);
  const wanted = BigInt.asIntN(64, change.sign === 0 ? change.bytes : current + BigInt(change.sign) * change.bytes);
  if (wanted <= 0n) throw new CliError('New image size must be positive');
  if (wanted <= current && preallocation !== 'off') {
    throw new CliError('Preallocation can only be used for growing images');
  }
  if (wanted < current && !shrink) {
    throw new ShrinkRefused(console);
  }
  const size = toNumber(wanted);
  if (size === null) throw new CliError('The requested size is too large', { errno: 'EFBIG' });
  if (node.image !== null) checkNewSize(node.image, size, node.image.header.version);
  const old = node.size;
  node.resize(size, preallocation);
  node.flush();
  if (preallocation === 'falloc') reserveNew(node, old);
}

/** Room on the host for what is behind the old end: the engine has given it its places. */
function reserveNew(node: BlockNode, old: number): void {
  const file = node.dataFile ?? node.file;
  if (file?.driver !== 'file') return;
  for (let at = old; at < node.size;) {
    const { length, host } = node.status(at, node.size - at);
    if (host !== null) reserveRange(file.fileName, host, length);
    at += length;
  }
}

/** The advice comes behind the message. */
class ShrinkRefused extends CliError {
  constructor(console: CommandContext['console']) {
    const [first, second] = [
      "Shrinking an image will delete all data beyond the shrunken image's end.",
      'Before performing such an operation, make sure there is no important data there.',
    ];
    const hint = `${console.program}: warning: ${first} ${second}\n`;
    super('Use the --shrink option to perform a shrink operation.', { hint });
  }
}
