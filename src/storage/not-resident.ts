/**
 * What is not local faults: a storage whose bytes are elsewhere throws `NotResident`, which knows how to fetch exactly
 * what is missing. `settle` is the one place that waits for it and runs the operation again (DESIGN: "the engine is
 * synchronous, and what is remote faults"). Nothing below `settle` catches it.
 *
 * An operation must therefore read everything that can fault before it changes anything.
 */

/** Thrown by a read of bytes that are not here yet. Not an error: the operation is to be run again after `load()`. */
export class NotResident extends Error {
  override readonly name = 'NotResident';

  /**
   * @param load fetches what is missing; rejects with a `Qcow2Error` when it can't be had, `ABORTED` where its signal ends the wait. One
   * who does not look at the signal waits to the end. `round` counts how often the operation has faulted, this time included.
   */
  constructor(
    message: string,
    readonly load: (signal?: AbortSignal, round?: number) => Promise<void>,
  ) {
    super(message);
  }
}

/** Runs `operation` until it no longer faults. Rejects with what `operation` or `load()` fails with. @param signal ends the wait. */
export async function settle<T>(operation: () => T, signal?: AbortSignal): Promise<T> {
  for (let round = 1; ; round++) {
    try {
      return operation();
    } catch (error) {
      if (!(error instanceof NotResident)) throw error;
      await error.load(signal, round);
    }
  }
}
