/** A long job in the worker: all its steps, with a turn for others between two of them. */
import { Qcow2Error } from '../errors.js';
import { settle } from '../storage/not-resident.js';
import type { Progress } from '../util/progress.js';
import type { JobKind } from './passing.js';

/** Awaited after each step. Ends the job by throwing. */
export type BetweenSteps = (progress: Progress) => Promise<void>;

/** The turns for others in a job that has several stretches. */
export interface JobTurns {
  /** Of the job as it was asked for: it tells the progress, and ends when the page cancels it. */
  readonly of: (kind: JobKind) => BetweenSteps;
  /** Of what goes with it and must not be left out, the delete of a snapshot: nothing is told, and nothing ends it. */
  readonly aside: BetweenSteps;
  /** Aborted when the page cancels the job. */
  readonly signal: AbortSignal;
}

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
