/** One change at a time, in the order in which they were asked for; whatever runs between two of them stands still meanwhile. */

export interface BetweenTurns {
  /** Resolves when nothing of it is under way any more. */
  stop(): Promise<void>;
  /** The last change that was asked for so far has ended, well or not. */
  start(): void;
}

export class Turns {
  #change: Promise<void> = Promise.resolve();

  constructor(private readonly between: BetweenTurns) {}

  /** Runs `change` in its turn. Rejects as it does, which keeps no other one from its turn. */
  take<T>(change: () => Promise<T>): Promise<T> {
    const done = this.#change.then(async () => {
      await this.between.stop();
      return change();
    });
    const settled = (): void => this.between.start();
    this.#change = done.then(settled, settled);
    return done;
  }
}
