/**
 * Numbers in commands: offsets, lengths, patterns. What is wrong with one is printed on stdout, as qemu-io does.
 */
import { MAX_INT64, parseSize } from '../text/sizes.js';
import type { Session } from './session.js';

/** QEMU's largest request: what an int holds, in whole sectors. */
export const MOST_BYTES = 2_147_483_136;

/** A size up to 2^63 - 1; null when it was told what is wrong with it. */
export function readSize(session: Session, text: string): bigint | null {
  const parsed = parseSize(text);
  if (parsed.kind === 'number' && parsed.value <= MAX_INT64) return parsed.value;
  session.console.out(
    parsed.kind === 'invalid'
      ? `Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- ${text}\n`
      : `Parsing error: argument too large -- ${text}\n`,
  );
  return null;
}

/** A byte; null when it was told what is wrong with it. As `strtol` reads it: decimal, 0x hex, 0 octal. */
export function readPattern(session: Session, text: string): number | null {
  const value = readInteger(text);
  if (value !== null && value >= 0 && value <= 0xff) return value;
  session.console.out(`${text} is not a valid pattern byte\n`);
  return null;
}

/** `strtol` with base 0; null for what is no number. An empty text is 0, as in C. */
export function readInteger(text: string): number | null {
  const match = /^\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*|)$/.exec(text);
  if (match === null) return null;
  const digits = match[2]!;
  const value = /^0[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number(digits);
  return match[1] === '-' ? -value : value;
}

/** The lengths of several buffers; null when it was told what is wrong with one. */
export function readLengths(session: Session, texts: readonly string[]): number | null {
  let total = 0;
  for (const text of texts) {
    const length = readSize(session, text);
    if (length === null) return null;
    if (length > MOST_BYTES) {
      session.console.out(`Argument '${text}' exceeds maximum size ${MOST_BYTES}\n`);
      return null;
    }
    total += Number(length);
    if (total > MOST_BYTES) {
      session.console.out(`The total number of bytes exceed the maximum size ${MOST_BYTES}\n`);
      return null;
    }
  }
  return total;
}
