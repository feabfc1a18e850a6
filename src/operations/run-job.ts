/**
 * Runs a job step by step and lets others have their turn between two steps: requests of a guest, the page's own work.
 * What is not resident is loaded and its step made again.
 */
import { Qcow2Error } from '../errors.js';
import { settle } from '../storage/not-resident.js';
import type { Progress } from '../util/progress.js';

export interface RunOptions {
  /** Ends the job between two steps: the image is then consistent, and the job not done. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
}

/** Resolves with the job's result. Rejects with `ABORTED`, or with what a step failed with; the job is given up then. */
export async function runJob<T>(steps: Iterator<Progress, T>, options: RunOptions = {}): Promise<T> {
  const { signal, onProgress } = options;
  try {
    for (;;) {
      if (signal?.aborted)
        throw new Qcow2Error('ABORTED', 'the job was ended by its AbortSignal', { cause: signal.reason });
      const step = await settle(() => steps.next());
      if (step.done === true) return step.value;
      onProgress?.(step.value);
      await nextTurn();
    }
  } catch (error) {
    steps.return?.();
    throw error;
  }
}

/** A turn of the event loop, not of the microtasks alone: messages come in between. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
