/** `qcow2-io`: reads and writes of an image by hand, or by a script that tests it, as with qemu-io. */
import packageJson from '../../package.json' with { type: 'json' };
import type { CacheMode, OptionValue } from './graph/block-node.js';
import { parseCacheMode, parseDiscardMode } from './graph/cache-mode.js';
import { Secrets } from './graph/secrets.js';
import { runLine } from './io/command-table.js';
import { usageText } from './io/help.js';
import { readLines } from './io/input.js';
import { readList, WRITETHROUGH } from './io/open.js';
import { Session } from './io/session.js';
import { parseOptions, type GivenOption, type OptionSpec } from './text/getopt.js';
import { CliError, ProcessConsole, reportThrown, type Console } from './text/messages.js';
import { parseOptionList } from './text/option-list.js';

const OPTIONS: readonly OptionSpec[] = [
  { name: 'help', short: 'h', long: 'help' },
  { name: 'version', short: 'V', long: 'version' },
  { name: 'cmd', short: 'c', long: 'cmd', argument: true },
  { name: 'format', short: 'f', long: 'format', argument: true },
  { name: 'read-only', short: 'r', long: 'read-only' },
  { name: 'snapshot', short: 's', long: 'snapshot' },
  { name: 'nocache', short: 'n', long: 'nocache' },
  { name: 'copy-on-read', short: 'C', long: 'copy-on-read' },
  { name: 'misalign', short: 'm', long: 'misalign' },
  { name: 'native-aio', short: 'k', long: 'native-aio' },
  { name: 'aio', short: 'i', long: 'aio', argument: true },
  { name: 'discard', short: 'd', long: 'discard', argument: true },
  { name: 'cache', short: 't', long: 'cache', argument: true },
  { name: 'trace', short: 'T', long: 'trace', argument: true },
  { name: 'object', long: 'object', argument: true },
  { name: 'image-opts', long: 'image-opts' },
  { name: 'force-share', short: 'U', long: 'force-share' },
];

interface Settings {
  readonly secrets: Secrets;
  readonly cache: CacheMode;
  readonly unmap: boolean;
  readonly commands: readonly string[];
  readonly format: string | null;
  readonly has: (name: string) => boolean;
}

/** Ends the program with this exit code; what there is to say has been said. */
class Exit extends Error {
  constructor(readonly code: number) {
    super('exit');
  }
}

async function main(args: readonly string[], console: Console): Promise<number> {
  const { options, operands, problem } = parseOptions(args, OPTIONS);
  const settings = readSettings(options, console);
  if (problem !== null) console.err(`${console.program}: ${problem.message}\n`);
  if (problem !== null || operands.length > 1) {
    console.out(usageText());
    return 1;
  }
  const imageOpts = settings.has('image-opts');
  if (settings.format !== null && imageOpts) throw new CliError('--image-opts and -f are mutually exclusive');
  const session = new Session({ console, secrets: settings.secrets, imageOpts });
  try {
    const [file] = operands;
    if (file !== undefined && !(await openFirst(session, file, settings))) return 1;
    return await runCommands(session, settings.commands);
  } finally {
    session.close();
  }
}

/** What the options say, in their order. Throws `CliError`, or `Exit` for those that end the program. */
function readSettings(options: readonly GivenOption[], console: Console): Settings {
  const secrets = new Secrets();
  let cache = WRITETHROUGH;
  let unmap = true;
  for (const { name, value } of options) {
    switch (name) {
      case 'help':
        console.out(usageText());
        throw new Exit(0);
      case 'version':
        console.out(`qcow2-io version ${packageJson.version}\n`);
        throw new Exit(0);
      case 'nocache':
        cache = { ...cache, direct: true, writethrough: false };
        break;
      case 'cache':
        cache = known(parseCacheMode(value), `Invalid cache option: ${value}`);
        break;
      case 'discard':
        unmap = known(parseDiscardMode(value), `Invalid discard option: ${value}`);
        break;
      case 'aio':
        known(['threads', 'native', 'io_uring'].includes(value) || null, `Invalid aio option: ${value}`);
        break;
      case 'object':
        secrets.define(objectOptions(value));
        break;
    }
  }
  const values = (name: string) => options.filter((option) => option.name === name).map(({ value }) => value);
  const has = (name: string) => options.some((option) => option.name === name);
  return { secrets, cache, unmap, commands: values('cmd'), format: values('format').at(-1) ?? null, has };
}

/** The options of `--object`, with the id that the list keeps apart. */
function objectOptions(text: string): ReadonlyMap<string, string> {
  const { entries, id } = parseOptionList(text, 'qom-type');
  return new Map(id === null ? entries : [...entries, ['id', id] as const]);
}

function known<T>(value: T | null, complaint: string): T {
  if (value === null) throw new CliError(complaint);
  return value;
}

/** Opens the file that the command line names. */
function openFirst(session: Session, file: string, { has, format, cache, unmap }: Settings): Promise<boolean> {
  const options = new Map<string, OptionValue>();
  if (session.imageOpts) readList(session, file, options, 'file');
  else if (format !== null) options.set('driver', format);
  return session.open({
    reference: { fileName: session.imageOpts ? null : file, options },
    readOnly: has('read-only'),
    snapshot: has('snapshot'),
    copyOnRead: has('copy-on-read'),
    forceShare: has('force-share'),
    unmap,
    cache,
  });
}

/** The commands of the command line, or those of the input. The exit code: 1 if any of them failed. */
async function runCommands(session: Session, commands: readonly string[]): Promise<number> {
  let failures = 0;
  const run = async (line: string) => {
    if ((await runLine(session, line)) === 'failed') failures++;
  };
  if (commands.length > 0) {
    for (const line of commands) if (!session.quit) await run(line);
  } else {
    for await (const line of readLines(session)) {
      await run(line);
      if (session.quit) break;
    }
  }
  return failures > 0 ? 1 : 0;
}

const console = new ProcessConsole('qemu-io');
try {
  process.exitCode = await main(process.argv.slice(2), console);
} catch (error) {
  if (error instanceof Exit) process.exitCode = error.code;
  else {
    reportThrown(console, error);
    process.exitCode = 1;
  }
} finally {
  process.exitCode = console.end(Number(process.exitCode ?? 0));
}
