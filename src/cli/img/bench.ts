/**
 * `bench`: how long a number of like requests takes. The engine carries out one after the other, whatever the depth of the queue that is
 * asked for.
 */
import type { BlockNode } from '../graph/block-node.js';
import { errorWords } from '../text/errno.js';
import { CliError, type Console } from '../text/messages.js';
import { parseNumber } from '../text/sizes.js';
import {
  FORCE_SHARE,
  IMAGE_OPTS,
  letter,
  offsetArgument,
  oneFileName,
  readCommandLine,
  sizeArgument,
  type Command,
  type CommandContext,
  type CommandLine,
} from './command.js';
import { cacheMode, openImageArgument } from './open-image.js';

const LARGEST_INT = 2n ** 31n - 1n;

const SPECS = [
  ...['c', 'd', 'f', 'i', 'o', 's', 'S', 't'].map((short) => letter(short, true)),
  ...['n', 'q', 'w'].map((short) => letter(short)),
  { name: 'flush-interval', long: 'flush-interval', argument: true },
  { name: 'pattern', long: 'pattern', argument: true },
  { name: 'no-drain', long: 'no-drain' },
  ...[IMAGE_OPTS, FORCE_SHARE],
];

interface Bench {
  readonly count: number;
  readonly depth: number;
  readonly offset: number;
  readonly size: number;
  readonly step: number;
  readonly write: boolean;
  readonly pattern: number;
  readonly flushInterval: number;
}

export const run: Command = async (args, context) => {
  const line = readCommandLine(args, SPECS, context, ({ name, value }) => {
    if (name === 'i' && !['threads', 'native', 'io_uring'].includes(value)) {
      throw new CliError(`Invalid aio option: ${value}`);
    }
  });
  const bench = readBench(line);
  const image = { name: oneFileName(line), format: line.value('f'), imageOpts: line.has('image-opts') };
  if (!bench.write && bench.flushInterval > 0) {
    throw new CliError('--flush-interval is only available in write tests');
  }
  if (bench.flushInterval > 0 && bench.flushInterval < bench.depth) {
    throw new CliError("Flush interval can't be smaller than depth");
  }
  const cache = cacheMode(line.value('t') ?? 'writeback');
  const node = await openImageArgument(context, image, {
    readOnly: !bench.write,
    cache,
    forceShare: line.has('force-share'),
  });
  try {
    announce(context.console, bench);
    const started = performance.now();
    await sendAll(context, node, bench);
    const seconds = (performance.now() - started) / 1000;
    context.console.out(`Run completed in ${seconds.toFixed(3)} seconds.\n`);
  } finally {
    node.close();
  }
  return 0;
};

function readBench(line: CommandLine): Bench {
  const number = (name: string, otherwise: number, message: string, max = LARGEST_INT): number => {
    const text = line.value(name);
    if (text === undefined) return otherwise;
    const parsed = parseNumber(text);
    if (parsed.kind !== 'number' || parsed.value > max) throw new CliError(message);
    return Number(parsed.value);
  };
  const bytes = (name: string, what: string, otherwise: number): number => {
    const text = line.value(name);
    return text === undefined ? otherwise : Number(sizeArgument(what, text, { max: LARGEST_INT }));
  };
  const size = bytes('s', 'buffer size', 4096);
  const offset = line.value('o');
  return {
    count: number('c', 75000, 'Invalid request count specified'),
    depth: number('d', 64, 'Invalid queue depth specified'),
    offset: offset === undefined ? 0 : offsetArgument('offset', offset),
    size,
    step: bytes('S', 'step_size', 0) || size,
    write: line.has('w'),
    pattern: number('pattern', 0, 'Invalid pattern byte specified', 0xffn),
    flushInterval: number('flush-interval', 0, 'Invalid flush interval specified'),
  };
}

function announce(console: Console, { count, depth, offset, size, step, write, flushInterval }: Bench): void {
  const kind = write ? 'write' : 'read';
  const where = `starting at offset ${offset}, step size ${step}`;
  console.out(`Sending ${count} ${kind} requests, ${size} bytes each, ${depth} in parallel (${where})\n`);
  if (flushInterval > 0) console.out(`Sending flush every ${flushInterval} requests\n`);
}

async function sendAll({ interrupts }: CommandContext, node: BlockNode, bench: Bench): Promise<void> {
  const buffer = new Uint8Array(bench.size).fill(bench.pattern);
  let { offset } = bench;
  interrupts.guard();
  for (let sent = 0; sent < bench.count; sent++) {
    try {
      if (bench.write) node.write(offset, buffer);
      else node.read(offset, buffer);
      if (bench.flushInterval > 0 && (sent + 1) % bench.flushInterval === 0) node.flush();
    } catch (error) {
      throw new CliError(`Failed request: ${errorWords(error).words}`, { cause: error });
    }
    offset = node.size === 0 ? 0 : (offset + bench.step) % node.size;
    await interrupts.breathe();
  }
}
