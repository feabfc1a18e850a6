/** A long job in the worker: all its steps, with a turn for others between two of them. */
import { Qcow2Error } from '../errors.js';
import { settle } from '../storage/not-resident.js';
import type { Progress } from '../util/progress.js';

/** Awaited after each step. Ends the job by throwing. */
export type BetweenSteps = (progress: Progress) => Promise<void>;

/** Resolves with the job's result. Rejects with what a step, or `between`, failed with; the job is given up then. */
export async function carryOut<T>(steps: Iterator<Progress, T>, between: BetweenSteps): Promise<T> {
  try {
    for (let step = await settle(() => steps.next()); ; step = await settle(() => steps.next())) {
      if (step.done === true) return step.value;
      await between(step.value);
    }
  } catch (error) {
    steps.return?.();
    throw error;
  }
}

/** Throws `ABORTED` when the page has cancelled the request. */
export function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw new Qcow2Error('ABORTED', 'the job was ended by its AbortSignal');
}
