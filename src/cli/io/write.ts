/**
 * `write` and `writev`: write a pattern, the content of a file, zeroes, compressed clusters or VM state.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { errorWords } from '../text/errno.js';
import { openedNode, printUsage, readOptions, type IoCommand, type Outcome } from './command.js';
import { MOST_BYTES, readLengths, readPattern, readSize } from './numbers.js';
import { isWholeSectors } from './read.js';
import { printReport } from './report.js';
import { attempt, offsetInside, saveVmState } from './requests.js';
import type { Session } from './session.js';

const DEFAULT_PATTERN = 0xcd;

export interface WriteRequest {
  readonly offset: bigint;
  readonly length: number;
  readonly kind: 'plain' | 'zeroes' | 'compressed' | 'vm-state';
  /** What is written; null for zeroes. */
  readonly content: Uint8Array | null;
  /** Stable before it is told of. */
  readonly fua: boolean;
  readonly unmap: boolean;
  readonly noFallback: boolean;
  readonly quiet: boolean;
  readonly terse: boolean;
}

/** Runs it; `print` says what came out. */
export function executeWrite(session: Session, request: WriteRequest, name: string): { readonly print: () => Outcome } {
  const result = attempt(() => carryOut(session, request));
  return {
    print() {
      if ('failure' in result) {
        session.console.out(`${name} failed: ${result.failure}\n`);
        return 'failed';
      }
      const { offset, length, terse } = request;
      const moved = { what: 'wrote', offset: Number(offset), length, seconds: result.seconds, terse };
      if (!request.quiet) printReport(session, moved);
      return 'ok';
    },
  };
}

function carryOut(session: Session, request: WriteRequest): void {
  const node = openedNode(session);
  const { kind, length, unmap, noFallback } = request;
  const offset = offsetInside(request.offset);
  const fua = request.fua || session.writethrough;
  if (kind === 'zeroes') {
    node.writeZeroes(offset, length, { fua, unmap, noFallback });
    return;
  }
  const content = request.content!;
  if (kind === 'plain') {
    node.write(offset, content, { fua });
    return;
  }
  if (kind === 'compressed') node.writeCompressed(offset, content);
  else saveVmState(node, offset, content);
  if (fua) node.flush();
}

export const writeCommand: IoCommand = {
  name: 'write',
  shortName: 'w',
  atLeast: 2,
  atMost: null,
  writes: true,
  usage: '[-bcCfnquz] [-P pattern | -s source_file] off len',
  summary: 'writes a pattern over a range',
  help: `
 Writes a range of the open file, filled with a byte (0xcd where none is given).

 Example:
 'write 512 1k' - writes a kilobyte that begins 512 bytes into the file

 -b, -- to the VM state instead of the disk
 -c, -- as compressed clusters
 -f, -- stable before the command ends
 -n, -- with -z, fail rather than write zeroes out
 -p, -- no effect; known from older versions
 -P, -- another byte
 -s, -- the content of a file, again and again
 -C, -- a report for programs: bytes,operations,time,rates
 -q, -- no report
 -u, -- with -z, clusters may be given back
 -z, -- zeroes, by the tables alone where possible

`,
  run(session, args) {
    const request = readWriteRequest(session, args);
    return request === null ? 'failed' : executeWrite(session, request, 'write').print();
  },
};

function readWriteRequest(session: Session, args: readonly string[]): WriteRequest | null {
  const parsed = readOptions(session, writeCommand, args, 'bcCfnpP:qs:uz');
  if (parsed === null) return null;
  const given = new Set(parsed.options.map(({ name }) => name));
  let pattern = DEFAULT_PATTERN;
  let file: string | null = null;
  for (const { name, value } of parsed.options) {
    if (name === 's') file = value;
    if (name !== 'P') continue;
    const byte = readPattern(session, value);
    if (byte === null) return null;
    pattern = byte;
  }
  if (parsed.operands.length !== 2) {
    printUsage(session, writeCommand);
    return null;
  }
  const conflict = conflictOf(given);
  if (conflict !== null) {
    session.console.out(`${conflict}\n`);
    return null;
  }
  const range = readWriteRange(session, parsed.operands, given);
  if (range === null) return null;
  const kind = given.has('b') ? 'vm-state' : given.has('z') ? 'zeroes' : given.has('c') ? 'compressed' : 'plain';
  const content = kind === 'zeroes' ? null : contentOf(session, { file, pattern, length: range.length });
  if (content === undefined) return null;
  const switches = { fua: given.has('f'), unmap: given.has('u'), noFallback: given.has('n') };
  return { ...range, kind, content, ...switches, quiet: given.has('q'), terse: given.has('C') };
}

