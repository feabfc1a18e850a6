/**
 * `discard`, `flush` and `truncate`.
 */
import { PREALLOCATIONS, type Preallocation } from '../../image/preallocate.js';
import { toNumber } from '../text/sizes.js';
import { CliError, reportError, reportThrown } from '../text/messages.js';
import { openedNode, printUsage, readOptions, type IoCommand } from './command.js';
import { MOST_BYTES, readSize } from './numbers.js';
import { printReport } from './report.js';
import { attempt, offsetInside } from './requests.js';

export const discardCommand: IoCommand = {
  name: 'discard',
  shortName: 'd',
  atLeast: 2,
  atMost: null,
  writes: true,
  usage: '[-Cq] off len',
  summary: 'gives up the content of a range',
  help: `
 Says that a range of the open file is not needed any more.

 Example:
 'discard 512 1k' - discards the kilobyte that begins 512 bytes into the file

 -C, -- a report for programs: bytes,operations,time,rates
 -q, -- no report

`,
  run(session, args) {
    const parsed = readOptions(session, discardCommand, args, 'Cq');
    if (parsed === null) return 'failed';
    if (parsed.operands.length !== 2) return printUsage(session, discardCommand);
    const offset = readSize(session, parsed.operands[0]!);
    if (offset === null) return 'failed';
    const length = readSize(session, parsed.operands[1]!);
    if (length === null) return 'failed';
    if (length > MOST_BYTES) {
      session.console.out(`length cannot exceed ${MOST_BYTES}, given ${parsed.operands[1]}\n`);
      return 'failed';
    }
    const result = attempt(() => openedNode(session).discard(offsetInside(offset), Number(length)));
    if ('failure' in result) {
      session.console.out(`discard failed: ${result.failure}\n`);
      return 'failed';
    }
    const given = parsed.options.map(({ name }) => name);
    const moved = { what: 'discard', offset: Number(offset), length: Number(length), seconds: result.seconds };
    if (!given.includes('q')) printReport(session, { ...moved, terse: given.includes('C') });
    return 'ok';
  },
};

export const flushCommand: IoCommand = {
  name: 'flush',
  shortName: 'f',
  summary: 'makes what was written stable',
  run(session) {
    const result = attempt(() => openedNode(session).flush());
    return 'failure' in result ? 'failed' : 'ok';
  },
};

export const truncateCommand: IoCommand = {
  name: 'truncate',
  shortName: 't',
  atLeast: 1,
  atMost: 3,
  writes: true,
  usage: '[-m prealloc_mode] off',
  summary: 'gives the disk another size',
  run(session, args) {
    const parsed = readOptions(session, truncateCommand, args, 'm:');
    if (parsed === null) return 'failed';
    const mode = parsed.options.at(-1)?.value ?? 'off';
    const preallocation = PREALLOCATIONS.find((known) => known === mode);
    if (preallocation === undefined) {
      reportError(session.console, `Invalid preallocation mode '${mode}'`);
      return 'failed';
    }
    const size = readSize(session, parsed.operands[0] ?? '');
    if (size === null) return 'failed';
    try {
      openedNode(session).resize(wholeSize(size), preallocation satisfies Preallocation);
      return 'ok';
    } catch (error) {
      reportThrown(session.console, error);
      return 'failed';
    }
  },
};

function wholeSize(size: bigint): number {
  const number = toNumber(size);
  if (number === null) throw new CliError('The image size is too large', { errno: 'EFBIG' });
  return number;
}
