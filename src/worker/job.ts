/** A long job in the worker: all its steps, with a turn for others between two of them. */
import { Qcow2Error } from '../errors.js';
import { NotResident } from '../storage/not-resident.js';
import type { Progress } from '../util/progress.js';
import type { JobKind } from './passing.js';

/** Awaited after each step. Ends the job by throwing. */
export type BetweenSteps = (progress: Progress) => Promise<void>;

/** Waits for what a step has found missing, on a server above all. */
export type WhileLoading = (load: (signal?: AbortSignal) => Promise<void>) => Promise<void>;

/** The turns for others in a job that has several stretches. */
export interface JobTurns {
  /** Of the job as it was asked for: it tells the progress, and ends when the page cancels it. */
  readonly of: (kind: JobKind) => BetweenSteps;
  /** The same for as long as a step waits for a server: a guest is not to wait for what only the job needs. */
  readonly whileLoading: (kind: JobKind) => WhileLoading;
  /** Of what goes with it and must not be left out, the delete of a snapshot: nothing is told, and nothing ends it. */
  readonly aside: BetweenSteps;
  /** Aborted when the page cancels the job. */
  readonly signal: AbortSignal;
}

/** Resolves with the job's result. Rejects with what a step, or `between`, failed with; the job is given up then. */
export async function carryOut<T>(
  steps: Iterator<Progress, T>,
  between: BetweenSteps,
  whileLoading: WhileLoading = (load) => load(),
): Promise<T> {
  try {
    for (let round = 1; ;) {
      const step = nextStep(steps);
      if (step instanceof NotResident) {
        const count = round++;
        await whileLoading((signal) => step.load(signal, count));
        continue;
      }
      if (step.done === true) return step.value;
      round = 1;
      await between(step.value);
    }
  } catch (error) {
    steps.return?.();
    throw error;
  }
}

/** A step, or what it needs first: it has not been made then. */
function nextStep<T>(steps: Iterator<Progress, T>): IteratorResult<Progress, T> | NotResident {
  try {
    return steps.next();
  } catch (error) {
    if (error instanceof NotResident) return error;
    throw error;
  }
}

/** Throws `ABORTED` when the page has cancelled the request. */
export function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw new Qcow2Error('ABORTED', 'the job was ended by its AbortSignal');
}
