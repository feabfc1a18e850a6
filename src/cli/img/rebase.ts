/**
 * `rebase`: another backing file. Where the new one reads otherwise than the old one, what the old one has is written to the image first,
 * so that its content is at all times what it was; with `-u` nobody looks, and the name alone is changed.
 */
import { isQcow2Error } from '../../errors.js';
import { changeBackingFile, type ForeignBackingFile, type NewBackingFile } from '../../operations/change-backing.js';
import type { BlockNode } from '../graph/block-node.js';
import { openNode } from '../graph/open-node.js';
import { errorWords } from '../text/errno.js';
import { fullBackingName } from '../text/file-name.js';
import { CliError, UsageError, withPrefix } from '../text/messages.js';
import { fileNameOf, findBackingNode } from './backing-chain.js';
import {
  FORCE_SHARE,
  IMAGE_OPTS,
  letter,
  OBJECT,
  oneFileName,
  readCommandLine,
  type Command,
  type CommandContext,
} from './command.js';
import { FORMATS, isFormatName } from './formats.js';
import { cacheMode, openImageArgument, type ImageFlags } from './open-image.js';
import { Progress } from './progress.js';
import { RebaseJob } from './rebase-job.js';

const LETTERS = [
  ...['f', 'F', 'b', 't', 'T'].map((short) => letter(short, true)),
  ...['u', 'p', 'q'].map((s) => letter(s)),
];

export const run: Command = async (args, context) => {
  const line = readCommandLine(args, [...LETTERS, OBJECT, IMAGE_OPTS, FORCE_SHARE], context);
  const unsafe = line.has('u');
  const backing = { name: line.value('b'), format: line.value('F') };
  const name = oneFileName(line);
  if (!unsafe && backing.name === undefined) {
    throw new UsageError('Must specify backing file (-b) or use unsafe mode (-u)');
  }
  const progress = new Progress(context.console, { enabled: line.has('p') && !line.has('q'), minSkip: 2 });
  const opened: BlockNode[] = [];
  try {
    progress.add(0);
    const cache = cacheMode(line.value('t') ?? 'writeback');
    const sourceCache = cacheMode(line.value('T') ?? 'writeback', 'source cache');
    const image = { name, format: line.value('f'), imageOpts: line.has('image-opts') };
    const flags = { cache, noBacking: unsafe, secrets: line.secrets };
    const node = await openImageArgument(context, image, flags);
    opened.push(node);
    if (backing.format !== undefined && !isFormatName(backing.format)) {
      throw new CliError(`Invalid format name: '${backing.format}'`);
    }
    if (!unsafe) {
      const below = { readOnly: true, cache: sourceCache, forceShare: line.has('force-share'), secrets: line.secrets };
      await keepContent(context, node, { backing, below, opened, progress });
    }
    changeBacking(node, backing);
    progress.set(100);
  } finally {
    progress.end();
    for (const node of opened) node.close();
  }
  return 0;
};

interface Backing {
  /** Empty for none. */
  readonly name: string | undefined;
  readonly format: string | undefined;
}

interface Safety {
  readonly backing: Backing;
  /** How the new backing file is opened. */
  readonly below: ImageFlags;
  /** Takes what is opened, to be closed. */
  readonly opened: BlockNode[];
  readonly progress: Progress;
}

async function keepContent(
  context: CommandContext,
  node: BlockNode,
  { backing, below, opened, progress }: Safety,
): Promise<void> {
  const full = backing.name === undefined || backing.name === '' ? null : backingPath(node, backing.name);
  const inChain = full === null ? null : findBackingNode(node, full);
  let next = inChain;
  if (full !== null && next === null) {
    const options = new Map(backing.format === undefined ? [] : [['driver', backing.format] as const]);
    try {
      next = await openNode({ fileName: full, options }, { ...below, console: context.console });
      opened.push(next);
    } catch (error) {
      throw withPrefix(`Could not open new backing file '${backing.name}': `, error);
    }
  }
  await new RebaseJob(context, { node, old: node.backing, next, inChain, progress }).run();
}

function backingPath(node: BlockNode, name: string): string {
  try {
    return fullBackingName(fileNameOf(node), name) ?? name;
  } catch (error) {
    throw withPrefix('Could not resolve backing filename: ', error);
  }
}

function recordOf(name: string, format: string): NewBackingFile | ForeignBackingFile {
  const known = FORMATS.find((each) => each === format);
  return known === undefined ? { name, foreignFormat: format } : { name, format: known };
}

function changeBacking(node: BlockNode, { name = '', format }: Backing): void {
  const prefix = `Could not change the backing file to '${name}': `;
  if (node.image === null) throw new CliError(`${prefix}Operation not supported`);
  if (name !== '' && format === undefined) throw new CliError(`${prefix}backing format must be specified`);
  try {
    changeBackingFile(node.image, name === '' || format === undefined ? null : recordOf(name, format));
  } catch (error) {
    if (isQcow2Error(error, 'LIMIT')) throw new CliError(`${prefix}No space left in the file header`, { cause: error });
    throw new CliError(prefix + errorWords(error).words, { cause: error });
  }
}
