/**
 * Asking for a disk that somebody else has open: over its channel, until its lock is free, for as long as patience lasts.
 *
 * Who was killed answers nothing, and its lock is free at once. Who lives answers, or is too busy to; then it keeps the disk: nothing takes
 * a file from a thread that may still write it.
 */
import { Qcow2Error } from '../errors.js';
import type { ClaimMode } from './image-files.js';
import { openTakeOverChannel, type AnswerMessage, type TakeOverChannel } from './take-over-channel.js';
import { lockReleased, takeLock } from './web-locks.js';
import { fromWireError } from './wire-error.js';

/**
 * A lock that is free may be known of before what its holder has said: the first word, and the last. That may be of a loss, so who has
 * heard the question has time for it even on a busy machine; only who was killed after that lets it run out.
 */
const FIRST_WORD_MILLISECONDS = 100;
const LAST_WORD_MILLISECONDS = 5000;

/** Whoever is just opening the disk has its lock and does not listen yet. */
const ASK_AGAIN_MILLISECONDS = 1000;

export interface WantedDisk {
  /** The name of the disk's lock. */
  readonly lock: string;
  readonly mode: ClaimMode;
  /** What messages call the disk. */
  readonly path: string;
  /** Milliseconds. */
  readonly patience: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Resolves when the disk is free, or was.
 * @throws Qcow2Error `IN_USE` where its holder refuses or does not let go in time, what its last flush failed with where that was lost,
 * `ABORTED`.
 */
export async function takeOver(wanted: WantedDisk): Promise<void> {
  const { lock, path, patience, signal } = wanted;
  const mode = wanted.mode === 'write' ? 'exclusive' : 'shared';
  const free = await takeLock(lock, mode, 0);
  free?.release();
  if (free !== null) return;
  const question = new Question(wanted);
  const inTime = AbortSignal.timeout(patience);
  const ended = AbortSignal.any([inTime, question.objected, ...(signal === undefined ? [] : [signal])]);
  try {
    const becameFree = (await lockReleased(lock, ended, mode)) === 'released';
    if (becameFree) await question.lastWord();
    if (signal?.aborted) {
      throw new Qcow2Error('ABORTED', `waiting for ${path} was ended by its AbortSignal`, { cause: signal.reason });
    }
    if (question.objection !== null) throw question.objection;
    if (!becameFree) throw new Qcow2Error('IN_USE', question.whyNotInTime());
  } finally {
    question.close();
  }
}

class Question {
  readonly #ask = crypto.randomUUID();
  readonly #wanted: WantedDisk;
  readonly #channel: TakeOverChannel;
  /** Who has heard it and has not answered yet. */
  readonly #answering = new Set<string>();
  readonly #objected = new AbortController();
  #isHeard = false;
  #objection: Qcow2Error | null = null;
  #tellWord: () => void = () => undefined;
  readonly #repeating: ReturnType<typeof setInterval>;

  constructor(wanted: WantedDisk) {
    this.#wanted = wanted;
    this.#channel = openTakeOverChannel(wanted.lock, (message) => {
      if ('state' in message && message.ask === this.#ask) this.#hear(message);
    });
    const post = (): void => this.#channel.post({ ask: this.#ask, mode: wanted.mode });
    post();
    // Also when somebody has heard it: of several readers another one may not have.
    this.#repeating = setInterval(post, ASK_AGAIN_MILLISECONDS);
  }

  /** Aborted when there is an objection. */
  get objected(): AbortSignal {
    return this.#objected.signal;
  }

  /** Why the disk can't be had, as somebody who had it says. */
  get objection(): Qcow2Error | null {
    return this.#objection;
  }

  /** Resolves when all who have heard the question have answered it, or have had the time to. */
  async lastWord(): Promise<void> {
    if (!this.#isHeard) await this.#nextWord(FIRST_WORD_MILLISECONDS);
    if (this.#answering.size > 0) await this.#nextWord(LAST_WORD_MILLISECONDS, () => this.#answering.size === 0);
  }

  whyNotInTime(): string {
    const { path, patience } = this.#wanted;
    const what = this.#isHeard
      ? `who has it was asked to let go of it, and had not after ${patience} ms`
      : `who has it did not answer within ${patience} ms`;
    return `${path} is in use, and ${what}: close it there, then try again`;
  }

  close(): void {
    clearInterval(this.#repeating);
    this.#channel.post({ withdraw: this.#ask });
    this.#channel.close();
  }

  #hear(answer: AnswerMessage): void {
    this.#isHeard = true;
    if (answer.state === 'heard') this.#answering.add(answer.holder);
    else this.#answering.delete(answer.holder);
    const objection = objectionOf(answer, this.#wanted.path);
    this.#objection ??= objection;
    if (objection !== null) this.#objected.abort();
    this.#tellWord();
  }

  /** Resolves when something has been said after which `isEnough`, there is an objection, or the time is over. */
  #nextWord(milliseconds: number, isEnough = () => true): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#tellWord = () => {
        if (!isEnough() && this.#objection === null) return;
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** Null for an answer that is none. */
function objectionOf(answer: AnswerMessage, path: string): Qcow2Error | null {
  if (answer.state === 'refused') {
    return new Qcow2Error('IN_USE', `${path} is in use, and its page keeps it: ${answer.why}`);
  }
  if (answer.state !== 'failed') return null;
  const { code, message } = answer.error;
  const loss = `${path} is free, but what was written to it last could not be made stable: ${message}`;
  return new Qcow2Error(code, `${loss}. Opened again it has what was flushed before`, {
    cause: fromWireError(answer.error),
  });
}
