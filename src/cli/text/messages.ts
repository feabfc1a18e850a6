/**
 * What the programs say: text on stdout, messages on stderr, and the errors that become such messages.
 *
 * Messages begin with the names of QEMU's programs, `qemu-img:` and `qemu-io:`, whatever ours were called as. The messages are
 * theirs, word for word, so that scripts (and QEMU's own test suite) that look for them find them. `qcow2-split` is a program of ours alone.
 *
 * Stdout is buffered as by a C library: into a terminal by lines, else in blocks of 4 KiB. Stderr is not. So where both go to one
 * file their order is the one that QEMU's programs have.
 */
import { writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { isQcow2Error } from '../../errors.js';
import { ErrnoError, errnoOf, strerror, type Errno } from './errno.js';

export type ProgramName = 'qemu-img' | 'qemu-io' | 'qcow2-split';

/** Where a command writes to. */
export interface Console {
  readonly program: ProgramName;
  /** Text for stdout, as it is: line ends are the caller's. */
  out(text: string): void;
  /** Text for stderr, as it is. */
  err(text: string): void;
  /** Writes what stdout still holds back. */
  flush(): void;
}

/** A message for stderr. `hint` follows on lines of its own, without the program's name; it ends with a line break. */
export class CliError extends Error {
  override readonly name: string = 'CliError';
  readonly hint: string;
  /** The name of the system's error it stands for. */
  readonly errno: Errno;

  constructor(message: string, options: { hint?: string; errno?: Errno; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.hint = options.hint ?? '';
    this.errno = options.errno ?? 'EINVAL';
  }
}

/** A command line that can't be understood: the message, and where help is to be found. */
export class UsageError extends CliError {
  override readonly name = 'UsageError';
}

/** The same error with `prefix` before its message. Errors of the engine and of the host become messages. */
export function withPrefix(prefix: string, error: unknown): CliError {
  const { message, hint, errno } = asCliError(error);
  return new CliError(prefix + message, { hint, errno, cause: error });
}

/** The message of any error that the world can cause; what is a mistake of ours is thrown on. */
export function asCliError(error: unknown): CliError {
  if (error instanceof CliError) return error;
  const failed = isQcow2Error(error, 'IO') || isQcow2Error(error, 'NO_SPACE');
  if (failed || error instanceof ErrnoError || (error instanceof Error && 'syscall' in error)) {
    const errno = errnoOf(error);
    return new CliError(strerror(errno), { errno, cause: error });
  }
  if (isQcow2Error(error)) return new CliError(error.message, { errno: errnoOf(error), cause: error });
  throw error;
}

/** `qemu-img: message`, as an error. */
export function reportError(console: Console, message: string): void {
  console.err(`${console.program}: ${message}\n`);
}

export function reportWarning(console: Console, message: string): void {
  console.err(`${console.program}: warning: ${message}\n`);
}

/** Reports what was thrown. Mistakes of ours are thrown on. */
export function reportThrown(console: Console, thrown: unknown): void {
  const error = asCliError(thrown);
  reportError(console, error.message);
  if (error instanceof UsageError) console.err(`Try '${console.program} --help' for more information\n`);
  console.err(error.hint);
}

/** As a C library's buffer for a pipe or a file. */
const BUFFER_BYTES = 4096;

/** The console of a process. */
export class ProcessConsole implements Console {
  readonly program: ProgramName;
  readonly #byLines: boolean;
  #held = '';
  /** Stdout takes no more. */
  #failed = false;

  constructor(program: ProgramName) {
    this.program = program;
    this.#byLines = isatty(1);
  }

  out(text: string): void {
    this.#held += text;
    if (this.#byLines) {
      const end = this.#held.lastIndexOf('\n') + 1;
      this.#write(end);
    } else if (this.#held.length >= BUFFER_BYTES) {
      this.#write(this.#held.length - (this.#held.length % BUFFER_BYTES));
    }
  }

  err(text: string): void {
    writeAll(2, text);
  }

  flush(): void {
    this.#write(this.#held.length);
  }

  /** To be called last: writes what is held back. The exit code, which is 1 where there was no room for all. */
  end(code: number): number {
    try {
      this.flush();
    } catch (error) {
      reportThrown(this, error);
    }
    return this.#failed ? 1 : code;
  }

  #write(length: number): void {
    const text = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    // One complaint is enough.
    if (this.#failed) return;
    try {
      writeAll(1, text);
    } catch (error) {
      this.#failed = true;
      throw error;
    }
  }
}

/** A reader that has gone away is not an error of the program; one that is slow is waited for. */
function writeAll(descriptor: number, text: string): void {
  const bytes = Buffer.from(text);
  let done = 0;
  while (done < bytes.length) {
    try {
      done += writeSync(descriptor, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE' || code === 'EBADF') return;
      if (code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}
