/**
 * A command of qcow2-io: its words for the help, how many arguments it takes, and what it does.
 *
 * It prints what qemu-io prints and returns whether it went well; the program exits with 1 if any did not.
 */
import type { BlockNode } from '../graph/block-node.js';
import { parseOptions, type ParsedOptions } from '../text/getopt.js';
import type { Session } from './session.js';

export type Outcome = 'ok' | 'failed';

export interface IoCommand {
  readonly name: string;
  readonly shortName?: string;
  /** How many arguments; null for any number. Default none. */
  readonly atLeast?: number;
  readonly atMost?: number | null;
  /** Default: a file must be open. */
  readonly withoutFile?: boolean;
  /** It writes, so that the node must be writable. */
  readonly writes?: boolean;
  /** Its options and arguments, for the help; undefined for one that has none. */
  readonly usage?: string;
  readonly summary: string;
  /** The text of `help command` behind the summary. */
  readonly help?: string;
  run(session: Session, args: readonly string[]): Outcome | Promise<Outcome>;
}

/** `name usage -- summary`, as a mistake in the options is answered. */
export function printUsage(session: Session, { name, usage = '', summary }: IoCommand): Outcome {
  session.console.out(`${name} ${usage} -- ${summary}\n`);
  return 'failed';
}

/** The options of a command, by their letters; a colon says that a letter takes an argument. Null: said what is wrong. */
export function readOptions(
  session: Session,
  command: IoCommand,
  args: readonly string[],
  letters: string,
): ParsedOptions | null {
  const specs = [...letters.matchAll(/([a-zA-Z])(:?)/g)].map(([, letter, colon]) => ({
    name: letter!,
    short: letter!,
    argument: colon === ':',
  }));
  const parsed = parseOptions(args, specs);
  if (parsed.problem === null) return parsed;
  session.console.err(`${command.name}: ${parsed.problem.message}\n`);
  printUsage(session, command);
  return null;
}

/** The node that is open; commands that need one are not run without. */
export function openedNode(session: Session): BlockNode {
  if (session.node === null) throw new Error('internal: a command that needs an open file was run without');
  return session.node;
}
