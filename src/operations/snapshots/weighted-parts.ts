/** A job made of parts of known size, with one progress in bytes over all. */
import { stepsOf, type Steps } from '../../util/steps.js';

export interface Part {
  /** For a person. */
  readonly what: string;
  /** How much of the whole it is; 0 for what takes no time to speak of. */
  readonly bytes: number;
  /** Called when its turn comes: it may build on the parts before. */
  readonly start: () => Steps;
}

/** The parts one after the other. */
export function partsInTurn(parts: readonly Part[]): Steps {
  const total = parts.reduce((sum, { bytes }) => sum + bytes, 0);
  let index = 0;
  let before = 0;
  let current: Steps | null = null;
  return stepsOf(
    () => {
      for (; index < parts.length; index++) {
        const { what, bytes, start } = parts[index]!;
        current ??= start();
        const { done, value } = current.next();
        if (done !== true) {
          const share = value.total === 0 ? 0 : Math.floor((value.done / value.total) * bytes);
          return { done: before + share, total, what };
        }
        current = null;
        before += bytes;
      }
      return null;
    },
    () => current?.return?.(),
  );
}
