/**
 * A command of qcow2-img: what it is given, and how it reads its command line.
 *
 * A command returns its exit code. What it throws is reported by the entry, which then exits with 1: `UsageError` with a pointer to the
 * help, other errors as they are. `HelpWanted` is no error.
 */
import { Secrets } from '../graph/secrets.js';
import { parseOptions, type GivenOption, type OptionSpec } from '../text/getopt.js';
import { CliError, UsageError, type Console } from '../text/messages.js';
import { parseOptionList } from '../text/option-list.js';
import { parseSize, toNumber, MAX_INT64 } from '../text/sizes.js';
import type { Interrupts } from './interrupts.js';

export interface CommandContext {
  /** The command's name. */
  readonly command: string;
  readonly console: Console;
  readonly interrupts: Interrupts;
}

export type Command = (args: readonly string[], context: CommandContext) => Promise<number>;

/** `-h` or `--help`: the entry prints the help. */
export class HelpWanted extends Error {}

/** A failure that has been reported already; the entry only exits. */
export class Reported extends Error {
  constructor(readonly exitCode: number = 1) {
    super('reported');
  }
}

export const HELP: OptionSpec = { name: 'help', short: 'h', long: 'help' };
export const OBJECT: OptionSpec = { name: 'object', long: 'object', argument: true };
export const IMAGE_OPTS: OptionSpec = { name: 'image-opts', long: 'image-opts' };
export const FORCE_SHARE: OptionSpec = { name: 'force-share', short: 'U', long: 'force-share' };
export const OUTPUT: OptionSpec = { name: 'output', long: 'output', argument: true };

/** An option with a letter only. */
export function letter(short: string, argument = false): OptionSpec {
  return { name: short, short, argument };
}

/** A command line as far as all commands have it. */
export interface CommandLine {
  readonly operands: readonly string[];
  readonly secrets: Secrets;
  /** The last value of an option. */
  value(name: string): string | undefined;
  has(name: string): boolean;
}

/**
 * Reads the options in the order they were given: help and secrets are seen to here, and `each` is told of all others, so that
 * what is wrong with the first one is said first. Throws `UsageError`, `HelpWanted`, or what `each` throws.
 */
export function readCommandLine(
  args: readonly string[],
  specs: readonly OptionSpec[],
  { command }: Pick<CommandContext, 'command'>,
  each: (option: GivenOption) => void = () => {},
): CommandLine {
  const { options, operands, problem } = parseOptions(args, [HELP, ...specs], { command });
  const secrets = new Secrets();
  const values = new Map<string, string>();
  for (const option of options) {
    if (option.name === 'help') throw new HelpWanted();
    if (option.name === 'object') defineObject(option.value, secrets);
    else each(option);
    values.set(option.name, option.value);
  }
  if (problem?.kind === 'unknown') throw new UsageError(`unrecognized option '${problem.word}'`);
  if (problem !== null) throw new UsageError(`missing argument for option '${problem.word}'`);
  return { operands, secrets, value: (name) => values.get(name), has: (name) => values.has(name) };
}

/** `--object secret,id=...`: QEMU has more kinds of objects. */
function defineObject(text: string, secrets: Secrets): void {
  const { entries, id, flags } = parseOptionList(text, 'qom-type');
  const [flag] = flags;
  if (flag !== undefined) throw new CliError(`Expected '=' after parameter '${flag.written}'`);
  secrets.define(new Map([...entries, ...(id === null ? [] : [['id', id] as const])]));
}

/** The one operand that most commands have. */
export function oneFileName({ operands }: CommandLine): string {
  if (operands.length !== 1) throw new UsageError('Expecting one image file name');
  return operands[0]!;
}

export type OutputFormat = 'human' | 'json';

export function outputFormat(line: CommandLine): OutputFormat {
  const value = line.value('output');
  if (value === undefined || value === 'human') return 'human';
  if (value === 'json') return 'json';
  throw new CliError('--output must be used with human or json as argument.');
}

/** A size among the arguments, QEMU's `cvtnum`. `what` names it in messages. */
export function sizeArgument(what: string, text: string, limits: { min?: bigint; max?: bigint } = {}): bigint {
  const { min = 0n, max = MAX_INT64 } = limits;
  const parsed = parseSize(text);
  if (parsed.kind === 'invalid') {
    const first = `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for`;
    throw new MessageLines([first, 'kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.']);
  }
  if (parsed.kind === 'range' || parsed.value > max || parsed.value < min) {
    throw new CliError(`Invalid ${what} specified. Must be between ${min} and ${max}.`);
  }
  return parsed.value;
}

/** The same for an offset or length in a disk: a number, as large as numbers are exact. */
export function offsetArgument(what: string, text: string): number {
  return toNumber(sizeArgument(what, text)) ?? Number.MAX_SAFE_INTEGER;
}

/** Messages of several lines, each with the program's name before it. */
export class MessageLines extends CliError {
  constructor(readonly lines: readonly string[]) {
    super(lines.join('\n'));
  }
}

/** The lists of several `-o` as one. */
export function joinOptionLists(before: string | null, given: string, isJoinable: (text: string) => boolean): string {
  if (!isJoinable(given)) throw new CliError(`Invalid option list: ${given}`);
  return before === null ? given : `${before},${given}`;
}
