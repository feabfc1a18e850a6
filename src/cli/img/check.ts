/** `check`: whether an image is sound, and `-r`: its repair. */
import { KNOWN_AUTOCLEAR } from '../../format/features.js';
import { HEADER_AT } from '../../format/header.js';
import { readHeader } from '../../metadata/header-state.js';
import type { Storage } from '../../storage/storage.js';
import { viewOf } from '../../util/big-endian.js';
import { runToEnd } from '../../util/steps.js';
import {
  checkImage,
  checkVerdict,
  type CheckEvent,
  type CheckResult,
  type Repair,
} from '../../operations/check/check-image.js';
import type { NodeReference, OpenFlags } from '../graph/block-node.js';
import { openProtocol } from '../graph/open-node.js';
import { readReference } from '../graph/reference.js';
import { checkLine, unreadWords } from '../text/check-lines.js';
import { strerror } from '../text/errno.js';
import { jsonText, type JsonObject } from '../text/json-text.js';
import { CliError, reportError, UsageError, type Console } from '../text/messages.js';
import {
  FORCE_SHARE,
  IMAGE_OPTS,
  letter,
  OBJECT,
  oneFileName,
  OUTPUT,
  outputFormat,
  readCommandLine,
  type Command,
  type CommandContext,
} from './command.js';
import { cacheMode, openImageArgument, referenceTo, type ImageArgument } from './open-image.js';

const FORMAT = { name: 'format', short: 'f', long: 'format', argument: true };
const REPAIR = { name: 'repair', short: 'r', long: 'repair', argument: true };

/** Exit codes, beside those of `verdict`. */
const NOT_SUPPORTED = 63;

export const run: Command = async (args, context) => {
  const specs = [FORMAT, REPAIR, letter('T', true), letter('q'), OUTPUT, OBJECT, IMAGE_OPTS, FORCE_SHARE];
  const line = readCommandLine(args, specs, context, ({ name, value }) => {
    if (name === 'repair') repairOf(value);
  });
  const image = { name: oneFileName(line), format: line.value('format'), imageOpts: line.has('image-opts') };
  const output = outputFormat(line);
  const cache = cacheMode(line.value('T') ?? 'writeback', 'source cache');
  const repair = line.has('repair') ? repairOf(line.value('repair')!) : 'none';
  const flags = { cache, secrets: line.secrets, forceShare: line.has('force-share'), console: context.console };
  const print = (text: string): void => (line.has('q') ? undefined : context.console.out(text));
  const result = await check(context, image, { repair, flags });
  if (result === null) {
    reportError(context.console, 'This image format does not support checks');
    return NOT_SUPPORTED;
  }
  const facts = result.remaining[0]?.facts;
  if (facts?.fact === 'snapshots-unread') throw new CliError(`Check failed: ${strerror(unreadWords(facts).errno)}`);
  if (output === 'json') print(`${jsonText(resultObject(image.name, result), { pretty: true })}\n`);
  else print(repairText(result) + resultText(result));
  if (result.checkErrors > 0) throw new CliError('Check failed');
  return result.corruptions > 0 ? 2 : result.leaks > 0 ? 3 : 0;
};

function repairOf(word: string): Repair {
  if (word === 'leaks' || word === 'all') return word;
  throw new UsageError(`Unknown option value for -r (expecting 'leaks' or 'all'): ${word}`);
}

interface CheckRequest {
  readonly repair: Repair;
  readonly flags: OpenFlags;
}

/** Null for a format that has nothing to check. What is found is said on stderr, line by line. */
async function check(
  context: CommandContext,
  image: ImageArgument,
  { repair, flags }: CheckRequest,
): Promise<CheckResult | null> {
  const node = await openImageArgument(context, image, { ...flags, readOnly: true, check: true });
  const qcow2 = node.image;
  const options = { onEvent: (event: CheckEvent): void => tell(context.console, event), rebuildMissing: true };
  try {
    if (qcow2 === null) return null;
    if (repair === 'none') return runToEnd(checkImage(qcow2, options));
  } finally {
    node.close();
  }
  const file = await openProtocol(fileOf(referenceTo(image)), flags);
  try {
    const result = runToEnd(checkImage(file.storage, { ...options, repair }));
    if (checkVerdict(result) === 0) dropUnknownAutoclear(file.storage);
    return result;
  } finally {
    file.close();
  }
}

