/** `info`: what an image, or each image of a backing chain, is. */
import type { Secrets } from '../graph/secrets.js';
import { jsonText } from '../text/json-text.js';
import { CliError } from '../text/messages.js';
import {
  FORCE_SHARE,
  IMAGE_OPTS,
  OBJECT,
  oneFileName,
  OUTPUT,
  outputFormat,
  readCommandLine,
  type Command,
  type CommandContext,
} from './command.js';
import { reportObject, reportOn, reportText, type ImageReport } from './image-report.js';
import { openImageArgument, type ImageArgument } from './open-image.js';

const FORMAT = { name: 'format', short: 'f', long: 'format', argument: true };
const BACKING_CHAIN = { name: 'backing-chain', long: 'backing-chain' };

export const run: Command = async (args, context) => {
  const specs = [FORMAT, OUTPUT, BACKING_CHAIN, OBJECT, IMAGE_OPTS, FORCE_SHARE];
  const line = readCommandLine(args, specs, context);
  const first = { name: oneFileName(line), format: line.value('format'), imageOpts: line.has('image-opts') };
  const output = outputFormat(line);
  const chain = line.has('backing-chain');
  const flags = { forceShare: line.has('force-share'), secrets: line.secrets };
  const reports = chain ? await reportOnChain(context, first, flags) : [await reportOne(context, first, flags)];
  if (output === 'json') {
    const objects = reports.map(reportObject);
    context.console.out(`${jsonText(chain ? objects : objects[0]!, { pretty: true })}\n`);
  } else {
    context.console.out(reports.map(reportText).join('\n'));
  }
  return 0;
};

interface Flags {
  readonly forceShare: boolean;
  readonly secrets: Secrets;
}

async function reportOne(context: CommandContext, image: ImageArgument, flags: Flags): Promise<ImageReport> {
  const node = await openImageArgument(context, image, { ...flags, readOnly: true, noBacking: true, noIo: true });
  try {
    return reportOn(node);
  } finally {
    node.close();
  }
}

/** Each image is opened for itself, so that a damaged one does not hide those above it from whoever asks for them alone. */
async function reportOnChain(context: CommandContext, first: ImageArgument, flags: Flags): Promise<ImageReport[]> {
  const reports: ImageReport[] = [];
  const seen = new Set<string>();
  let next: ImageArgument | null = first;
  while (next !== null) {
    const { name } = next;
    if (seen.has(name)) throw new CliError(`Backing file '${name}' creates an infinite loop.`);
    seen.add(name);
    const report = await reportOne(context, next, flags);
    reports.push(report);
    next = backingArgument(report);
  }
  return reports;
}

function backingArgument({ qcow2 }: ImageReport): ImageArgument | null {
  const backing = qcow2?.backing;
  if (backing == null) return null;
  const { name, full, format } = backing;
  if (full === null) {
    const what = 'Could not determine absolute backing filename';
    throw new CliError(`${what}, but backing filename '${name}' present`);
  }
  return { name: full, format: format ?? undefined, imageOpts: false };
}
