/** `compare`: whether two disks read alike. Exit code 0: they do, 1: they differ, more: that could not be found out. */
import { isZero } from '../../util/bytes.js';
import type { BlockNode, ChainStatus } from '../graph/block-node.js';
import { chainStatus } from '../graph/chain-status.js';
import { errorWords } from '../text/errno.js';
import { reportError, reportThrown, UsageError } from '../text/messages.js';
import {
  FORCE_SHARE,
  IMAGE_OPTS,
  letter,
  OBJECT,
  readCommandLine,
  Reported,
  type Command,
  type CommandContext,
} from './command.js';
import { cacheMode, openImageArgument, type ImageArgument, type ImageFlags } from './open-image.js';
import { Progress } from './progress.js';

/** Exit codes. */
const DIFFERENT = 1;
const NOT_OPENED = 2;
const NO_STATUS = 3;
const NOT_READ = 4;

const CHUNK = 2 * 1024 * 1024;
const SECTOR = 512;

export const run: Command = async (args, context) => {
  const letters = [letter('f', true), letter('F', true), letter('T', true), letter('p'), letter('q'), letter('s')];
  const line = readCommandLine(args, [...letters, OBJECT, IMAGE_OPTS, FORCE_SHARE], context);
  const [first, second] = line.operands;
  if (first === undefined || second === undefined || line.operands.length > 2) {
    throw new UsageError('Expecting two image file names');
  }
  const imageOpts = line.has('image-opts');
  const quiet = line.has('q');
  const progress = new Progress(context.console, { enabled: line.has('p') && !quiet, minSkip: 2 });
  const opened: Side[] = [];
  try {
    const flags = () => ({
      ...{ readOnly: true, secrets: line.secrets, forceShare: line.has('force-share') },
      cache: cacheMode(line.value('T') ?? 'writeback', 'source cache'),
    });
    opened.push(await openSide(context, { name: first, format: line.value('f'), imageOpts }, flags));
    opened.push(await openSide(context, { name: second, format: line.value('F'), imageOpts }, flags));
    const print = (text: string): void => (quiet ? undefined : context.console.out(text));
    const comparison = new Comparison([opened[0]!, opened[1]!], { context, print, progress, strict: line.has('s') });
    return (await comparison.run()) ? 0 : DIFFERENT;
  } finally {
    for (const { node } of opened.reverse()) node.close();
    progress.end();
  }
};

interface Side {
  readonly name: string;
  readonly node: BlockNode;
}

async function openSide(context: CommandContext, image: ImageArgument, flags: () => ImageFlags): Promise<Side> {
  try {
    return { name: image.name, node: await openImageArgument(context, image, flags()) };
  } catch (error) {
    reportThrown(context.console, error);
    throw new Reported(NOT_OPENED);
  }
}

interface ComparisonOptions {
  readonly context: CommandContext;
  readonly print: (text: string) => void;
  readonly progress: Progress;
  readonly strict: boolean;
}

class Comparison {
  readonly #sides: readonly [Side, Side];
  readonly #options: ComparisonOptions;
  readonly #longest: number;

  constructor(sides: readonly [Side, Side], options: ComparisonOptions) {
    this.#sides = sides;
    this.#options = options;
    this.#longest = Math.max(sides[0].node.size, sides[1].node.size);
  }

  /** True if they are alike. Throws `Reported` where that can't be found out. */
  async run(): Promise<boolean> {
    const { print, progress, strict, context } = this.#options;
    const [first, second] = this.#sides;
    const sameSize = first.node.size === second.node.size;
    progress.add(0);
    if (strict && !sameSize) {
      print('Strict mode: Image size mismatch!\n');
      return false;
    }
    const common = Math.min(first.node.size, second.node.size);
    context.interrupts.guard();
    for (let at = 0; at < common;) {
      const length = this.#compareAt(at);
      if (length === null) return false;
      at += length;
      this.#passed(length);
      await context.interrupts.breathe();
    }
    if (!sameSize) {
      print('Warning: Image size mismatch!\n');
      const longer = first.node.size > second.node.size ? first : second;
      if (!(await this.#isEmptyFrom(longer, common))) return false;
    }
    print('Images are identical.\n');
    return true;
  }

  /** How many bytes from `at` on are alike, or null if the first are not. */
  #compareAt(at: number): number | null {
    const [first, second] = this.#sides;
    const one = this.#status(first, at);
    const other = this.#status(second, at);
    const length = Math.min(one.length, other.length);
    if (this.#options.strict && !sameStatus(one, other)) {
      this.#options.print(`Strict mode: Offset ${at} block status mismatch!\n`);
      return null;
    }
    if (one.zero && other.zero) return length;
    if (one.allocated !== other.allocated) {
      const chunk = Math.min(length, CHUNK);
      return this.#isEmpty(one.allocated ? first : second, at, chunk) ? chunk : null;
    }
    if (!one.allocated) return length;
    const chunk = Math.min(length, CHUNK);
    const difference = firstDifference(this.#read(first, at, chunk), this.#read(second, at, chunk));
    if (difference === null) return chunk;
    this.#options.print(`Content mismatch at offset ${at + difference}!\n`);
    return null;
  }

  async #isEmptyFrom(side: Side, start: number): Promise<boolean> {
    for (let at = start; at < side.node.size;) {
      const { length, allocated, zero } = this.#status(side, at);
      const chunk = allocated && !zero ? Math.min(length, CHUNK) : length;
      if (allocated && !zero && !this.#isEmpty(side, at, chunk)) return false;
      at += chunk;
      this.#passed(chunk);
      await this.#options.context.interrupts.breathe();
    }
    return true;
  }

  #isEmpty(side: Side, at: number, length: number): boolean {
    const bytes = this.#read(side, at, length);
    for (let sector = 0; sector < length; sector += SECTOR) {
      if (isZero(bytes.subarray(sector, sector + SECTOR))) continue;
      this.#options.print(`Content mismatch at offset ${at + sector}!\n`);
      return false;
    }
    return true;
  }

  #status({ name, node }: Side, at: number): ChainStatus {
    try {
      return chainStatus(node, { offset: at, length: node.size - at });
    } catch (error) {
      errorWords(error);
      reportError(this.#options.context.console, `Sector allocation test failed for ${name}`);
      throw new Reported(NO_STATUS);
    }
  }

  #read({ name, node }: Side, at: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    try {
      node.read(at, bytes);
      return bytes;
    } catch (error) {
      const { words } = errorWords(error);
      reportError(this.#options.context.console, `Error while reading offset ${at} of ${name}: ${words}`);
      throw new Reported(NOT_READ);
    }
  }

  #passed(bytes: number): void {
    this.#options.progress.add((bytes / this.#longest) * 100);
  }
}

/** Also whether the bytes lie in a file as they are: compressed or encrypted ones don't. */
function sameStatus(one: ChainStatus, other: ChainStatus): boolean {
  const sameKind = one.allocated === other.allocated && one.data === other.data && one.zero === other.zero;
  return sameKind && (one.host === null) === (other.host === null);
}

/** The start of the first sector that differs. */
function firstDifference(one: Uint8Array, other: Uint8Array): number | null {
  if (Buffer.compare(one, other) === 0) return null;
  for (let at = 0; at < one.length; at += SECTOR) {
    if (Buffer.compare(one.subarray(at, at + SECTOR), other.subarray(at, at + SECTOR)) !== 0) return at;
  }
  return null;
}
