/** `bitmap`: the engine keeps no bitmaps, so each of its actions is refused; what is wrong with the command line is said first. */
import { CliError } from '../text/messages.js';
import { IMAGE_OPTS, letter, OBJECT, readCommandLine, sizeArgument, type Command } from './command.js';
import { openImageArgument } from './open-image.js';

const ACTIONS = ['add', 'remove', 'clear', 'enable', 'disable', 'merge'];
const LONG = [
  { name: 'g', short: 'g', long: 'granularity', argument: true },
  { name: 'b', short: 'b', long: 'source-file', argument: true },
  { name: 'F', short: 'F', long: 'source-format', argument: true },
  ...ACTIONS.map((name) => ({ name, long: name, argument: name === 'merge' })),
];

export const run: Command = async (args, context) => {
  const actions: string[] = [];
  const line = readCommandLine(args, [letter('f', true), ...LONG, OBJECT, IMAGE_OPTS], context, ({ name, value }) => {
    if (name === 'g') sizeArgument('granularity', value);
    if (ACTIONS.includes(name)) actions.push(name);
  });
  const [action] = actions;
  if (action === undefined) {
    throw new CliError('Need at least one of --add, --remove, --clear, --enable, --disable, or --merge');
  }
  if (line.has('g') && !actions.includes('add')) throw new CliError('granularity only supported with --add');
  if (line.has('F') && !line.has('b')) throw new CliError('-F only supported with -b');
  if (line.has('b') && !actions.includes('merge')) {
    throw new CliError('Merge bitmap source file only supported with --merge');
  }
  const [name, bitmap] = line.operands;
  if (name === undefined || bitmap === undefined || line.operands.length > 2) {
    throw new CliError('Expecting filename and bitmap name');
  }
  const image = { name, format: line.value('f'), imageOpts: line.has('image-opts') };
  const node = await openImageArgument(context, image, { noBacking: true, readOnly: true, secrets: line.secrets });
  node.close();
  throw new CliError(`Operation ${action} on bitmap ${bitmap} failed: bitmaps are not supported`);
};
