/**
 * The page's side: requests out, promises back.
 *
 * Invariants:
 * - Every promise settles. When the worker ends, what is pending and what comes later rejects: with `WORKER_DIED`, or with
 *   `CLOSED` if we ended it ourselves.
 * - Requests are posted in the order of the calls; the worker keeps that order.
 * - The arrays handed over in `transfer` are detached here when `call` returns.
 */
import { Qcow2Error } from '../errors.js';
import { kindOf } from '../util/kind-of.js';
import type { Progress } from '../util/progress.js';
import type { MessageToPage, MessageToWorker, Request, RequestKind, RequestOf, Results } from './protocol.js';
import { findUnclonable } from './unclonable.js';
import { fromWireError } from './wire-error.js';

/** What is needed of a `Worker`, or of one end of a channel. */
export interface ClientPort {
  postMessage(message: MessageToWorker, transfer: Transferable[]): void;
  addEventListener(type: 'message', listener: (event: MessageEvent<MessageToPage>) => void): void;
  addEventListener(type: 'messageerror', listener: () => void): void;
}

export interface CallOptions {
  readonly transfer?: Transferable[];
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Ends a job that looks at it; the others run to their end. */
  readonly signal?: AbortSignal | undefined;
}

interface Pending {
  resolve(value: Results[RequestKind]): void;
  reject(error: Qcow2Error): void;
  readonly onProgress: ((progress: Progress) => void) | undefined;
}

export class WorkerClient {
  /** Resolves when the worker has begun to listen; never if it does not. */
  readonly ready: Promise<void>;
  /** Resolves when the worker has ended: with what `end()` was given, or the error. */
  readonly closed: Promise<Qcow2Error | null>;
  readonly #port: ClientPort;
  readonly #terminate: () => void;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;
  #ended: Qcow2Error | null = null;
  #tellReady!: () => void;
  #tellClosed!: (error: Qcow2Error | null) => void;

  /** @param terminate ends the other side for good. */
  constructor(port: ClientPort, terminate: () => void) {
    this.#port = port;
    this.#terminate = terminate;
    this.ready = new Promise((resolve) => {
      this.#tellReady = resolve;
    });
    this.closed = new Promise((resolve) => {
      this.#tellClosed = resolve;
    });
    port.addEventListener('message', (event) => this.#receive(event.data));
    port.addEventListener('messageerror', () => this.fail('a message from the worker could not be read'));
  }

  /** @throws Qcow2Error what the worker answers, `WORKER_DIED`, `CLOSED`, `ABORTED`. Always as a rejection. */
  call<Kind extends RequestKind>(request: RequestOf<Kind>, options: CallOptions = {}): Promise<Results[Kind]> {
    return new Promise<Results[Kind]>((resolve, reject) => {
      if (this.#ended !== null) return reject(this.#ended);
      if (options.signal?.aborted)
        return reject(new Qcow2Error('ABORTED', `${request.kind} was ended before it began`));
      const id = ++this.#lastId;
      const { signal, onProgress } = options;
      const cancel = (): void => this.#port.postMessage({ cancel: id }, []);
      const done = (): void => signal?.removeEventListener('abort', cancel);
      this.#pending.set(id, {
        // A request of a kind is answered with the result of that kind: the protocol says so, the compiler can't.
        resolve: (value) => (done(), resolve(value as Results[Kind])),
        reject: (error) => (done(), reject(error)),
        onProgress,
      });
      signal?.addEventListener('abort', cancel);
      this.#post(id, request, options.transfer ?? []);
    });
  }

  /** Ends the worker by intention: what is pending rejects with `CLOSED`. @param reason what `closed` resolves with. */
  end(reason: Qcow2Error | null = null): void {
    this.#finish(new Qcow2Error('CLOSED', 'the disk is closed'), reason);
  }

  /** The worker has ended, or must be given up: what is pending rejects with `WORKER_DIED`. */
  fail(reason: string): void {
    const error = new Qcow2Error('WORKER_DIED', `the disk's worker has ended: ${reason}`);
    this.#finish(error, error);
  }

  #post(id: number, request: Request, transfer: Transferable[]): void {
    try {
      this.#port.postMessage({ id, request }, transfer);
    } catch (error) {
      this.#settle(id)?.reject(notSent(request, error));
    }
  }

  #receive(message: MessageToPage): void {
    if ('ready' in message) this.#tellReady();
    else if ('progress' in message) this.#pending.get(message.id)?.onProgress?.(message.progress);
    else if ('error' in message) this.#settle(message.id)?.reject(fromWireError(message.error));
    else this.#settle(message.id)?.resolve(message.value);
  }

  #settle(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    return pending;
  }

  #finish(error: Qcow2Error, closed: Qcow2Error | null): void {
    if (this.#ended !== null) return;
    this.#ended = error;
    this.#terminate();
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
    this.#tellClosed(closed);
  }
}

/**
 * An array that is detached already, or shared, or an option that can't be cloned. What the browser says of a function is its source,
 * which may hold what nobody else is to see, so then its words are not passed on.
 */
function notSent(request: Request, error: unknown): Qcow2Error {
  const problem = `the ${request.kind} request can't be sent to the worker`;
  const found = findUnclonable(request);
  if (found !== null) return new Qcow2Error('BAD_ARGUMENT', `${problem}: ${found.field} is ${kindOf(found.value)}`);
  const text = error instanceof Error || error instanceof DOMException ? error.message : String(error);
  return new Qcow2Error('BAD_ARGUMENT', `${problem}: ${text}`, { cause: error });
}
