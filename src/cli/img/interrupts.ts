/**
 * Interrupts: Ctrl-C and its kin while a file is being made or changed. The engine is synchronous, so a long job lets the event loop
 * have its turn now and then; a signal is seen there, the job is given up between two steps, what is half made is removed, and the
 * program then ends by that very signal, as a shell expects.
 */

/** Thrown by `breathe` when a signal has arrived. */
export class Interrupted extends Error {
  constructor(readonly signal: NodeJS.Signals) {
    super(`interrupted by ${signal}`);
  }
}

const ENDING: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** Milliseconds between two turns of the event loop: short for a human, long against the cost of a turn. */
const TURN_MS = 50;

export class Interrupts {
  #arrived: NodeJS.Signals | null = null;
  #lastTurn = 0;
  #guarded = false;
  readonly #onSignal = (signal: NodeJS.Signals): void => {
    this.#arrived = signal;
  };

  /** From now on signals wait for `breathe`. */
  guard(): void {
    if (this.#guarded) return;
    this.#guarded = true;
    this.#lastTurn = performance.now();
    for (const signal of ENDING) process.on(signal, this.#onSignal);
  }

  /** To be called between two steps, however short. Throws `Interrupted`. */
  async breathe(): Promise<void> {
    const now = performance.now();
    if (now - this.#lastTurn < TURN_MS) return;
    await new Promise((resolve) => setImmediate(resolve));
    this.#lastTurn = performance.now();
    if (this.#arrived !== null) throw new Interrupted(this.#arrived);
  }

  /** Runs a job to its end, step by step. A job that is interrupted is given up. */
  async run<S, T>(steps: Iterator<S, T>, onStep: (step: S) => void = () => {}): Promise<T> {
    this.guard();
    try {
      for (;;) {
        const step = steps.next();
        if (step.done === true) return step.value;
        onStep(step.value);
        await this.breathe();
      }
    } catch (error) {
      steps.return?.();
      throw error;
    }
  }

  /** Signals end the process at once again. */
  release(): void {
    for (const signal of ENDING) process.off(signal, this.#onSignal);
    this.#guarded = false;
  }

  /** Ends the process by the signal that interrupted it. */
  static endBy(signal: NodeJS.Signals): void {
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  }
}
