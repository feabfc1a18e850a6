/**
 * Errors on their way between threads. A cloned exception is no `Qcow2Error` any more and may lose its cause, so an error
 * travels as its code and words, and is made anew at the other end.
 */
import { Qcow2Error } from '../errors.js';
import type { WireError } from './protocol.js';

/** An exception that is no `Qcow2Error` is a mistake of our own; it is told as `IO`, with where it happened as its cause. */
export function toWireError(error: unknown): WireError {
  if (error instanceof Qcow2Error) {
    return { code: error.code, message: error.message, cause: error.cause === undefined ? null : inWords(error.cause) };
  }
  const cause = error instanceof Error ? (error.stack ?? null) : null;
  return { code: 'IO', message: `the disk's worker failed: ${inWords(error)}`, cause };
}

export function fromWireError(error: WireError): Qcow2Error {
  return new Qcow2Error(error.code, error.message, error.cause === null ? undefined : { cause: error.cause });
}

function inWords(value: unknown): string {
  return value instanceof Error ? `${value.name}: ${value.message}` : String(value);
}
