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

/** Of `setTimeout`. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class Interrupts {
  #arrived: NodeJS.Signals | null = null;
  #lastTurn = 0;
  #guarded = false;
  /** Ends a pause. */
  #wake: () => void = () => {};
  readonly #onSignal = (signal: NodeJS.Signals): void => {
    this.#arrived = signal;
    this.#wake();
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

  /**
   * `breathe`, and a rest where work that began at `started` (of `performance.now`) was faster than the limit. Rates in bytes a
   * second; 0 for no limit.
   */
  async hold(
    started: number,
    { bytes, rateLimit }: { readonly bytes: number; readonly rateLimit: number },
  ): Promise<void> {
    const early = rateLimit === 0 ? 0 : (bytes / rateLimit) * 1000 - (performance.now() - started);
    if (early > 0) await this.#pause(early);
    await this.breathe();
  }

  /** A signal ends it early. */
  async #pause(ms: number): Promise<void> {
    if (this.#arrived !== null) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      // A longer one would ring at once.
      timer = setTimeout(resolve, Math.min(ms, LONGEST_TIMER_MS));
    });
    clearTimeout(timer);
    this.#wake = () => {};
    this.#lastTurn = -Infinity;
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
