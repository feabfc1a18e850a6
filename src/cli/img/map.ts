/** `map`: which bytes of a disk are where, and in which file of the backing chain. */
import type { BlockNode } from '../graph/block-node.js';
import { CliError } from '../text/messages.js';
import {
  FORCE_SHARE,
  IMAGE_OPTS,
  OBJECT,
  offsetArgument,
  oneFileName,
  OUTPUT,
  outputFormat,
  readCommandLine,
  type Command,
} from './command.js';
import { openImageArgument } from './open-image.js';

const FORMAT = { name: 'format', short: 'f', long: 'format', argument: true };
const START = { name: 'start', short: 's', long: 'start-offset', argument: true };
const LENGTH = { name: 'length', short: 'l', long: 'max-length', argument: true };

interface MapEntry {
  readonly start: number;
  readonly length: number;
  readonly data: boolean;
  readonly zero: boolean;
  readonly present: boolean;
  readonly depth: number;
  readonly offset: number | null;
  /** Where `offset` counts from; null where there is none. */
  readonly fileName: string | null;
}

const NOTHING: MapEntry = {
  ...{ start: 0, length: 0, data: false, zero: false, present: false, depth: 0, offset: null, fileName: null },
};

export const run: Command = async (args, context) => {
  let start = 0;
  let most: number | null = null;
  const specs = [FORMAT, START, LENGTH, OUTPUT, OBJECT, IMAGE_OPTS, FORCE_SHARE];
  const line = readCommandLine(args, specs, context, ({ name, value }) => {
    if (name === 'start') start = offsetArgument('start offset', value);
    if (name === 'length') most = offsetArgument('max length', value);
  });
  const image = { name: oneFileName(line), format: line.value('format'), imageOpts: line.has('image-opts') };
  const output = outputFormat(line);
  const flags = { readOnly: true, secrets: line.secrets, forceShare: line.has('force-share') };
  const node = await openImageArgument(context, image, flags);
  const { console } = context;
  try {
    const end = most === null ? node.size : Math.min(start + most, node.size);
    if (output === 'json') console.out('[');
    else console.out(`${'Offset'.padEnd(16)}${'Length'.padEnd(16)}${'Mapped to'.padEnd(16)}File\n`);
    for (const [entry, last] of entries(node, { start, end }, output === 'human')) {
      if (output === 'json') console.out(jsonLine(entry) + (last ? '' : ',\n'));
      else console.out(humanLine(entry));
    }
    if (output === 'json') console.out(']\n');
  } finally {
    node.close();
  }
  return 0;
};

/** The entries, each with whether it is the last; at least one, which is empty when there is nothing to show. */
function* entries(
  node: BlockNode,
  { start, end }: { start: number; end: number },
  human: boolean,
): Generator<[entry: MapEntry, last: boolean]> {
  let current: MapEntry = { ...NOTHING, start };
  while (current.start + current.length < end) {
    const from = current.start + current.length;
    const next = entryAt(node, from, end - from);
    if (mergeable(current, next)) {
      current = { ...current, length: current.length + next.length };
      continue;
    }
    if (current.length > 0) yield [current, false];
    // People are shown no difference between what reads as zeroes and what is not there.
    const empty = current.length > 0 && human && (!next.data || next.zero);
    current = empty ? { ...next, data: false, zero: true } : next;
  }
  yield [current, true];
}

/** The first node of the chain that says anything of it answers. */
function entryAt(top: BlockNode, start: number, most: number): MapEntry {
  let node = top;
  let limit = most;
  for (let depth = 0; ; depth++) {
    const { length, data, zero, allocated, host } = node.status(start, limit);
    const { backing } = node;
    if (data || zero || backing === null) {
      const fileName = host === null ? null : ((node.dataFile ?? node.file)?.fileName ?? null);
      return { start, length, data, zero, present: allocated, depth, offset: host, fileName };
    }
    limit = Math.min(length, backing.size - start);
    node = backing;
  }
}

function mergeable(first: MapEntry, next: MapEntry): boolean {
  if (first.length === 0) return false;
  const same = (['data', 'zero', 'present', 'depth', 'fileName'] as const).every((key) => first[key] === next[key]);
  return same && (first.offset === null ? null : first.offset + first.length) === next.offset;
}

function humanLine({ start, length, data, zero, offset, fileName }: MapEntry): string {
  if (data && offset === null) throw new CliError('File contains external, encrypted or compressed clusters.');
  if (!data || zero) return '';
  const column = (value: number): string => (value === 0 ? '0' : `0x${value.toString(16)}`).padEnd(16);
  return `${column(start)}${column(length)}${column(offset ?? 0)}${fileName ?? ''}\n`;
}

function jsonLine({ start, length, depth, present, zero, data, offset }: MapEntry): string {
  const where = offset === null ? '' : `, "offset": ${offset}`;
  const kind = `"present": ${present}, "zero": ${zero}, "data": ${data}`;
  return `{ "start": ${start}, "length": ${length}, "depth": ${depth}, ${kind}${where}}`;
}
