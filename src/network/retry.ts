/**
 * Attempts at something that may fail for a moment: with pauses that double, and half of each left to chance, so that the pages of a
 * thousand visitors do not all come back at the same moment after an outage.
 *
 * A guest waits 30 s for its disk, then resets it and asks again. Five attempts end within that where the server fails at once; the
 * error then reaches the guest as one of its disk, and the next read tries anew.
 */
import { Qcow2Error } from '../errors.js';
import { FetchFailure } from './fetch-failure.js';

export interface Patience {
  /** In a row without a byte of progress. */
  readonly attempts: number;
  /** Before the second attempt; each further pause is twice as long. */
  readonly firstPauseMilliseconds: number;
  readonly longestPauseMilliseconds: number;
  /** Without an answer, or without the next byte of one. */
  readonly stallMilliseconds: number;
  /** A request that has not come to its end has so much more time in all; on a slower line no guest boots. */
  readonly slowestBytesPerSecond: number;
}

export const DEFAULT_PATIENCE: Patience = {
  attempts: 5,
  firstPauseMilliseconds: 250,
  longestPauseMilliseconds: 8000,
  stallMilliseconds: 12_000,
  slowestBytesPerSecond: 8 * 1024,
};

export interface RetryOptions {
  readonly patience: Patience;
  readonly signal: AbortSignal;
  /** Told of each failure that is followed by another attempt. */
  readonly onRetry?: (failure: FetchFailure) => void;
}

/**
 * Calls `attempt` until it succeeds. It is told how to say that it got on, after which failures are counted anew.
 * @throws Qcow2Error what the last attempt failed with, `ABORTED`.
 */
export async function withRetries<T>(attempt: (gotOn: () => void) => Promise<T>, options: RetryOptions): Promise<T> {
  const { patience, signal, onRetry } = options;
  let failures = 0;
  const gotOn = (): void => {
    failures = 0;
  };
  for (;;) {
    throwIfAborted(signal);
    try {
      return await attempt(gotOn);
    } catch (error) {
      throwIfAborted(signal);
      if (!(error instanceof FetchFailure) || !error.isPassing) throw error;
      if (++failures >= patience.attempts) throw gaveUp(error, failures);
      onRetry?.(error);
      await pause(pauseAfter(failures, patience), signal);
    }
  }
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortedError(signal);
}

export function abortedError({ reason }: AbortSignal): Qcow2Error {
  return new Qcow2Error('ABORTED', 'fetching from the base image was given up', { cause: reason });
}

function gaveUp(error: FetchFailure, attempts: number): Qcow2Error {
  return new Qcow2Error(error.code, `${error.message} (${attempts} attempts)`, { cause: error.cause ?? error });
}

/** Between half of the pause and all of it. */
function pauseAfter(failures: number, { firstPauseMilliseconds, longestPauseMilliseconds }: Patience): number {
  const whole = Math.min(firstPauseMilliseconds * 2 ** (failures - 1), longestPauseMilliseconds);
  return whole * (0.5 + Math.random() / 2);
}

/** Also ends, without an error, when `signal` is aborted. */
function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener('abort', end);
  });
}
