/**
 * One request at a time, in the order they were made: a read never passes an earlier write, and a flush covers every
 * write made before it.
 *
 * A request that can be answered at once, when nothing is under way, is answered before `run` returns: an engine in this
 * thread costs neither a promise nor a microtask.
 */

export type Answer<T> = T | Promise<T>;

export interface Outcome<T> {
  done(value: T): void;
  failed(error: unknown): void;
}

export class RequestQueue {
  readonly #waiting: (() => void)[] = [];
  readonly #idleListeners: (() => void)[] = [];
  #busy = false;

  /** Requests made and not yet answered. */
  get inFlight(): number {
    return this.#waiting.length + (this.#busy ? 1 : 0);
  }

  /** Runs `operation` when its turn comes and hands its result, or what it threw, to `outcome`. */
  run<T>(operation: () => Answer<T>, outcome: Outcome<T>): void {
    const start = (): void => this.#start(operation, outcome);
    if (this.#busy) this.#waiting.push(start);
    else start();
  }

  /** Resolves once no request is waiting or under way. */
  whenIdle(): Promise<void> {
    if (this.inFlight === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleListeners.push(resolve));
  }

  #start<T>(operation: () => Answer<T>, outcome: Outcome<T>): void {
    this.#busy = true;
    let answer: Answer<T>;
    try {
      answer = operation();
    } catch (error) {
      this.#finish(() => outcome.failed(error));
      return;
    }
    if (!(answer instanceof Promise)) {
      const value = answer;
      this.#finish(() => outcome.done(value));
      return;
    }
    answer.then(
      (value) => this.#finish(() => outcome.done(value)),
      (error: unknown) => this.#finish(() => outcome.failed(error)),
    );
  }

  /** The answer is given before the next request starts, so answers come in order too. */
  #finish(report: () => void): void {
    try {
      report();
    } finally {
      this.#busy = false;
      const next = this.#waiting.shift();
      if (next) next();
      else for (const resolve of this.#idleListeners.splice(0)) resolve();
    }
  }
}
