/** `create`: a new, empty image. */
import type { BlockNode } from '../graph/block-node.js';
import type { Secrets } from '../graph/secrets.js';
import { openNode } from '../graph/open-node.js';
import { fullBackingName } from '../text/file-name.js';
import { CliError, UsageError, withPrefix, type Console } from '../text/messages.js';
import { isJoinable, wantsHelp } from '../text/option-list.js';
import {
  joinOptionLists,
  letter,
  OBJECT,
  readCommandLine,
  sizeArgument,
  type Command,
  type CommandContext,
} from './command.js';
import { OptionValues } from './creation-options.js';
import { creatableFormat, creationHelp, creationTable, newFilePath, type Format } from './formats.js';
import { makeImage } from './new-image.js';
import { TooLarge } from './qcow2-settings.js';

interface Request {
  readonly fileName: string;
  readonly format: Format;
  readonly values: OptionValues;
  readonly size: bigint | null;
  /** `-u`: the backing file is not looked at. */
  readonly unsafe: boolean;
  readonly secrets: Secrets;
}

export const run: Command = async (args, context) => {
  let list: string | null = null;
  const specs = [letter('F', true), letter('b', true), letter('f', true), letter('o', true), letter('q'), letter('u')];
  const line = readCommandLine(args, [...specs, OBJECT], context, ({ name, value }) => {
    if (name === 'o') list = joinOptionLists(list, value, isJoinable);
  });
  const [fileName, sizeText, ...rest] = line.operands;
  const format = line.value('f') ?? 'raw';
  if (list !== null && wantsHelp(list)) {
    context.console.out(creationHelp(creatableFormat(format), fileName));
    return 0;
  }
  if (fileName === undefined) throw new UsageError('Expecting image file name');
  const size = sizeText === undefined ? null : sizeArgument('image size', sizeText);
  if (rest.length > 0) throw new UsageError(`Unexpected argument: ${rest[0]}`);
  const given = { fileName, format, list, size, backing: line.value('b'), backingFormat: line.value('F') };
  const options = { unsafe: line.has('u'), quiet: line.has('q'), secrets: line.secrets };
  try {
    await create(context, given, options);
    return 0;
  } catch (error) {
    throw withPrefix(`${fileName}: `, error);
  }
};

interface Given {
  readonly fileName: string;
  readonly format: string;
  readonly list: string | null;
  readonly size: bigint | null;
  readonly backing: string | undefined;
  readonly backingFormat: string | undefined;
}

async function create(
  { console, interrupts }: CommandContext,
  given: Given,
  { unsafe, quiet, secrets }: { unsafe: boolean; quiet: boolean; secrets: Secrets },
): Promise<void> {
  const request = { ...checkRequest(given), unsafe, secrets };
  const { fileName, format, values } = request;
  const backing = await settleSize(request, console);
  try {
    if (!quiet) {
      console.out(`Formatting '${fileName}', fmt=${format} ${values.text()}\n`);
      console.flush();
    }
    await makeImage({ fileName, format, values, secrets, interrupts });
  } catch (error) {
    if (!(error instanceof TooLarge)) throw error;
    const hint = format === 'qcow2' ? ' (try using a larger cluster size)' : '';
    throw new CliError(`The image size is too large for file format '${format}'${hint}`, { cause: error });
  } finally {
    // Open until now, so that none of the chain below is written over.
    backing?.close();
  }
}

function checkRequest({
  fileName,
  format: name,
  list,
  size,
  backing,
  backingFormat,
}: Given): Omit<Request, 'unsafe' | 'secrets'> {
  const format = creatableFormat(name);
  newFilePath(fileName);
  const values = new OptionValues(creationTable(format));
  if (list !== null) values.parse(list);
  if (size !== null && values.get('size') !== undefined) {
    throw new CliError('The image size must be specified only once');
  }
  if (backing !== undefined && !values.set('backing_file', backing)) {
    throw new CliError(`Backing file not supported for file format '${format}'`);
  }
  if (backingFormat !== undefined && !values.set('backing_fmt', backingFormat)) {
    throw new CliError(`Backing file format not supported for file format '${format}'`);
  }
  const backingFile = values.get('backing_file');
  if (backingFile === fileName) {
    throw new CliError('Error: Trying to create an image with the same filename as the backing file');
  }
  if (backingFile === '') throw new CliError('Expected backing file name, got empty string');
  return { fileName, format, values, size };
}

/** The size that was given, or else that of the backing file, which is opened to be sure that it is there, and returned. */
async function settleSize(
  { fileName, values, size, unsafe, secrets }: Request,
  console: Console,
): Promise<BlockNode | null> {
  if (size !== null) values.set('size', String(size));
  const backingFile = values.get('backing_file');
  const backingFormat = values.get('backing_fmt');
  if (backingFile !== undefined && !unsafe) {
    const full = fullBackingName(fileName, backingFile) ?? backingFile;
    const node = await openBacking({ name: full, format: backingFormat }, { secrets, console });
    if (values.get('size') === undefined) values.set('size', String(node.size));
    return node;
  }
  if (backingFile !== undefined && backingFormat === undefined) {
    throw new CliError('Backing file specified without backing format');
  }
  if (values.get('size') === undefined) throw new CliError('Image creation needs a size parameter');
  return null;
}

async function openBacking(
  { name, format }: { name: string; format: string | undefined },
  given: { secrets: Secrets; console: Console },
): Promise<BlockNode> {
  const options = new Map(format === undefined ? [] : [['driver', format] as const]);
  let node;
  try {
    node = await openNode({ fileName: name, options }, { readOnly: true, noIo: true, forceShare: true, ...given });
  } catch (error) {
    const { message, hint } = withPrefix('', error);
    throw new CliError(message, { hint: `${hint}Could not open backing image.\n`, cause: error });
  }
  if (format !== undefined) return node;
  node.close();
  throw new CliError('Backing file specified without backing format', { hint: `Detected format of ${node.driver}.` });
}
