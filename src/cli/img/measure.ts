/** `measure`: how long the file of a new image will be. */
import { luksAreaBytes } from '../../crypto/luks-create.js';
import { geometryOf, l1EntriesFor } from '../../format/geometry.js';
import { MAX_L1_BYTES } from '../../format/limits.js';
import type { SnapshotKey } from '../../operations/snapshots/snapshot-info.js';
import { measureBitmaps, measureNew, type MeasureOptions } from '../../operations/measure.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { alignDown, alignUp } from '../../util/integers.js';
import type { Secrets } from '../graph/secrets.js';
import { parseOptions } from '../text/getopt.js';
import { jsonText } from '../text/json-text.js';
import { CliError, reportError, reportThrown } from '../text/messages.js';
import { boolOption, isJoinable } from '../text/option-list.js';
import { toNumber } from '../text/sizes.js';
import {
  FORCE_SHARE,
  HELP,
  HelpWanted,
  IMAGE_OPTS,
  joinOptionLists,
  letter,
  OBJECT,
  OUTPUT,
  outputFormat,
  readCommandLine,
  Reported,
  sizeArgument,
  type Command,
  type CommandContext,
  type CommandLine,
} from './command.js';
import { nodeSource, snapshotKey, snapshotSource, type CopySource } from './copy-source.js';
import { OptionValues } from './creation-options.js';
import { creatableFormat, creationTable, type Format } from './formats.js';
import { openImageArgument } from './open-image.js';
import { clusterSizeOf, luksOptions, preallocationOf, refcountBitsOf } from './qcow2-settings.js';

const SIZE = { name: 'size', long: 'size', argument: true };
const SPECS = [
  ...['f', 'O', 'o', 'l'].map((short) => letter(short, true)),
  OUTPUT,
  SIZE,
  OBJECT,
  IMAGE_OPTS,
  FORCE_SHARE,
];

interface Measured {
  readonly required: bigint;
  readonly fullyAllocated: bigint;
  /** Bytes for the bitmaps of the source, where both formats have bitmaps. */
  readonly bitmaps?: number;
}

export const run: Command = async (args, context) => {
  let list: string | null = null;
  let snapshot: SnapshotKey | null = null;
  let size: bigint | null = null;
  const line = readLine(args, context, ({ name, value }) => {
    if (name === 'o') list = joinOptionLists(list, value, isJoinable);
    if (name === 'l') snapshot = snapshotKey(value);
    if (name === 'size') size = sizeArgument('image size', value);
    if (name === 'output' && value !== 'human' && value !== 'json') {
      throw new CliError('--output must be used with human or json as argument.');
    }
  });
  const [name] = line.operands;
  checkLine(line, { snapshot, size });
  const measured =
    name === undefined
      ? measure(context, { format: line.value('O'), list, size }, null)
      : await measureImage(context, line, { name, snapshot, list });
  const { required, fullyAllocated, bitmaps } = measured;
  if (outputFormat(line) === 'json') {
    const object = { required, 'fully-allocated': fullyAllocated, bitmaps };
    context.console.out(`${jsonText(object, { pretty: true })}\n`);
  } else {
    context.console.out(`required size: ${required}\nfully allocated size: ${fullyAllocated}\n`);
    if (bitmaps !== undefined) context.console.out(`bitmaps size: ${bitmaps}\n`);
  }
  return 0;
};

/** This command lets the C library complain, and then shows the help. */
function readLine(
  args: readonly string[],
  context: CommandContext,
  each: Parameters<typeof readCommandLine>[3],
): CommandLine {
  const { options, problem } = parseOptions(args, [HELP, ...SPECS], { command: context.command });
  const wantsHelp = options.some(({ name }) => name === 'help');
  if (problem === null || wantsHelp) return readCommandLine(args, SPECS, context, each);
  context.console.err(`${context.command}: ${problem.message}\n`);
  throw new HelpWanted();
}

function checkLine(line: CommandLine, { snapshot, size }: { snapshot: SnapshotKey | null; size: bigint | null }): void {
  const files = line.operands.length;
  if (files > 1) throw new CliError('At most one filename argument is allowed.');
  if (files === 0 && (line.has('image-opts') || line.has('f') || snapshot !== null)) {
    throw new CliError('--image-opts, -f, and -l require a filename argument.');
  }
  if (files === 1 && size !== null) throw new CliError('--size N cannot be used together with a filename.');
  if (files === 0 && size === null) throw new CliError('Either --size N or one filename must be specified.');
}

async function measureImage(
  context: CommandContext,
  line: CommandLine,
  { name, snapshot, list }: { name: string; snapshot: SnapshotKey | null; list: string | null },
): Promise<Measured> {
  const image = { name, format: line.value('f'), imageOpts: line.has('image-opts') };
  const secrets: Secrets = line.secrets;
  const node = await openImageArgument(context, image, {
    readOnly: true,
    forceShare: line.has('force-share'),
    secrets,
  });
  try {
    const source = snapshot === null ? nodeSource(node) : snapshotSource(node, snapshot);
    return measure(context, { format: line.value('O'), list, size: null }, { ...source, image: node.image });
  } finally {
    node.close();
  }
}

