/**
 * The lane of the requests that change passphrases. Deriving keys takes seconds, and the disk is to go on meanwhile: so they run
 * beside the queue of the server, and come back to it for the two moments at which they use the disk.
 *
 *   queue  | write | add: | read | write | write |  add:  | read | close |
 *                  | read |                      | change |
 *   lane           |      +-- derives keys ------+        |
 *
 * Invariants:
 * - One at a time, in the order of arrival: each sees what the one before has changed.
 * - Neither moment falls between the steps of a job, whose export would have half of a change in it.
 * - A disk that was closed meanwhile, even if another is open by then, is not touched: `operations/key-slots.ts` looks.
 */
import type { KeySlotOptions } from '../operations/key-slots.js';
import { throwIfCancelled } from './job.js';

export type InTurn = NonNullable<KeySlotOptions['inTurn']>;

export class KeySlotLane {
  readonly #inTurn: InTurn;
  #last: Promise<unknown> = Promise.resolve();

  /** @param inTurn carries work out when no request and no job is under way. */
  constructor(inTurn: InTurn) {
    this.#inTurn = inTurn;
  }

  /** Carries out `change` when those before it have ended. @param signal ends it, also while it waits. */
  add<T>(change: (options: KeySlotOptions) => Promise<T>, signal: AbortSignal): Promise<T> {
    const inTurn: InTurn = (work) =>
      this.#inTurn(() => {
        throwIfCancelled(signal);
        return work();
      });
    const done = this.#last.then(() => change({ inTurn, signal }));
    this.#last = done.catch(() => {});
    return done;
  }
}
