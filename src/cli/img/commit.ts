/** `commit`: what an image holds goes into its backing file, or into one further down with `-b`. */
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { makeEmpty } from '../../operations/make-empty.js';
import { alignDown, alignUp } from '../../util/integers.js';
import type { BlockNode } from '../graph/block-node.js';
import { chainStatus } from '../graph/chain-status.js';
import { errorWords } from '../text/errno.js';
import { CliError } from '../text/messages.js';
import { findBackingNode } from './backing-chain.js';
import {
  IMAGE_OPTS,
  letter,
  OBJECT,
  oneFileName,
  readCommandLine,
  sizeArgument,
  type Command,
  type CommandContext,
} from './command.js';
import { Interrupted } from './interrupts.js';
import { cacheMode, openImageArgument } from './open-image.js';
import { Progress } from './progress.js';

/** The unit in which the base is written: a cluster of it, within these limits. */
const SMALLEST_UNIT = 4096;
const LARGEST_UNIT = 65536;
const CHUNK = 2 * 1024 * 1024;

export const run: Command = async (args, context) => {
  let rateLimit = 0;
  const specs = [...['f', 't', 'b', 'r'].map((short) => letter(short, true)), letter('d'), letter('p'), letter('q')];
  const line = readCommandLine(args, [...specs, OBJECT, IMAGE_OPTS], context, ({ name, value }) => {
    if (name === 'r') rateLimit = Number(sizeArgument('rate limit', value));
  });
  const quiet = line.has('q');
  const image = { name: oneFileName(line), format: line.value('f'), imageOpts: line.has('image-opts') };
  const cache = cacheMode(line.value('t') ?? 'writeback');
  const node = await openImageArgument(context, image, { cache, unmap: true, secrets: line.secrets });
  const progress = new Progress(context.console, { enabled: line.has('p') && !quiet, minSkip: 1 });
  try {
    progress.add(0);
    const base = baseOf(node, image.name, line.value('b'));
    await new CommitJob(context, { top: node, base, rateLimit, progress }).run();
    // `-b` leaves other images between, which still need what is in this one.
    const drop = line.has('d') || line.has('b');
    if (!drop && node.image !== null) await empty(context, node, node.image);
    progress.set(100);
  } finally {
    progress.end();
    node.close();
  }
  if (!quiet) context.console.out('Image committed.\n');
  return 0;
};

async function empty({ interrupts }: CommandContext, { fileName }: BlockNode, image: Qcow2Image): Promise<void> {
  try {
    await interrupts.run(makeEmpty(image, { committed: true }));
  } catch (error) {
    if (error instanceof Interrupted) throw error;
    throw new CliError(`Failed to empty ${fileName}: ${errorWords(error).words}`, { cause: error });
  }
}

function baseOf(node: BlockNode, fileName: string, name: string | undefined): BlockNode {
  if (name === undefined) {
    if (node.backing === null) throw new CliError('Image does not have a backing file');
    return node.backing;
  }
  const base = findBackingNode(node, name);
  if (base === null) throw new CliError(`Did not find '${name}' in the backing chain of '${fileName}'`);
  return base;
}

interface CommitParts {
  readonly top: BlockNode;
  readonly base: BlockNode;
  /** Bytes a second, 0 for no limit. */
  readonly rateLimit: number;
  readonly progress: Progress;
}

class CommitJob {
  readonly #context: CommandContext;
  readonly #parts: CommitParts;

  constructor(context: CommandContext, parts: CommitParts) {
    this.#context = context;
    this.#parts = parts;
  }

  async run(): Promise<void> {
    const { top, base } = this.#parts;
    try {
      base.reopen({ readOnly: false, options: new Map() });
      if (base.size < top.size) base.resize(top.size);
      await this.#copy();
      base.flush();
    } catch (error) {
      if (error instanceof Interrupted || error instanceof CliError) throw error;
      throw new CliError(`Block job failed: ${errorWords(error).words}`, { cause: error });
    }
  }

  async #copy(): Promise<void> {
    const { top, base, progress, rateLimit } = this.#parts;
    const unit = Math.min(LARGEST_UNIT, Math.max(SMALLEST_UNIT, base.image?.clusterSize ?? LARGEST_UNIT));
    const { interrupts } = this.#context;
    interrupts.guard();
    const started = performance.now();
    let copied = 0;
    for (let at = 0; at < top.size;) {
      const { length, allocated } = chainStatus(top, { offset: at, length: top.size - at }, base);
      let end = at + length;
      if (allocated) {
        end = Math.min(top.size, alignUp(end, unit), alignDown(at, unit) + CHUNK);
        copied += this.#copyRange(alignDown(at, unit), end);
      }
      at = end;
      progress.set((100 * at) / top.size);
      await interrupts.hold(started, { bytes: copied, rateLimit });
    }
  }

  /** Returns how many bytes were written out. */
  #copyRange(start: number, end: number): number {
    const { top, base } = this.#parts;
    let copied = 0;
    for (let at = start; at < end;) {
      const status = chainStatus(top, { offset: at, length: end - at });
      const length = Math.min(status.length, end - at);
      if (status.data && !status.zero) {
        const bytes = new Uint8Array(length);
        top.read(at, bytes);
        base.write(at, bytes);
        copied += length;
      } else {
        base.writeZeroes(at, length, { unmap: true });
      }
      at += length;
    }
    return copied;
  }
}