interface Target {
  readonly format: string | undefined;
  readonly list: string | null;
  readonly size: bigint | null;
}

/** What is measured, and the image with its bitmaps. */
interface MeasureSource extends CopySource {
  readonly image: Qcow2Image | null;
}

function measure(
  context: CommandContext,
  { format: name = 'raw', list, size }: Target,
  source: MeasureSource | null,
): Measured {
  const format = creatableFormat(name);
  const values = new OptionValues(creationTable(format));
  if (list !== null) parseOrExplain(context, values, { list, format });
  if (size !== null) values.set('size', String(size));
  if (format === 'qcow2') return measureQcow2(values, source);
  return measurePlain(values, source, format === 'luks' ? luksAreaBytes(luksOptions(values, '')) : 0);
}

function parseOrExplain(
  { console }: CommandContext,
  values: OptionValues,
  given: { list: string; format: Format },
): void {
  try {
    values.parse(given.list);
  } catch (error) {
    reportThrown(console, error);
    reportError(console, `Invalid options for file format '${given.format}'`);
    throw new Reported();
  }
}

/** A format that has the disk in one piece, behind a header. */
function measurePlain(values: OptionValues, source: CopySource | null, headerBytes: number): Measured {
  const bytes = source === null ? (values.size('size') ?? 0n) : BigInt(source.size);
  const required = ((bytes + 511n) / 512n) * 512n + BigInt(headerBytes);
  return { required, fullyAllocated: required };
}

const TOO_LARGE = 'The image size is too large (try using a larger cluster size)';

function measureQcow2(values: OptionValues, source: MeasureSource | null): Measured {
  const options = measureOptions(values);
  const { clusterSize } = options;
  const given = toNumber(values.size('size') ?? 0n);
  const size = source?.size ?? given;
  const geometry = geometryOf(Math.log2(clusterSize), Math.log2(options.refcountBits), options.extendedL2);
  const wanted = given === null ? Infinity : alignUp(given, clusterSize);
  if (size === null || l1EntriesFor(geometry, wanted) > MAX_L1_BYTES / 8) throw new CliError(TOO_LARGE);
  if (l1EntriesFor(geometry, size) > MAX_L1_BYTES / 8) throw new CliError(TOO_LARGE);
  const measured = measureNew(size, options);
  const { preallocation } = options;
  const image = source?.image;
  const whole = preallocation === 'falloc' || preallocation === 'full';
  const data = source === null || whole ? 0 : dataBytes(source, options);
  return {
    required: BigInt(measured.required) + BigInt(data),
    fullyAllocated: BigInt(measured.fullyAllocated),
    ...(image == null || Math.min(options.version ?? 3, image.header.version) < 3
      ? {}
      : { bitmaps: measureBitmaps(image, clusterSize) }),
  };
}

type Qcow2Measure = MeasureOptions & Required<Pick<MeasureOptions, 'clusterSize' | 'refcountBits' | 'extendedL2'>>;

function measureOptions(values: OptionValues): Qcow2Measure {
  const extended = values.get('extended_l2');
  const extendedL2 = extended !== undefined && boolOption('extended_l2', extended);
  const clusterSize = clusterSizeOf(values, extendedL2);
  const compat = values.get('compat') ?? '1.1';
  if (compat !== '0.10' && compat !== '1.1') throw new CliError(`Invalid compatibility level: '${compat}'`);
  const version = compat === '0.10' ? 2 : 3;
  const refcountBits = refcountBitsOf(values, version);
  const preallocation = preallocationOf(values);
  const encryption = values.get('encrypt.format') === 'luks' ? { encryption: luksOptions(values, 'encrypt.') } : {};
  return { clusterSize, version, refcountBits, extendedL2, preallocation, ...encryption, ...backingOf(values) };
}

function backingOf(values: OptionValues): Pick<MeasureOptions, 'hasBacking'> {
  return values.get('backing_file') === undefined ? {} : { hasBacking: true };
}

/** Bytes of the clusters of the new image that hold data. All of them where what a backing file holds is not known. */
function dataBytes(source: CopySource, { clusterSize, hasBacking }: Qcow2Measure): number {
  if (hasBacking === true) return alignUp(source.size, clusterSize);
  let sum = 0;
  for (let at = 0; at < source.size;) {
    const { length, data, zero } = source.status(at, source.size - at, false);
    const end = data && !zero ? alignUp(at + length, clusterSize) : at + length;
    if (data && !zero) sum += end - alignDown(at, clusterSize);
    at = end;
  }
  return sum;
}
