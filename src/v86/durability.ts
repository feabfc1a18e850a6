/**
 * When written data is made stable without the guest asking: a short time after the last write, at the latest a fixed
 * time after the first write that is not stable yet, and when the page is hidden or left. On demand through `flushNow`.
 *
 * A page that is hidden or left may have no later: no timer fires in it and no answer arrives. So that flush is sent at
 * once, whatever is under way, and the timer stays as it is for a page that lives on.
 *
 * A guest that sends FLUSH CACHE (`ata-hook.ts`) has its own durability; this bounds what the others can lose.
 *
 *   write ... write ......... quiet ........ flush
 *   write . write . write . write . write .. at most `maximum` after the first: flush
 */

export interface DurabilityOptions {
  /** Flush when there was no write for this long. Milliseconds; 200 unless told. */
  readonly quietMilliseconds?: number;
  /** Flush this long after the first unstable write even if writes go on. Milliseconds; 2000 unless told. */
  readonly maximumMilliseconds?: number;
  /** Where `visibilitychange` and `pagehide` come from; the page this runs in unless told, nothing in a worker or Node. */
  readonly page?: PageEvents;
}

/** The two event sources of a page. */
export interface PageEvents {
  readonly document?: EventTarget & { readonly visibilityState?: string };
  readonly window?: EventTarget;
}

const QUIET_MILLISECONDS = 200;
const MAXIMUM_MILLISECONDS = 2000;

export class DurabilityPolicy {
  readonly #flush: () => Promise<void>;
  readonly #flushAtOnce: () => Promise<void>;
  readonly #quiet: number;
  readonly #maximum: number;
  readonly #page: PageEvents;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #firstWriteAt: number | null = null;
  #lastWriteAt = 0;
  #flushing: Promise<void> | null = null;

  /**
   * @param flush makes everything written before stable. Its failure is the caller's to report; the policy waits for the next write.
   * @param flushAtOnce what a page that goes away calls: the same, but sent before it returns, not when its turn comes.
   */
  constructor(flush: () => Promise<void>, options: DurabilityOptions = {}, flushAtOnce = flush) {
    this.#flush = flush;
    this.#flushAtOnce = flushAtOnce;
    this.#quiet = options.quietMilliseconds ?? QUIET_MILLISECONDS;
    this.#maximum = options.maximumMilliseconds ?? MAXIMUM_MILLISECONDS;
    this.#page = options.page ?? pageOfThisThread();
    this.#page.document?.addEventListener('visibilitychange', this.#whenHidden);
    this.#page.window?.addEventListener('pagehide', this.#whenLeft);
  }

  noteWrite(): void {
    const now = performance.now();
    this.#firstWriteAt ??= now;
    this.#lastWriteAt = now;
    // One timer for a burst: it looks at the clock when it fires, instead of being set anew by every write.
    this.#timer ??= setTimeout(this.#whenDue, Math.min(this.#quiet, this.#maximum));
  }

  /** Flushes now. Rejects with what the flush fails with. */
  flushNow(): Promise<void> {
    this.#stopTimer();
    this.#firstWriteAt = null;
    return this.#flush();
  }

  /** No flush of its own from here on. */
  dispose(): void {
    this.#stopTimer();
    this.#firstWriteAt = null;
    this.#page.document?.removeEventListener('visibilitychange', this.#whenHidden);
    this.#page.window?.removeEventListener('pagehide', this.#whenLeft);
  }

  readonly #whenDue = (): void => {
    this.#timer = null;
    if (this.#firstWriteAt === null) return;
    const now = performance.now();
    const dueAt = Math.min(this.#lastWriteAt + this.#quiet, this.#firstWriteAt + this.#maximum);
    if (now < dueAt) this.#timer = setTimeout(this.#whenDue, dueAt - now);
    else this.#flushUnasked();
  };

  readonly #whenHidden = (): void => {
    if (this.#page.document?.visibilityState === 'hidden') this.#whenLeft();
  };

  readonly #whenLeft = (): void => {
    // One under way may still wait for its turn in this page.
    if (this.#firstWriteAt !== null || this.#flushing) this.#flushAtOnce().catch(() => undefined);
  };

  /** One at a time: a slow flush is not joined by a second; writes that came meanwhile have set the timer again. */
  #flushUnasked(): void {
    if (this.#flushing) {
      this.#timer ??= setTimeout(this.#whenDue, this.#quiet);
      return;
    }
    this.#flushing = this.flushNow()
      .catch(() => undefined)
      .finally(() => {
        this.#flushing = null;
      });
  }

  #stopTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}

function pageOfThisThread(): PageEvents {
  return typeof document === 'undefined' || typeof window === 'undefined' ? {} : { document, window };
}