/** A snapshot table that is not followed is an error message of the program; all else are lines of the check. */
function tell(console: Console, event: CheckEvent): void {
  const isMessage = event.event !== 'rebuild' && event.finding.facts?.fact === 'snapshots-unread';
  console.err(`${isMessage ? `${console.program}: ` : ''}${checkLine(event)}\n`);
}

/** What features that are not known here vouch for is not vouched for any more, as after any change. */
function dropUnknownAutoclear(storage: Storage): void {
  const { autoclear } = readHeader(storage);
  if ((autoclear & ~KNOWN_AUTOCLEAR) === 0n) return;
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, autoclear & KNOWN_AUTOCLEAR);
  storage.write(HEADER_AT.autoclear, bytes);
  storage.flush();
}

/** What the format stands on: for a repair the file alone is opened. */
function fileOf(reference: NodeReference): NodeReference {
  const { fileName, options } = readReference(reference);
  return { fileName, options: options.takeUnder('file.').rest };
}

function resultObject(fileName: string, result: CheckResult): JsonObject {
  const unlessNone = (count: number): number | undefined => (count === 0 ? undefined : count);
  return {
    filename: fileName,
    format: 'qcow2',
    'check-errors': result.checkErrors,
    'image-end-offset': unlessNone(result.imageEndOffset),
    corruptions: unlessNone(result.corruptions),
    leaks: unlessNone(result.leaks),
    'corruptions-fixed': unlessNone(result.corruptionsFixed),
    'leaks-fixed': unlessNone(result.leaksFixed),
    'total-clusters': unlessNone(result.totalClusters),
    'allocated-clusters': unlessNone(result.allocatedClusters),
    'fragmented-clusters': unlessNone(result.fragmentedClusters),
    'compressed-clusters': unlessNone(result.compressedClusters),
  };
}

function repairText({ leaksFixed, corruptionsFixed }: CheckResult): string {
  if (leaksFixed === 0 && corruptionsFixed === 0) return '';
  const counts = `    ${leaksFixed} leaked clusters\n    ${corruptionsFixed} corruptions\n`;
  const first = 'The following inconsistencies were found and repaired:';
  return `${first}\n\n${counts}\nDouble checking the fixed image now...\n`;
}

function resultText(result: CheckResult): string {
  const { corruptions, leaks, checkErrors, imageEndOffset } = result;
  const parts: string[] = [];
  if (corruptions + leaks + checkErrors === 0) parts.push('No errors were found on the image.\n');
  if (corruptions > 0) {
    const meaning = 'Data may be corrupted, or further writes to the image may corrupt it.';
    parts.push(`\n${corruptions} errors were found on the image.\n${meaning}\n`);
  }
  if (leaks > 0) {
    const meaning = 'This means waste of disk space, but no harm to data.';
    parts.push(`\n${leaks} leaked clusters were found on the image.\n${meaning}\n`);
  }
  if (checkErrors > 0) parts.push(`\n${checkErrors} internal errors have occurred during the check.\n`);
  parts.push(clustersText(result));
  if (imageEndOffset > 0) parts.push(`Image end offset: ${imageEndOffset}\n`);
  return parts.join('');
}

function clustersText(result: CheckResult): string {
  const { totalClusters: total, allocatedClusters: allocated, fragmentedClusters, compressedClusters } = result;
  if (total === 0 || allocated === 0) return '';
  const percent = (part: number, whole: number): string => `${((part * 100) / whole).toFixed(2)}%`;
  const shares = [
    `${percent(allocated, total)} allocated`,
    `${percent(fragmentedClusters, allocated)} fragmented`,
    `${percent(compressedClusters, allocated)} compressed clusters`,
  ];
  return `${allocated}/${total} = ${shares.join(', ')}\n`;
}
