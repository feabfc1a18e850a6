/**
 * `aio_read`, `aio_write` and `aio_flush`. The engine answers at once, so a request is carried out when it is given; what it has to
 * tell is printed when somebody waits: at the next prompt, the next command that does I/O, `aio_flush`, or the end.
 */
import { openedNode, printUsage, readOptions, type IoCommand } from './command.js';
import { readPattern, readSize } from './numbers.js';
import { executeRead, readVectorRequest } from './read.js';
import { executeWrite, readVectorWrite, type WriteRequest } from './write.js';
import type { Session } from './session.js';

/** `-i` among other switches. */
const INVALID = /^-[Cfquvz]*i/;

export const aioReadCommand: IoCommand = {
  name: 'aio_read',
  atLeast: 2,
  atMost: null,
  usage: '[-Ciqv] [-P pattern] off len [len..]',
  summary: 'reads, and tells of it later',
  help: `
 Begins to read a range of the open file; 'aio_flush' waits for it. The command succeeds when the request has been given, whatever
 becomes of it.

 Example:
 'aio_read -v 512 1k 1k ' - shows the two kilobytes that begin 512 bytes into the file

 -C, -- a report for programs: bytes,operations,time,rates
 -P, -- the byte that all should be
 -i, -- an invalid request, for the sake of statistics
 -v, -- show the bytes
 -q, -- no report

`,
  run(session, args) {
    if (args.some((arg) => INVALID.test(arg))) {
      session.console.out('injecting invalid read request\n');
      return 'ok';
    }
    const request = readVectorRequest(session, aioReadCommand, args, 'CP:iqv');
    if (request === null) return 'failed';
    const tag = openedNode(session).breakpoints?.hit('read') ?? null;
    session.submit(() => executeRead(session, request, 'readv').print, tag);
    return 'ok';
  },
};

export const aioWriteCommand: IoCommand = {
  name: 'aio_write',
  atLeast: 2,
  atMost: null,
  writes: true,
  usage: '[-Cfiquz] [-P pattern] off len [len..]',
  summary: 'writes, and tells of it later',
  help: `
 Begins to write a range of the open file; 'aio_flush' waits for it. The command succeeds when the request has been given, whatever
 becomes of it.

 Example:
 'aio_write 512 1k 1k' - writes two kilobytes that begin 512 bytes into the file

 -P, -- another byte than 0xcd
 -C, -- a report for programs: bytes,operations,time,rates
 -f, -- stable before the request ends
 -i, -- an invalid request, for the sake of statistics
 -q, -- no report
 -u, -- with -z, clusters may be given back
 -z, -- zeroes, by the tables alone where possible

`,
  run(session, args) {
    if (args.some((arg) => INVALID.test(arg))) {
      session.console.out('injecting invalid write request\n');
      return 'ok';
    }
    const request = readAioWrite(session, args);
    if (request === null) return 'failed';
    const tag = openedNode(session).breakpoints?.hit('write') ?? null;
    session.submit(() => executeWrite(session, request, 'aio_write').print, tag);
    return 'ok';
  },
};

function readAioWrite(session: Session, args: readonly string[]): WriteRequest | null {
  const parsed = readOptions(session, aioWriteCommand, args, 'CfiqP:uz');
  if (parsed === null) return null;
  const given = new Set(parsed.options.map(({ name }) => name));
  for (const { name, value } of parsed.options) {
    if (name === 'P' && readPattern(session, value) === null) return null;
  }
  if (parsed.operands.length < 2) {
    printUsage(session, aioWriteCommand);
    return null;
  }
  const zeroes = given.has('z');
  if (zeroes && parsed.operands.length !== 2) return refuse(session, '-z supports only a single length parameter');
  if (given.has('u') && !zeroes) return refuse(session, '-u requires -z to be specified');
  if (zeroes && given.has('P')) return refuse(session, '-z and -P cannot be specified at the same time');
  if (!zeroes) return readVectorWrite(session, aioWriteCommand, parsed);
  const offset = readSize(session, parsed.operands[0]!);
  if (offset === null) return null;
  const length = readSize(session, parsed.operands[1]!);
  if (length === null) return null;
  const switches = { fua: given.has('f'), unmap: given.has('u'), noFallback: false };
  const how = { quiet: given.has('q'), terse: given.has('C') };
  return { offset, length: Number(length), kind: 'zeroes', content: null, ...switches, ...how };
}

function refuse(session: Session, message: string): null {
  session.console.out(`${message}\n`);
  return null;
}

export const aioFlushCommand: IoCommand = {
  name: 'aio_flush',
  summary: 'waits for all aio_read and aio_write',
  run(session) {
    session.settle();
    return 'ok';
  },
};
