/** What `qcow2-img` does with its arguments: finds the command, runs it, and reports what it throws. */
import packageJson from '../../../package.json' with { type: 'json' };
import { parseOptions } from '../text/getopt.js';
import { reportError, reportThrown, UsageError, type Console } from '../text/messages.js';
import { HelpWanted, MessageLines, Reported } from './command.js';
import { isCommandName, loadCommand } from './command-table.js';
import { Interrupted, Interrupts } from './interrupts.js';

const GLOBAL_OPTIONS = [
  { name: 'help', short: 'h', long: 'help' },
  { name: 'version', short: 'V', long: 'version' },
  { name: 'trace', short: 'T', long: 'trace', argument: true },
];

/** The exit code. Rejects with `Interrupted`, after which the process is to end by that signal, and with what is a mistake of ours. */
export async function main(args: readonly string[], console: Console): Promise<number> {
  try {
    return await dispatch(args, console);
  } catch (error) {
    if (error instanceof Interrupted) throw error;
    if (error instanceof Reported) return error.exitCode;
    if (error instanceof HelpWanted) {
      const { helpText } = await import('./help.js');
      console.out(helpText(packageJson.version, args.find(isCommandName)));
      return 0;
    }
    if (error instanceof MessageLines) error.lines.forEach((line) => reportError(console, line));
    else reportThrown(console, error);
    return 1;
  }
}

async function dispatch(args: readonly string[], console: Console): Promise<number> {
  if (args.length === 0) throw new UsageError('Not enough arguments');
  const { options, operands, problem } = parseOptions(args, GLOBAL_OPTIONS, { stopAtOperand: true });
  const [first] = options.filter(({ name }) => name !== 'trace');
  if (first?.name === 'help') throw new HelpWanted();
  if (first?.name === 'version') {
    // Programs that ask for the version of qemu-img look for the number behind the word.
    console.out(`qcow2-img version ${packageJson.version} (compatible with qemu-img version 7.2)\n`);
    return 0;
  }
  if (problem?.kind === 'unknown') throw new UsageError(`unrecognized option '${problem.word}'`);
  if (problem !== null) throw new UsageError(`missing argument for option '${problem.word}'`);
  const [command, ...rest] = operands;
  if (command === undefined) return 0;
  if (!isCommandName(command)) throw new UsageError(`Command not found: ${command}`);
  const run = await loadCommand(command);
  const interrupts = new Interrupts();
  try {
    return await run(rest, { command, console, interrupts });
  } finally {
    interrupts.release();
  }
}
