/** `bitmap`: adds, removes and changes the persistent bitmaps of an image. Several actions are carried out in their order. */
import { clearBitmap, disableBitmap, enableBitmap, removeBitmap } from '../../operations/bitmaps/bitmaps.js';
import type { BlockNode } from '../graph/block-node.js';
import { CliError, withPrefix } from '../text/messages.js';
import { addTo, imageWithBitmap, imageWithUsableBitmap, mergeInto } from './bitmap-actions.js';
import {
  IMAGE_OPTS,
  letter,
  OBJECT,
  readCommandLine,
  sizeArgument,
  type Command,
  type CommandContext,
  type CommandLine,
} from './command.js';
import { openImageArgument } from './open-image.js';

const ACTIONS = ['add', 'remove', 'clear', 'enable', 'disable', 'merge'] as const;
const LONG = [
  { name: 'g', short: 'g', long: 'granularity', argument: true },
  { name: 'b', short: 'b', long: 'source-file', argument: true },
  { name: 'F', short: 'F', long: 'source-format', argument: true },
  ...ACTIONS.map((name) => ({ name, long: name, argument: name === 'merge' })),
];

interface Action {
  readonly name: (typeof ACTIONS)[number];
  /** Of `merge`: the bitmap to be merged. */
  readonly value: string;
}

interface Request {
  readonly actions: readonly Action[];
  readonly bitmap: string;
  /** Bytes; 0 for the default. */
  readonly granularity: number;
}

export const run: Command = async (args, context) => {
  const actions: Action[] = [];
  let granularity = 0;
  const line = readCommandLine(args, [letter('f', true), ...LONG, OBJECT, IMAGE_OPTS], context, ({ name, value }) => {
    // QEMU takes it for a number of 32 bits.
    if (name === 'g') granularity = Number(BigInt.asUintN(32, sizeArgument('granularity', value))) || tooLarge(value);
    const action = ACTIONS.find((each) => each === name);
    if (action !== undefined) actions.push({ name: action, value });
  });
  checkLine(line, actions, granularity);
  const [name, bitmap] = line.operands;
  if (name === undefined || bitmap === undefined || line.operands.length > 2) {
    throw new CliError('Expecting filename and bitmap name');
  }
  const image = { name, format: line.value('f'), imageOpts: line.has('image-opts') };
  const node = await openImageArgument(context, image, { noBacking: true, secrets: line.secrets });
  try {
    await carryOut(context, node, line, { actions, bitmap, granularity });
  } finally {
    node.close();
  }
  return 0;
};

/** What is 0 in 32 bits, and was not 0: a granularity that can't be. */
function tooLarge(text: string): number {
  return sizeArgument('granularity', text) === 0n ? 0 : 1;
}

function checkLine(line: CommandLine, actions: readonly Action[], granularity: number): void {
  const has = (name: Action['name']) => actions.some((action) => action.name === name);
  if (actions.length === 0) {
    throw new CliError('Need at least one of --add, --remove, --clear, --enable, --disable, or --merge');
  }
  if (granularity !== 0 && !has('add')) throw new CliError('granularity only supported with --add');
  if (line.has('F') && !line.has('b')) throw new CliError('-F only supported with -b');
  if (line.has('b') && !has('merge')) throw new CliError('Merge bitmap source file only supported with --merge');
}

async function carryOut(context: CommandContext, node: BlockNode, line: CommandLine, request: Request): Promise<void> {
  const sourceName = line.value('b');
  const source =
    sourceName === undefined
      ? node
      : await openImageArgument(
          context,
          { name: sourceName, format: line.value('F'), imageOpts: false },
          { noBacking: true, readOnly: true, secrets: line.secrets },
        );
  try {
    for (const action of request.actions) act(node, source, action, request);
  } finally {
    if (source !== node) source.close();
  }
}

function act(node: BlockNode, source: BlockNode, { name, value }: Action, { bitmap, granularity }: Request): void {
  try {
    switch (name) {
      case 'add':
        return addTo(node, { name: bitmap, ...(granularity === 0 ? {} : { granularity }) });
      case 'remove':
        return removeBitmap(imageWithBitmap(node, bitmap), bitmap);
      case 'clear':
        return clearBitmap(imageWithUsableBitmap(node, bitmap), bitmap);
      case 'enable':
        return enableBitmap(imageWithUsableBitmap(node, bitmap), bitmap);
      case 'disable':
        return disableBitmap(imageWithUsableBitmap(node, bitmap), bitmap);
      case 'merge':
        return mergeInto(node, bitmap, { node: source, name: value });
    }
  } catch (error) {
    throw withPrefix(`Operation ${name} on bitmap ${bitmap} failed: `, error);
  }
}
