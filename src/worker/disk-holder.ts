/**
 * Whoever has a disk open, as the others reach it: answers those who ask for the disk, and lets go of it if its page agrees.
 *
 * Invariants:
 * - Each question is answered with `heard` at once and with one outcome, unless this thread ends before.
 * - Several who ask at the same time get one outcome: the page is asked once, and the disk is closed once.
 * - `consent` that has resolved is followed by `handOver`, also where nobody waits any more: the page has stopped using the disk then.
 * - A disk that is closed while its page is being asked is free: its page need not answer any more, and `handOver` is not called.
 * - A question may arrive several times; it is one.
 */
import { kindOf } from '../util/kind-of.js';
import type { ClaimMode } from './image-files.js';
import { openTakeOverChannel, type TakeOverChannel, type TakeOverMessage } from './take-over-channel.js';
import { toWireError } from './wire-error.js';

export interface HolderOptions {
  /** The name of the disk's lock. */
  readonly lock: string;
  /** How it is held. */
  readonly mode: ClaimMode;
  /** Rejects to keep the disk. `signal` is aborted when nobody waits for the answer any more, or the disk was closed meanwhile. */
  readonly consent: (signal: AbortSignal) => Promise<void>;
  /** Flushes and closes the disk. Whether it fails or not, the disk is closed afterwards. */
  readonly handOver: () => Promise<void>;
}

type Outcome =
  | { readonly state: 'released' }
  | { readonly state: 'refused'; readonly why: string }
  | { readonly state: 'failed'; readonly error: ReturnType<typeof toWireError> };

export class DiskHolder {
  readonly #id = crypto.randomUUID();
  readonly #options: HolderOptions;
  readonly #channel: TakeOverChannel;
  /** The questions that wait for their outcome. */
  readonly #askers = new Set<string>();
  /** Those that were heard, answered or not. */
  readonly #heard = new Set<string>();
  /** Of the page, which is being asked now; null while nobody asks. */
  #asking: AbortController | null = null;
  #isClosed = false;
  #tellClosed: () => void = () => undefined;

  constructor(options: HolderOptions) {
    this.#options = options;
    this.#channel = openTakeOverChannel(options.lock, (message) => this.#receive(message));
  }

  /** Answers nobody any more, but those who wait for an outcome. */
  close(): void {
    this.#isClosed = true;
    this.#tellClosed();
    if (this.#asking === null) this.#channel.close();
  }

  #receive(message: TakeOverMessage): void {
    if ('withdraw' in message) this.#withdraw(message.withdraw);
    else if ('mode' in message && !this.#isClosed && this.#isInTheWay(message.mode)) this.#hear(message.ask);
  }

  #isInTheWay(mode: ClaimMode): boolean {
    return mode === 'write' || this.#options.mode === 'write';
  }

  #hear(ask: string): void {
    if (this.#heard.has(ask)) return;
    this.#heard.add(ask);
    this.#askers.add(ask);
    this.#channel.post({ holder: this.#id, ask, state: 'heard' });
    if (this.#asking === null) void this.#letGo((this.#asking = new AbortController()));
  }

  #withdraw(ask: string): void {
    if (this.#askers.delete(ask) && this.#askers.size === 0) this.#asking?.abort();
  }

  async #letGo(asking: AbortController): Promise<void> {
    const outcome = await this.#outcome(asking);
    for (const ask of this.#askers) this.#channel.post({ holder: this.#id, ask, ...outcome });
    this.#askers.clear();
    this.#asking = null;
    if (this.#isClosed) this.#channel.close();
  }

  async #outcome(asking: AbortController): Promise<Outcome> {
    const { consent, handOver } = this.#options;
    const closed = new Promise<void>((resolve) => {
      this.#tellClosed = resolve;
    });
    try {
      await Promise.race([consent(asking.signal), closed]);
    } catch (error) {
      if (!this.#isClosed) return { state: 'refused', why: error instanceof Error ? error.message : kindOf(error) };
    }
    if (this.#isClosed) {
      asking.abort();
      return { state: 'released' };
    }
    try {
      await handOver();
      return { state: 'released' };
    } catch (error) {
      return { state: 'failed', error: toWireError(error) };
    }
  }
}
