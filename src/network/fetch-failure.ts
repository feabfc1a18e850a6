/** An attempt to fetch that failed, and whether it is worth another one. Callers see a `Qcow2Error` like any other. */
import { Qcow2Error, type ErrorCode } from '../errors.js';

export class FetchFailure extends Qcow2Error {
  /** Whether the next attempt may go better: a line that broke, a busy server, an answer that was cut short. */
  readonly isPassing: boolean;

  constructor(code: ErrorCode, message: string, options: { readonly isPassing: boolean; readonly cause?: unknown }) {
    super(code, message, options.cause === undefined ? undefined : { cause: options.cause });
    this.isPassing = options.isPassing;
  }
}

/** One that passes. */
export function passing(message: string, cause?: unknown): FetchFailure {
  return new FetchFailure('NETWORK', message, { isPassing: true, cause });
}

/** One that stays: trying again gives the same. */
export function lasting(code: ErrorCode, message: string, cause?: unknown): FetchFailure {
  return new FetchFailure(code, message, { isPassing: false, cause });
}
