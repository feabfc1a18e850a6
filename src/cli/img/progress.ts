/**
 * Progress on a terminal: `    (12.34/100%)` on a line that is written over. Without `-p` a SIGUSR1 asks for one such line on
 * stderr.
 */
import type { Console } from '../text/messages.js';

/** A job may be left out of the display of progress when less than this many per cent have passed. */
type Percent = number;

export class Progress {
  readonly #console: Console;
  readonly #enabled: boolean;
  readonly #minSkip: Percent;
  #current: Percent = 0;
  #lastPrint: Percent = 0;
  #asked = false;
  readonly #onSignal = (): void => {
    this.#asked = true;
  };

  constructor(console: Console, options: { readonly enabled: boolean; readonly minSkip: Percent }) {
    this.#console = console;
    this.#enabled = options.enabled;
    this.#minSkip = options.minSkip;
    if (!this.#enabled) process.on('SIGUSR1', this.#onSignal);
  }

  /** So much is done in all. */
  set(percent: Percent): void {
    this.#current = Math.min(100, percent);
    const change = Math.abs(this.#current - this.#lastPrint);
    if (change <= this.#minSkip && this.#current !== 100 && this.#current !== 0) return;
    this.#lastPrint = this.#current;
    this.#print();
  }

  /** So much more is done. */
  add(percent: Percent): void {
    this.set(this.#current + percent);
  }

  end(): void {
    if (this.#enabled) this.#console.out('\n');
    else process.off('SIGUSR1', this.#onSignal);
  }

  #print(): void {
    const text = `    (${this.#current.toFixed(2)}/100%)`;
    if (this.#enabled) {
      this.#console.out(`${text}\r`);
      this.#console.flush();
    } else if (this.#asked) {
      this.#asked = false;
      this.#console.err(`${text}\n`);
    }
  }
}
