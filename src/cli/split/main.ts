/** What `qcow2-split` does with its arguments, and what it tells the author of a site. */
import { basename } from 'node:path';
import packageJson from '../../../package.json' with { type: 'json' };
import { LARGEST_CHUNK_BYTES, SMALLEST_CHUNK_BYTES } from '../../network/chunk-geometry.js';
import { isQcow2Error } from '../../errors.js';
import { parseOptions } from '../text/getopt.js';
import { CliError, reportThrown, UsageError, type Console } from '../text/messages.js';
import { parseSize, toNumber } from '../text/sizes.js';
import { DEFAULT_PART_BYTES, splitImage, type SplitImage } from './split-image.js';

const OPTIONS = [
  { name: 'help', short: 'h', long: 'help' },
  { name: 'version', short: 'V', long: 'version' },
  { name: 'part-size', short: 'p', long: 'part-size', argument: true },
];

const HELP = `usage: qcow2-split [--part-size N] IMAGE FOLDER

Cuts a base image (qcow2 or raw) into parts, for a host that knows no byte ranges. Writes the parts and a manifest, NAME.split.json, into
FOLDER, which is made if it is missing. Parts that are there already are left as they are if they are right.

  -p, --part-size N   bytes of a part: a power of two from 64k to 4M (default 256k)
  -h, --help          this text
  -V, --version       the version of this program
`;

/** The exit code. */
export function main(args: readonly string[], console: Console): number {
  try {
    return run(args, console);
  } catch (error) {
    reportThrown(console, isQcow2Error(error) ? new CliError(error.message, { cause: error }) : error);
    return 1;
  }
}

function run(args: readonly string[], console: Console): number {
  const { options, operands, problem } = parseOptions(args, OPTIONS);
  if (problem !== null) throw new UsageError(problem.message);
  const given = new Map(options.map(({ name, value }) => [name, value]));
  if (given.has('help')) console.out(HELP);
  else if (given.has('version')) console.out(`qcow2-split version ${packageJson.version}\n`);
  else {
    const [image, folder, ...others] = operands;
    if (image === undefined || folder === undefined) throw new UsageError('an image and a folder are needed');
    if (others.length > 0) throw new UsageError(`one image and one folder are needed, not also '${others[0]}'`);
    console.out(told(splitImage(image, folder, partBytesOf(given.get('part-size')))));
  }
  return 0;
}

function partBytesOf(text: string | undefined): number {
  if (text === undefined) return DEFAULT_PART_BYTES;
  const parsed = parseSize(text);
  const bytes = parsed.kind === 'number' ? toNumber(parsed.value) : null;
  if (
    bytes !== null &&
    Number.isInteger(Math.log2(bytes)) &&
    bytes >= SMALLEST_CHUNK_BYTES &&
    bytes <= LARGEST_CHUNK_BYTES
  )
    return bytes;
  throw new UsageError(`the part size '${text}' is no power of two from 64k to 4M`);
}

function told({ manifest, parts, written }: SplitImage): string {
  const name = basename(manifest);
  return `${manifest}: ${parts} parts, ${written} of them new

Publish the folder as it is. A page opens the image with

  backing: [{ name: 'base', url: '/path/to/${name}', split: true }]

- To pages of other origins the host must send Access-Control-Allow-Origin.
- A part never changes, so it may be cached for ever; the manifest must not be.
- Disks of visitors stand on this very version. Give the next one another name, and leave these files where they are.
`;
}
