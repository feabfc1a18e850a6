/**
 * Input: the lines of stdin, each behind a prompt. At a terminal they can be edited, and names of commands completed.
 */
import { readSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { isatty } from 'node:tty';
import { COMMANDS } from './command-table.js';
import type { Session } from './session.js';

const PROMPT = 'qemu-io> ';
const CHUNK_BYTES = 4096;

export async function* readLines(session: Session): AsyncGenerator<string> {
  if (isatty(0)) yield* terminalLines(session);
  else yield* pipedLines(session);
}

/** One line at a time, so that what a program sends as an answer to what was printed is read after it. */
function* pipedLines(session: Session): Generator<string> {
  let held = Buffer.alloc(0);
  for (;;) {
    prompt(session);
    let end = held.indexOf('\n');
    while (end < 0) {
      const chunk = readChunk();
      if (chunk.length === 0) break;
      held = Buffer.concat([held, chunk]);
      end = held.indexOf('\n');
    }
    if (end < 0 && held.length === 0) return;
    const line = held.subarray(0, end < 0 ? held.length : end).toString();
    held = held.subarray(end < 0 ? held.length : end + 1);
    yield line;
  }
}

function prompt(session: Session): void {
  session.console.out(PROMPT);
  session.settle();
  session.console.flush();
}

/** Empty at the end. */
function readChunk(): Buffer {
  const chunk = Buffer.alloc(CHUNK_BYTES);
  for (;;) {
    try {
      return chunk.subarray(0, readSync(0, chunk));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EOF') return chunk.subarray(0, 0);
      if (code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
}

async function* terminalLines(session: Session): AsyncGenerator<string> {
  const completer = (line: string): [string[], string] => {
    return [COMMANDS.map(({ name }) => name).filter((name) => name.startsWith(line)), line];
  };
  const terminal = createInterface({ input: process.stdin, output: process.stdout, prompt: PROMPT, completer });
  try {
    terminal.prompt();
    for await (const line of terminal) {
      yield line;
      session.settle();
      terminal.prompt();
    }
  } finally {
    terminal.close();
  }
}
