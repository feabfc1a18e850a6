/**
 * `open`, `close`, `reopen` and `quit`.
 */
import type { CacheMode, OptionValue } from '../graph/block-node.js';
import { parseCacheMode, parseDiscardMode } from '../graph/cache-mode.js';
import { reportError, reportThrown, reportWarning } from '../text/messages.js';
import { boolOption, parseOptionList } from '../text/option-list.js';
import { openedNode, printUsage, readOptions, type IoCommand } from './command.js';
import type { OpenRequest, Session } from './session.js';

export const WRITETHROUGH: CacheMode = { writethrough: true, direct: false, noFlush: false };
const AIO_MODES = ['threads', 'native', 'io_uring'];

export const openCommand: IoCommand = {
  name: 'open',
  shortName: 'o',
  atLeast: 1,
  atMost: null,
  withoutFile: true,
  usage: '[-rsCnkU] [-t cache] [-d discard] [-o options] [path]',
  summary: 'opens an image',
  help: `
 Opens a file, which the other commands then work on.

 Example:
 'open -n -o driver=raw /tmp/data' - opens a raw file for reading and writing

 -r, -- for reading alone
 -s, -- over the file: changes are lost when it is closed
 -C, -- what is read from a backing file is written to the file
 -n, -- short for -t none
 -U, -- whatever another program does to the file
 -k, -- no effect; known from the original
 -i, -- no effect; known from the original
 -t, -- the cache mode
 -d, -- what becomes of discarded ranges: unmap or ignore
 -o, -- options of the driver

`,
  async run(session, args) {
    const request = readOpenRequest(session, args);
    if (request === null) return 'failed';
    return (await session.open(request)) ? 'ok' : 'failed';
  },
};

/** What the letters of `open` say, one after the other; null when it was told what is wrong. */
function readOpenRequest(session: Session, args: readonly string[]): OpenRequest | null {
  const parsed = readOptions(session, openCommand, args, 'snCro:ki:t:d:U');
  if (parsed === null) return null;
  const options = new Map<string, OptionValue>();
  let cache = WRITETHROUGH;
  let unmap = true;
  for (const { name, value } of parsed.options) {
    if (name === 'n') cache = { ...cache, direct: true, writethrough: false };
    const problem = problemOf(session, name, value);
    if (problem !== null) {
      problem();
      return null;
    }
    if (name === 't') cache = parseCacheMode(value) ?? cache;
    else if (name === 'd') unmap = parseDiscardMode(value) ?? unmap;
    else if (name === 'o') readList(session, value, options);
  }
  const operands = [...parsed.operands];
  if (session.imageOpts && operands.length === 1) readList(session, operands.pop()!, options);
  if (operands.length > 1) {
    printUsage(session, openCommand);
    return null;
  }
  const has = (letter: string) => parsed.options.some(({ name }) => name === letter);
  const switches = { readOnly: has('r'), snapshot: has('s'), copyOnRead: has('C'), forceShare: has('U') };
  return { reference: { fileName: operands[0] ?? null, options }, ...switches, unmap, cache };
}

/** What is wrong with an option of `open`, as what tells of it. */
function problemOf(session: Session, name: string, value: string): (() => void) | null {
  const report = (message: string) => () => reportError(session.console, message);
  if (name === 't' && parseCacheMode(value) === null) return report(`Invalid cache option: ${value}`);
  if (name === 'd' && parseDiscardMode(value) === null) return report(`Invalid discard option: ${value}`);
  if (name === 'i' && !AIO_MODES.includes(value)) return report(`Invalid aio option: ${value}`);
  if (name !== 'o' || !session.imageOpts) return null;
  return () => session.console.out("--image-opts and 'open -o' are mutually exclusive\n");
}

/** Adds the options of a list; one without a value is told of, as QEMU does. */
export function readList(session: Session, text: string, options: Map<string, OptionValue>, impliedKey?: string): void {
  const { entries, flags } = parseOptionList(text, impliedKey);
  for (const { written, key, value } of flags) {
    reportWarning(session.console, `short-form boolean option '${written}' deprecated`);
    session.console.err(`Please use ${key}=${value} instead\n`);
  }
  for (const [key, value] of entries) options.set(key, value);
}

export const closeCommand: IoCommand = {
  name: 'close',
  shortName: 'c',
  summary: 'closes the image',
  run(session) {
    session.close();
    return 'ok';
  },
};

export const quitCommand: IoCommand = {
  name: 'quit',
  shortName: 'q',
  atMost: null,
  withoutFile: true,
  summary: 'leaves',
  run(session) {
    session.quit = true;
    return 'ok';
  },
};

export const reopenCommand: IoCommand = {
  name: 'reopen',
  atMost: null,
  usage: '[(-r|-w)] [-c cache] [-o options]',
  summary: 'changes how the image is open',
  help: `
 Changes how the open file is worked with.

 Example:
 'reopen -o lazy-refcounts=on' - refcounts are written late from now on

 -r, -- for reading alone
 -w, -- for reading and writing
 -c, -- another cache mode
 -o, -- options of the driver (see 'open')

`,
  run(session, args) {
    const change = readReopen(session, args);
    if (change === null) return 'failed';
    const node = openedNode(session);
    try {
      const named = change.options.get('read-only');
      const readOnly =
        change.readOnly ?? (named === undefined ? node.readOnly : boolOption('read-only', String(named)));
      node.reopen({ readOnly, options: change.options });
    } catch (error) {
      reportThrown(session.console, error);
      return 'failed';
    }
    if (change.cache !== null) session.writethrough = change.cache.writethrough;
    return 'ok';
  },
};

interface Reopen {
  /** Null where neither -r nor -w says it. */
  readonly readOnly: boolean | null;
  readonly cache: CacheMode | null;
  readonly options: ReadonlyMap<string, OptionValue>;
}

function readReopen(session: Session, args: readonly string[]): Reopen | null {
  const parsed = readOptions(session, reopenCommand, args, 'c:o:rw');
  if (parsed === null) return null;
  const refuse = (message: string): null => {
    reportError(session.console, message);
    return null;
  };
  const options = new Map<string, OptionValue>();
  let cache: CacheMode | null = null;
  let readOnly: boolean | null = null;
  for (const { name, value } of parsed.options) {
    if (name === 'o') readList(session, value, options);
    else if (name === 'c') {
      cache = parseCacheMode(value);
      if (cache === null) return refuse(`Invalid cache option: ${value}`);
    } else {
      if (readOnly !== null) return refuse('Only one -r/-w option may be given');
      readOnly = name === 'r';
    }
  }
  if (parsed.operands.length > 0) {
    printUsage(session, reopenCommand);
    return null;
  }
  if (readOnly !== null && options.has('read-only')) return refuse("Cannot set both -r/-w and 'read-only'");
  if (cache !== null && (options.has('cache.direct') || options.has('cache.no-flush'))) {
    return refuse('Cannot set both -c and the cache options');
  }
  return { readOnly, cache, options };
}