/** What is wrong with the options together; null for nothing. */
function conflictOf(given: ReadonlySet<string>): string | null {
  const has = (letter: string) => given.has(letter);
  if (has('b') && has('z')) return '-b and -z cannot be specified at the same time';
  if (has('f') && (has('b') || has('c'))) return '-f and -b or -c cannot be specified at the same time';
  if (has('n') && !has('z')) return '-n requires -z to be specified';
  if (has('u') && !has('z')) return '-u requires -z to be specified';
  const contents = ['z', 'P', 's'].filter(has);
  return contents.length > 1 ? 'Only one of -z, -P, and -s can be specified at the same time' : null;
}

function readWriteRange(
  session: Session,
  operands: readonly string[],
  given: ReadonlySet<string>,
): { readonly offset: bigint; readonly length: number } | null {
  const offset = readSize(session, operands[0]!);
  if (offset === null) return null;
  const length = readSize(session, operands[1]!);
  if (length === null) return null;
  if (length > MOST_BYTES && !given.has('n')) {
    session.console.out(`length cannot exceed ${MOST_BYTES} without -n, given ${operands[1]}\n`);
    return null;
  }
  const range = { offset, length: Number(length) };
  const bySectors = given.has('b') || given.has('c');
  return bySectors && !isWholeSectors(session, range) ? null : range;
}

/** Undefined when it was told why the file can't be had. */
function contentOf(
  session: Session,
  source: { readonly file: string | null; readonly pattern: number; readonly length: number },
): Uint8Array | undefined {
  const { file, pattern, length } = source;
  const content = new Uint8Array(length);
  if (file === null) return content.fill(pattern);
  try {
    const bytes = startOf(file, length);
    if (bytes.length > 0) return Buffer.alloc(length, bytes);
    session.console.err(`${file}: file is empty\n`);
  } catch (error) {
    session.console.err(`${file}: ${errorWords(error).words}\n`);
  }
  return undefined;
}

/** The first bytes of a file, which may have no end. */
function startOf(file: string, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const descriptor = openSync(file, 'r');
  try {
    let done = 0;
    for (let count = -1; count !== 0 && done < length; done += count) {
      count = readSync(descriptor, bytes, done, length - done, null);
    }
    return bytes.subarray(0, done);
  } finally {
    closeSync(descriptor);
  }
}

export const writevCommand: IoCommand = {
  name: 'writev',
  atLeast: 2,
  atMost: null,
  writes: true,
  usage: '[-Cfq] [-P pattern] off len [len..]',
  summary: 'writes a pattern from several buffers',
  help: `
 Writes a range of the open file from several buffers, one for each length, filled with a byte (0xcd where none is given).

 Example:
 'writev 512 1k 1k' - writes two kilobytes that begin 512 bytes into the file

 -P, -- another byte
 -C, -- a report for programs: bytes,operations,time,rates
 -f, -- stable before the command ends
 -q, -- no report

`,
  run(session, args) {
    const parsed = readOptions(session, writevCommand, args, 'CfqP:');
    if (parsed === null) return 'failed';
    const request = readVectorWrite(session, writevCommand, parsed);
    return request === null ? 'failed' : executeWrite(session, request, 'writev').print();
  },
};

/** The arguments of `writev` and `aio_write`, their options parsed. */
export function readVectorWrite(
  session: Session,
  command: IoCommand,
  parsed: {
    readonly options: readonly { readonly name: string; readonly value: string }[];
    readonly operands: readonly string[];
  },
): WriteRequest | null {
  const given = new Set(parsed.options.map(({ name }) => name));
  let pattern = DEFAULT_PATTERN;
  for (const { name, value } of parsed.options) {
    if (name !== 'P') continue;
    const byte = readPattern(session, value);
    if (byte === null) return null;
    pattern = byte;
  }
  if (parsed.operands.length < 2) {
    printUsage(session, command);
    return null;
  }
  const offset = readSize(session, parsed.operands[0]!);
  if (offset === null) return null;
  const length = readLengths(session, parsed.operands.slice(1));
  if (length === null) return null;
  const content = new Uint8Array(length).fill(pattern);
  const switches = { fua: given.has('f'), unmap: false, noFallback: false };
  return { offset, length, kind: 'plain', content, ...switches, quiet: given.has('q'), terse: given.has('C') };
}
