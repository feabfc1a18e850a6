/** The command line of `convert`. */
import type { SnapshotKey } from '../../operations/snapshots/snapshot-info.js';
import type { Secrets } from '../graph/secrets.js';
import { CliError } from '../text/messages.js';
import { isJoinable } from '../text/option-list.js';
import { parseNumber } from '../text/sizes.js';
import {
  FORCE_SHARE,
  IMAGE_OPTS,
  joinOptionLists,
  letter,
  OBJECT,
  readCommandLine,
  sizeArgument,
  type CommandContext,
} from './command.js';
import { snapshotKey } from './copy-source.js';

export interface ConvertLine {
  readonly sources: readonly string[];
  readonly sourceFormat: string | undefined;
  readonly imageOpts: boolean;
  readonly snapshot: SnapshotKey | null;
  readonly target: string | undefined;
  /** Null where `--target-image-opts` say it. */
  readonly format: string | null;
  readonly options: string | null;
  readonly backing: string | undefined;
  readonly backingFormat: string | undefined;
  readonly skipCreate: boolean;
  readonly targetImageOpts: boolean;
  readonly targetIsZero: boolean;
  readonly compressed: boolean;
  /** Bytes. */
  readonly minSparse: number;
  readonly salvage: boolean;
  readonly bitmaps: boolean;
  readonly skipBrokenBitmaps: boolean;
  readonly rateLimit: number;
  readonly cache: string;
  readonly sourceCache: string;
  readonly progress: boolean;
  readonly quiet: boolean;
  readonly forceShare: boolean;
  readonly secrets: Secrets;
}

const LONG = ['target-image-opts', 'salvage', 'target-is-zero', 'bitmaps', 'skip-broken-bitmaps'];
const WITH_VALUE = ['f', 'O', 'B', 'F', 'o', 'l', 'S', 't', 'T', 'm', 'r'];
const WITHOUT_VALUE = ['C', 'c', 'p', 'q', 'n', 'W'];

const SPECS = [
  ...WITH_VALUE.map((short) => letter(short, true)),
  ...WITHOUT_VALUE.map((short) => letter(short)),
  ...LONG.map((long) => ({ name: long, long })),
  ...[OBJECT, IMAGE_OPTS, FORCE_SHARE],
];

const SECTOR = 512n;
const MAX_SPARSE = 32768n * SECTOR;
const DEFAULT_SPARSE = 4096;
/** QEMU's; here the copy is made in one sequence, whatever the number. */
const MOST_COROUTINES = 16n;

/** Throws for what can't be understood, or does not go together. */
export function readConvertLine(args: readonly string[], context: CommandContext): ConvertLine {
  let options: string | null = null;
  let minSparse = DEFAULT_SPARSE;
  let rateLimit = 0;
  let snapshot: SnapshotKey | null = null;
  const line = readCommandLine(args, SPECS, context, ({ name, value }) => {
    if (name === 'o') options = joinOptionLists(options, value, isJoinable);
    if (name === 'l') snapshot = snapshotKey(value);
    if (name === 'S') minSparse = sparseSize(value);
    if (name === 'm') checkCoroutines(value);
    if (name === 'r') rateLimit = Number(sizeArgument('rate limit', value));
  });
  const targetImageOpts = line.has('target-image-opts');
  const read: ConvertLine = {
    ...{ options, minSparse, rateLimit, snapshot, targetImageOpts },
    sources: line.operands.slice(0, -1),
    target: line.operands.length > 1 ? line.operands.at(-1) : undefined,
    sourceFormat: line.value('f'),
    imageOpts: line.has('image-opts'),
    format: line.value('O') ?? (targetImageOpts ? null : 'raw'),
    backing: line.value('B'),
    backingFormat: line.value('F'),
    skipCreate: line.has('n'),
    targetIsZero: line.has('target-is-zero'),
    compressed: line.has('c'),
    salvage: line.has('salvage'),
    bitmaps: line.has('bitmaps'),
    skipBrokenBitmaps: line.has('skip-broken-bitmaps'),
    cache: line.value('t') ?? 'unsafe',
    sourceCache: line.value('T') ?? 'writeback',
    progress: line.has('p'),
    quiet: line.has('q'),
    forceShare: line.has('force-share'),
    secrets: line.secrets,
  };
  if (read.skipBrokenBitmaps && !read.bitmaps) {
    throw new CliError('Use of --skip-broken-bitmaps requires --bitmaps');
  }
  if (line.has('C')) checkOffloading(read, line.has('S'));
  checkSkipCreate(read);
  return read;
}

function sparseSize(text: string): number {
  const bytes = sizeArgument('buffer size for sparse output', text);
  if (bytes % SECTOR === 0n && bytes <= MAX_SPARSE) return Number(bytes);
  const limits = `Valid sizes are multiples of ${SECTOR} up to ${MAX_SPARSE}.`;
  const zero = 'Select 0 to disable sparse detection (fully allocates output).';
  throw new CliError(`Invalid buffer size for sparse output specified. ${limits} ${zero}`);
}

function checkCoroutines(text: string): void {
  const parsed = parseNumber(text);
  if (parsed.kind === 'number' && parsed.value >= 1n && parsed.value <= MOST_COROUTINES) return;
  const limits = `Allowed number of coroutines is between 1 and ${MOST_COROUTINES}`;
  throw new CliError(`Invalid number of coroutines. ${limits}`);
}

/** `-C` asks the host to copy from file to file; Node can't ask it, and the copy is made as without. */
function checkOffloading({ compressed, salvage }: ConvertLine, sparseGiven: boolean): void {
  if (compressed) throw new CliError('Cannot enable copy offloading when -c is used');
  if (sparseGiven) throw new CliError('Cannot enable copy offloading when -S is used');
  if (salvage) throw new CliError('Cannot use copy offloading in salvaging mode');
}

function checkSkipCreate({ skipCreate, targetImageOpts, options, targetIsZero }: ConvertLine): void {
  if (targetImageOpts && !skipCreate) throw new CliError('--target-image-opts requires use of -n flag');
  if (skipCreate && options !== null) throw new CliError('-o has no effect when skipping image creation');
  if (targetIsZero && !skipCreate) throw new CliError('--target-is-zero requires use of -n flag');
}
