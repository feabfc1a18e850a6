/**
 * The pieces of a file on their way to the page, which can write where the worker can't: a file that the visitor has chosen, a stream.
 *
 *   worker                                   page
 *   { offset, bytes }  ------------------>   written
 *                      <------------------   null, or the error
 *
 * One piece at a time: the worker makes no more than the file takes. The bytes are transferred.
 */
import { Qcow2Error } from '../errors.js';
import type { Piece } from '../storage/poured.js';
import type { WireError } from './protocol.js';
import { fromWireError, toWireError } from './wire-error.js';

/** Called with one piece after the other. What it rejects with is what the worker gets. */
export type WritePiece = (piece: Piece) => Promise<void>;

/** The page's end. Takes pieces until the port is closed. */
export function takePieces(port: MessagePort, write: WritePiece): void {
  port.addEventListener('message', ({ data }: MessageEvent<Piece>) => {
    write(data).then(
      () => port.postMessage(null),
      (error: unknown) => port.postMessage(toWireError(error)),
    );
  });
  port.start();
}

/** The worker's end. */
export class PieceSender {
  readonly #port: MessagePort;
  /** Of the piece under way. */
  #settle: ((answer: WireError | null) => void) | null = null;

  constructor(port: MessagePort) {
    this.#port = port;
    port.addEventListener('message', ({ data }: MessageEvent<WireError | null>) => this.#settle?.(data));
    port.start();
  }

  /**
   * Resolves when the page has written the piece. After one that was not nothing more may be sent.
   * @throws Qcow2Error what the page's file fails with, `ABORTED`.
   */
  async send({ offset, bytes }: Piece, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) throw savingEnded();
    const abort = new AbortController();
    try {
      const answer = await new Promise<WireError | null>((resolve, reject) => {
        this.#settle = resolve;
        signal?.addEventListener('abort', () => reject(savingEnded()), { signal: abort.signal });
        this.#port.postMessage({ offset, bytes } satisfies Piece, [bytes.buffer]);
      });
      if (answer !== null) throw fromWireError(answer);
    } finally {
      abort.abort();
      this.#settle = null;
    }
  }

  async sendAll(pieces: readonly Piece[], signal?: AbortSignal): Promise<void> {
    for (const piece of pieces) await this.send(piece, signal);
  }

  close(): void {
    this.#port.close();
  }
}

export function savingEnded(): Qcow2Error {
  return new Qcow2Error('ABORTED', 'saving was ended by its AbortSignal');
}
