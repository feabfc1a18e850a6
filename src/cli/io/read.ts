/**
 * `read` and `readv`: read a range, verify it against a pattern, show it.
 */
import { openedNode, printUsage, readOptions, type IoCommand, type Outcome } from './command.js';
import { MOST_BYTES, readLengths, readPattern, readSize } from './numbers.js';
import { dump, printReport } from './report.js';
import { attempt, differsFrom, loadVmState, offsetInside } from './requests.js';
import type { Session } from './session.js';

const SECTOR = 512;

export interface ReadRequest {
  readonly offset: bigint;
  readonly length: number;
  /** What the bytes should be, in a part of them; null for nothing special. */
  readonly expected: { readonly pattern: number; readonly from: number; readonly length: number } | null;
  readonly vmState: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly terse: boolean;
}

/** Runs it; `print` says what came out. */
export function executeRead(session: Session, request: ReadRequest, name: string): { readonly print: () => Outcome } {
  const node = openedNode(session);
  const bytes = new Uint8Array(request.length);
  const result = attempt(() => {
    const offset = offsetInside(request.offset);
    if (request.vmState) loadVmState(node, offset, bytes);
    else node.read(offset, bytes);
  });
  return {
    print: () => ('failure' in result ? failed(session, name, result.failure) : told(session, request, bytes, result)),
  };
}

function failed(session: Session, name: string, failure: string): Outcome {
  session.console.out(`${name} failed: ${failure}\n`);
  return 'failed';
}

function told(
  session: Session,
  request: ReadRequest,
  bytes: Uint8Array,
  result: { readonly seconds: number },
): Outcome {
  const { expected, length, terse } = request;
  const offset = Number(request.offset);
  let outcome: Outcome = 'ok';
  if (expected !== null) {
    const part = bytes.subarray(expected.from, expected.from + expected.length);
    if (differsFrom(part, expected.pattern)) {
      const where = `offset ${offset + expected.from}, ${expected.length} bytes`;
      session.console.out(`Pattern verification failed at ${where}\n`);
      outcome = 'failed';
    }
  }
  if (request.quiet) return outcome;
  if (request.verbose) dump(session, bytes, offset);
  printReport(session, { what: 'read', offset, length, seconds: result.seconds, terse });
  return outcome;
}

export const readCommand: IoCommand = {
  name: 'read',
  shortName: 'r',
  atLeast: 2,
  atMost: null,
  usage: '[-abCqv] [-P pattern [-s off] [-l len]] off len',
  summary: 'reads a range',
  help: `
 Reads a range of the open file, and can show it, or compare it with a pattern.

 Example:
 'read -v 512 1k' - shows the kilobyte that begins 512 bytes into the file

 -b, -- the VM state instead of the disk
 -C, -- a report for programs: bytes,operations,time,rates
 -l, -- how many bytes to compare (only with -P)
 -p, -- no effect; known from older versions
 -P, -- the byte that all should be
 -q, -- no report
 -s, -- where in what was read to begin comparing (only with -P)
 -v, -- show the bytes

`,
  run(session, args) {
    const request = readRequest(session, args);
    return request === null ? 'failed' : executeRead(session, request, 'read').print();
  },
};

function readRequest(session: Session, args: readonly string[]): ReadRequest | null {
  const parsed = readOptions(session, readCommand, args, 'bCl:pP:qs:v');
  if (parsed === null) return null;
  const given = new Set(parsed.options.map(({ name }) => name));
  const sizes: { l: bigint | null; s: bigint | null } = { l: null, s: null };
  let pattern: number | null = null;
  for (const { name, value } of parsed.options) {
    if (name === 'P') {
      pattern = readPattern(session, value);
      if (pattern === null) return null;
    } else if (name === 'l' || name === 's') {
      sizes[name] = readSize(session, value);
      if (sizes[name] === null) return null;
    }
  }
  const range = readRange(session, readCommand, parsed.operands);
  if (range === null) return null;
  if (pattern === null && (sizes.l !== null || sizes.s !== null)) {
    printUsage(session, readCommand);
    return null;
  }
  const from = sizes.s ?? 0n;
  const length = sizes.l ?? BigInt(range.length) - from;
  if (length < 0n || from + length > range.length) {
    session.console.out('pattern verification range exceeds end of read data\n');
    return null;
  }
  const vmState = given.has('b');
  if (vmState && !isWholeSectors(session, range)) return null;
  const expected = pattern === null ? null : { pattern, from: Number(from), length: Number(length) };
  return { ...range, expected, vmState, quiet: given.has('q'), verbose: given.has('v'), terse: given.has('C') };
}

/** Offset and length, the only operands; null when it was told what is wrong with them. */
function readRange(
  session: Session,
  command: IoCommand,
  operands: readonly string[],
): { readonly offset: bigint; readonly length: number } | null {
  if (operands.length !== 2) {
    printUsage(session, command);
    return null;
  }
  const offset = readSize(session, operands[0]!);
  if (offset === null) return null;
  const length = readSize(session, operands[1]!);
  if (length === null) return null;
  if (length > MOST_BYTES) {
    session.console.out(`length cannot exceed ${MOST_BYTES}, given ${operands[1]}\n`);
    return null;
  }
  return { offset, length: Number(length) };
}

/** VM state and compressed clusters are written by sectors. */
export function isWholeSectors(session: Session, range: { readonly offset: bigint; readonly length: number }): boolean {
  for (const [name, value] of [
    ['offset', range.offset],
    ['count', BigInt(range.length)],
  ] as const) {
    if (value % BigInt(SECTOR) === 0n) continue;
    session.console.out(`${value} is not a sector-aligned value for '${name}'\n`);
    return false;
  }
  return true;
}

export const readvCommand: IoCommand = {
  name: 'readv',
  atLeast: 2,
  atMost: null,
  usage: '[-Cqv] [-P pattern] off len [len..]',
  summary: 'reads a range into several buffers',
  help: `
 Reads a range of the open file into several buffers, one for each length.

 Example:
 'readv -v 512 1k 1k ' - shows the two kilobytes that begin 512 bytes into the file

 -C, -- a report for programs: bytes,operations,time,rates
 -P, -- the byte that all should be
 -v, -- show the bytes
 -q, -- no report

`,
  run(session, args) {
    const request = readVectorRequest(session, readvCommand, args, 'CP:qv');
    return request === null ? 'failed' : executeRead(session, request, 'readv').print();
  },
};

/** The arguments of `readv` and `aio_read`. */
export function readVectorRequest(
  session: Session,
  command: IoCommand,
  args: readonly string[],
  letters: string,
): ReadRequest | null {
  const parsed = readOptions(session, command, args, letters);
  if (parsed === null) return null;
  const given = new Set(parsed.options.map(({ name }) => name));
  let pattern: number | null = null;
  for (const { name, value } of parsed.options) {
    if (name !== 'P') continue;
    pattern = readPattern(session, value);
    if (pattern === null) return null;
  }
  if (parsed.operands.length < 2) {
    printUsage(session, command);
    return null;
  }
  const offset = readSize(session, parsed.operands[0]!);
  if (offset === null) return null;
  const length = readLengths(session, parsed.operands.slice(1));
  if (length === null) return null;
  const expected = pattern === null ? null : { pattern, from: 0, length };
  const switches = { vmState: false, quiet: given.has('q'), verbose: given.has('v'), terse: given.has('C') };
  return { offset, length, expected, ...switches };
}
