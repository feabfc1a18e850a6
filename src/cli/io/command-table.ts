/**
 * The commands of qcow2-io, and how a line is run: words are separated by spaces, and nothing is quoted.
 */
import { reportError } from '../text/messages.js';
import { aioFlushCommand, aioReadCommand, aioWriteCommand } from './aio.js';
import { breakCommands } from './break.js';
import { discardCommand, flushCommand, truncateCommand } from './change.js';
import type { IoCommand, Outcome } from './command.js';
import { helpCommandFor } from './help.js';
import { closeCommand, openCommand, quitCommand, reopenCommand } from './open.js';
import { abortCommand, sigraiseCommand, sleepCommand } from './process.js';
import { readCommand, readvCommand } from './read.js';
import type { Session } from './session.js';
import { allocCommand, infoCommand, lengthCommand, mapCommand } from './show.js';
import { writeCommand, writevCommand } from './write.js';

/** By name. */
export const COMMANDS: readonly IoCommand[] = [
  abortCommand,
  aioFlushCommand,
  aioReadCommand,
  aioWriteCommand,
  allocCommand,
  ...breakCommands,
  closeCommand,
  discardCommand,
  flushCommand,
  helpCommandFor(() => COMMANDS),
  infoCommand,
  lengthCommand,
  mapCommand,
  openCommand,
  quitCommand,
  readCommand,
  readvCommand,
  reopenCommand,
  sigraiseCommand,
  sleepCommand,
  truncateCommand,
  writeCommand,
  writevCommand,
].sort((a, b) => (a.name < b.name ? -1 : 1));

/** Commands that leave requests under way alone: they neither wait nor do I/O. */
const NO_WAIT: ReadonlySet<string> = new Set([
  'aio_read',
  'aio_write',
  'help',
  'quit',
  'abort',
  'sigraise',
  'break',
  'remove_break',
]);

/** Runs one line; an empty one is nothing. */
export async function runLine(session: Session, line: string): Promise<Outcome> {
  const [name, ...args] = line.split(' ').filter((word) => word !== '');
  if (name === undefined) return 'ok';
  const command = COMMANDS.find((known) => known.name === name || known.shortName === name);
  if (command === undefined) {
    session.console.err(`command "${name}" not found\n`);
    return 'failed';
  }
  if (!NO_WAIT.has(command.name)) session.settle();
  return isRunnable(session, command, name, args) ? command.run(session, args) : 'failed';
}

function isRunnable(session: Session, command: IoCommand, name: string, args: readonly string[]): boolean {
  const { node, console } = session;
  if (command.withoutFile !== true && node === null) {
    console.err("no file open, try 'help open'\n");
    return false;
  }
  const { atLeast = 0, atMost = 0 } = command;
  if (args.length < atLeast || (atMost !== null && args.length > atMost)) {
    const between = atMost === atLeast ? String(atLeast) : `between ${atLeast} and ${atMost}`;
    const expected = atMost === null ? `at least ${atLeast}` : between;
    console.err(`bad argument count ${args.length} to ${name}, expected ${expected} arguments\n`);
    return false;
  }
  if (command.writes === true && node?.readOnly === true && node.usable) {
    reportError(console, 'Block node is read-only');
    return false;
  }
  return true;
}
