/**
 * The worker's side: messages in, the engine, messages out. It knows no browser: the port and the folders of files are
 * given, so that the tests run it in Node. What is done for each request is in `request-handlers.ts`.
 *
 * Invariants:
 * - Requests are carried out in the order of arrival, the next when the one before is answered. Two exceptions: between the
 *   steps of a job, an export or the delete of a snapshot, and while a step waits for a server, those are answered that can't be told
 *   from ones that came before it (`passing.ts`); and what changes passphrases (`key-slot-lane.ts`) or fetches for later runs beside the queue.
 * - Every request is answered exactly once, with a value or an error.
 * - Arrays are answered with their buffer transferred.
 */
import type { NetworkHost } from '../network/open-base.js';
import type { OpenDirectory } from './image-files.js';
import { throwIfCancelled, type BetweenSteps, type WhileLoading } from './job.js';
import { nextTask } from './next-task.js';
import { BESIDE_THE_QUEUE, takePassing, type JobKind } from './passing.js';
import type { MessageToPage, MessageToWorker, RequestMessage } from './protocol.js';
import { RequestHandlers, type Call, type TurnQueue } from './request-handlers.js';
import { toWireError } from './wire-error.js';

/** What is needed of the worker's global scope, or of one end of a channel. */
export interface ServerPort {
  postMessage(message: MessageToPage, transfer: Transferable[]): void;
  addEventListener(type: 'message', listener: (event: MessageEvent<MessageToWorker>) => void): void;
}

export interface ServerOptions {
  readonly openDirectory: OpenDirectory;
  /** Requests wait for it. */
  readonly ready?: Promise<void>;
  /** For base images on servers; without it none is opened. */
  readonly network?: NetworkHost;
}

/** How long a job runs before it lets others have a turn. */
const SLICE_MILLISECONDS = 8;

/** Answers what arrives at `port`, for ever. */
export function serve(port: ServerPort, options: ServerOptions): void {
  const server = new Server(port, options);
  port.addEventListener('message', (event) => server.receive(event.data));
  server.start(options.ready ?? Promise.resolve()).catch((error: unknown) => {
    // Thrown out of a task of its own it reaches the page, as an error event of the worker; out of a promise it would not.
    setTimeout(() => {
      throw error;
    });
  });
}

class Server implements TurnQueue {
  readonly #port: ServerPort;
  readonly #handlers: RequestHandlers;
  readonly #waiting: RequestMessage[] = [];
  /** What comes before the next request. */
  readonly #turns: (() => Promise<void>)[] = [];
  /** Of what has asked for a signal, and of what waits and has been cancelled. */
  readonly #cancels = new Map<number, AbortController>();
  #idle = false;
  /** Tells a job that waits for a server that something has arrived. */
  #wake: () => void = () => {};

  constructor(port: ServerPort, { openDirectory, network }: ServerOptions) {
    this.#port = port;
    this.#handlers = new RequestHandlers({ openDirectory, network, queue: this });
  }

  get isIdle(): boolean {
    return this.#idle;
  }

  async start(ready: Promise<void>): Promise<void> {
    await ready;
    this.#port.postMessage({ ready: true }, []);
    await this.#carryOutWaiting();
  }

  receive(message: MessageToWorker): void {
    if ('cancel' in message) {
      const { cancel } = message;
      if (this.#waiting.some(({ id }) => id === cancel)) this.#signal(cancel);
      this.#cancels.get(cancel)?.abort();
      return;
    }
    this.#waiting.push(message);
    this.#wake();
    if (this.#idle) void this.#carryOutWaiting();
  }

  inTurn<T>(work: (aside: BetweenSteps) => T | Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#turns.push(async () => {
        try {
          resolve(await work(this.#aside()));
        } catch (error) {
          reject(error);
        }
      });
      if (this.#idle) void this.#carryOutWaiting();
    });
  }

  async #carryOutWaiting(): Promise<void> {
    this.#idle = false;
    for (;;) {
      const turn = this.#turns.shift();
      const message = turn === undefined ? this.#waiting.shift() : undefined;
      if (turn !== undefined) await turn();
      else if (message !== undefined) await this.#carryOut(message);
      else break;
    }
    this.#idle = true;
  }

  async #carryOut(message: RequestMessage): Promise<void> {
    const answered = this.#answer(message);
    if (!BESIDE_THE_QUEUE.has(message.request.kind)) await answered;
  }

  async #answer({ id, request }: RequestMessage): Promise<void> {
    try {
      const cancelled = this.#cancels.get(id);
      if (cancelled !== undefined) throwIfCancelled(cancelled.signal);
      const value = await this.#handlers.handle(request, this.#call(id));
      this.#port.postMessage({ id, value }, value instanceof Uint8Array ? [value.buffer] : []);
    } catch (error) {
      this.#port.postMessage({ id, error: toWireError(error) }, []);
    } finally {
      this.#cancels.delete(id);
    }
  }

  #call(id: number): Call {
    const signal = (): AbortSignal => this.#signal(id);
    const between = (kind: JobKind): BetweenSteps => this.#betweenSteps(kind, id);
    const whileLoading =
      (kind: JobKind): WhileLoading =>
      (load) =>
        this.#passWhile(kind, load(signal()));
    return {
      get signal() {
        return signal();
      },
      tell: (progress) => this.#port.postMessage({ id, progress }, []),
      between,
      turns: () => ({ of: between, whileLoading, aside: this.#aside(), signal: signal() }),
    };
  }

  /** Answers what may pass `job` until `load` has ended, and then as that has. */
  async #passWhile(job: JobKind, load: Promise<void>): Promise<void> {
    const state = { isLoading: true };
    const ended = load.finally(() => {
      state.isLoading = false;
    });
    // Looked at below, also where it fails while something else is answered.
    ended.catch(() => undefined);
    while (state.isLoading) {
      await this.#letPass(job);
      const arrived = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      if (state.isLoading) await Promise.race([ended, arrived]);
    }
    await ended;
  }

  /** Tells the progress, and now and then looks at what has arrived. */
  #betweenSteps(job: JobKind, id: number): BetweenSteps {
    const signal = this.#signal(id);
    let sliceEnds = 0;
    return async (progress) => {
      const finished = progress.done >= progress.total;
      if (performance.now() < sliceEnds && !finished) return;
      this.#port.postMessage({ id, progress }, []);
      await nextTask();
      // What is done is not undone: only its answer is left to be sent.
      if (!finished) throwIfCancelled(signal);
      await this.#letPass(job);
      sliceEnds = performance.now() + SLICE_MILLISECONDS;
    };
  }

  /** For the delete of a snapshot that no request has asked for. */
  #aside(): BetweenSteps {
    let sliceEnds = 0;
    return async () => {
      if (performance.now() < sliceEnds) return;
      await nextTask();
      await this.#letPass('deleteSnapshot');
      sliceEnds = performance.now() + SLICE_MILLISECONDS;
    };
  }

  async #letPass(job: JobKind): Promise<void> {
    for (;;) {
      const next = takePassing(this.#waiting, job, (request) => this.#handlers.mayPass(request));
      if (next === undefined) return;
      await this.#carryOut(next);
    }
  }

  /** Aborted when the page cancels the request `id`, which is not answered yet. To be asked for before anything is waited for. */
  #signal(id: number): AbortSignal {
    const controller = this.#cancels.get(id) ?? new AbortController();
    this.#cancels.set(id, controller);
    return controller.signal;
  }
}
