/**
 * Long jobs as iterators made of steps. Between two steps the image is consistent, so that requests of the guest can be
 * served; a caller who has had enough just stops.
 *
 * No generators: one that throws `NotResident` has ended. A step of a job made here that throws has not been made, and
 * `next()` asks for it again.
 */
import { partOf, type Progress } from './progress.js';

export type Steps = IterableIterator<Progress, void>;

/**
 * The job that `step` carries out bit by bit: it returns how far it is, or null when all is done. `giveUp` is called once
 * when the caller leaves before that (a `break` out of `for ... of` does it).
 */
export function stepsOf(step: () => Progress | null, giveUp: () => void = () => {}): Steps {
  let finished = false;
  const end = { done: true, value: undefined } as const;
  return {
    next(): IteratorResult<Progress, void> {
      if (finished) return end;
      const progress = step();
      if (progress !== null) return { done: false, value: progress };
      finished = true;
      return end;
    },
    return(): IteratorResult<Progress, void> {
      if (!finished) giveUp();
      finished = true;
      return end;
    },
    [Symbol.iterator]() {
      return this;
    },
  };
}

/** Makes all the steps that are left; what the job results in. */
export function runToEnd<T>(steps: Iterator<Progress, T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** A job of one step. */
export function singleStep(what: string, step: () => void): Steps {
  let made = false;
  return stepsOf(() => {
    if (made) return null;
    step();
    made = true;
    return { done: 1, total: 1, what };
  });
}

/** Jobs one after the other, with one progress over all. Each is made when its turn comes: it may build on the one before. */
export function sequence(jobs: readonly (() => Steps)[]): Steps {
  let index = 0;
  let current: Steps | null = null;
  return stepsOf(
    () => {
      while (index < jobs.length) {
        current ??= jobs[index]!();
        const { done, value } = current.next();
        if (done !== true) return partOf(value, index, jobs.length);
        current = null;
        index++;
      }
      return null;
    },
    () => current?.return?.(),
  );
}
