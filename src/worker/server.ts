/**
 * The worker's side: messages in, the engine, messages out. It knows no browser: the port and the folders of files are
 * given, so that the tests run it in Node.
 *
 * Invariants:
 * - Requests are carried out in the order of arrival, the next when the one before is answered. Two exceptions: between the
 *   steps of a job, an export or the delete of a snapshot, and while a step waits for a server, those are answered that can't be told
 *   from ones that came before it (`passing.ts`); and what changes passphrases (`key-slot-lane.ts`) or fetches for later runs beside the queue.
 * - Every request is answered exactly once, with a value or an error.
 * - Arrays are answered with their buffer transferred.
 */
import { Qcow2Error } from '../errors.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import { addPassphrase, changePassphrase, erasePassphrase, type KeySlotOptions } from '../operations/key-slots.js';
import type { NetworkHost } from '../network/open-base.js';
import { listStoredBases, removeStoredBase } from '../network/stored-bases.js';
import { BlobStorage } from '../storage/blob.js';
import type { Progress } from '../util/progress.js';
import { inspectImage, openDiskFile } from './disk-file.js';
import { DiskSession } from './disk-session.js';
import { duplicateFile } from './duplicate-file.js';
import { FileIntake } from './file-intake.js';
import { checkFileName } from './file-names.js';
import type { OpenDirectory } from './image-files.js';
import { throwIfCancelled, type BetweenSteps, type JobTurns, type WhileLoading } from './job.js';
import { KeySlotLane } from './key-slot-lane.js';
import { nextTask } from './next-task.js';
import { BESIDE_THE_QUEUE, takePassing, type JobKind } from './passing.js';
import type {
  DerivationLimit,
  DuplicateRequest,
  MessageToPage,
  MessageToWorker,
  OpenRequest,
  RenameRequest,
  Request,
  RequestKind,
  RequestMessage,
  RequestOf,
  Results,
} from './protocol.js';
import type { DiskInfo } from './remote-disk.js';
import { renameFile } from './rename-file.js';
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

type Handlers = {
  readonly [Kind in RequestKind]: (request: RequestOf<Kind>, id: number) => Results[Kind] | Promise<Results[Kind]>;
};

/** How long a job runs before it lets others have a turn. */
const SLICE_MILLISECONDS = 8;

/** Between two tellings of how far the fetching is. */
const PROGRESS_MILLISECONDS = 50;

/** Timers count in 31 bits. */
const LONGEST_INTERVAL_MILLISECONDS = 2 ** 31 - 1;

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

class Server {
  readonly #port: ServerPort;
  readonly #openDirectory: OpenDirectory;
  readonly #network: NetworkHost | undefined;
  readonly #waiting: RequestMessage[] = [];
  readonly #keySlots = new KeySlotLane((work) => this.#inTurn(work));
  /** What comes before the next request. */
  readonly #turns: (() => Promise<void>)[] = [];
  /** Of what has asked for a signal, and of what waits and has been cancelled. */
  readonly #cancels = new Map<number, AbortController>();
  #idle = false;
  /** Tells a job that waits for a server that something has arrived. */
  #wake: () => void = () => {};
  #session: DiskSession | null = null;
  #cleaning: ReturnType<typeof setInterval> | undefined;
  #intake: FileIntake | null = null;

  constructor(port: ServerPort, { openDirectory, network }: ServerOptions) {
    this.#port = port;
    this.#openDirectory = openDirectory;
    this.#network = network;
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

  /** Carries out `work` when no request is under way, before those that wait. */
  #inTurn<T>(work: () => T | Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#turns.push(async () => {
        try {
          resolve(await work());
        } catch (error) {
          reject(error);
        }
      });
      if (this.#idle) void this.#carryOutWaiting();
    });
  }

  async #answer({ id, request }: RequestMessage): Promise<void> {
    try {
      const cancelled = this.#cancels.get(id);
      if (cancelled !== undefined) throwIfCancelled(cancelled.signal);
      // The handler of a kind takes requests of that kind; the compiler can't follow the two through an index.
      const handle = this.#handlers[request.kind] as (request: Request, id: number) => Promise<Results[RequestKind]>;
      const value = await handle(request, id);
      this.#port.postMessage({ id, value }, value instanceof Uint8Array ? [value.buffer] : []);
    } catch (error) {
      this.#port.postMessage({ id, error: toWireError(error) }, []);
    } finally {
      this.#cancels.delete(id);
    }
  }

  readonly #handlers: Handlers = {
    open: (request, id) => this.#open(request, this.#signal(id)),
    read: ({ offset, length }, id) => this.#disk().read(offset, length, this.#signal(id)),
    bases: () => this.#disk().bases.status(),
    fetchBases: (_, id) => this.#fetchBases(id).then(nothing),
    bootProfile: ({ base }) => this.#disk().bases.find(base).profile(),
    write: ({ offset, bytes }, id) => this.#disk().write(offset, bytes, this.#signal(id)).then(nothing),
    writeZeroes: ({ offset, length }, id) => this.#disk().writeZeroes(offset, length, this.#signal(id)).then(nothing),
    discard: ({ offset, length }, id) => this.#disk().discard(offset, length, this.#signal(id)).then(nothing),
    flush: () => this.#disk().flush().then(nothing),
    stats: () => this.#disk().stats(),
    export: (request, id) => this.#disk().exports.export(request, this.#turnsOf(id)),
    save: (request, id) => this.#disk().exports.save(request, this.#turnsOf(id)),
    listSnapshots: () => this.#disk().snapshots.list(),
    createSnapshot: ({ snapshot }) => this.#disk().snapshots.create(snapshot),
    gotoSnapshot: ({ id: snapshot }) => this.#disk().snapshots.goto(snapshot),
    deleteSnapshot: ({ id: snapshot }, id) =>
      this.#disk().snapshots.delete(snapshot, this.#betweenSteps('deleteSnapshot', id)).then(nothing),
    readVmState: ({ id: snapshot, offset, length }) => this.#disk().snapshots.readVmState(snapshot, offset, length),
    writeVmState: ({ offset, bytes, options }) => this.#disk().snapshots.writeVmState(offset, bytes, options),
    discardVmState: () => this.#disk().snapshots.discardVmState().then(nothing),
    listBitmaps: () => this.#disk().bitmaps.list(),
    changeBitmaps: ({ change }) => this.#disk().bitmaps.change(change).then(nothing),
    addPassphrase: (request, id) => this.#changeKeySlots(id, addPassphrase, request),
    changePassphrase: (request, id) => this.#changeKeySlots(id, changePassphrase, request),
    erasePassphrase: (request, id) => this.#changeKeySlots(id, erasePassphrase, request).then(nothing),
    close: () => this.#close(),
    inspect: async ({ directory, blob, ...allowed }) => {
      const files = await this.#openDirectory(directory);
      return inspectImage(files, new BlobStorage(blob), { name: 'the image', ...allowed, network: this.#network });
    },
    storeBegin: async (request) => {
      checkFileName(request.name);
      if (this.#intake !== null) throw new Qcow2Error('BAD_ARGUMENT', 'this worker is storing a file already');
      this.#intake = await FileIntake.begin(await this.#openDirectory(request.directory), request);
      return null;
    },
    storeAppend: ({ bytes }) => {
      this.#currentIntake().append(bytes);
      return null;
    },
    storeCommit: ({ image }, id) =>
      this.#takeIntake().commit(image, { network: this.#network, between: this.#betweenSteps('onFiles', id) }),
    storeAbandon: () => this.#takeIntake().abandon().then(nothing),
    delete: async ({ directory, name }) => {
      checkFileName(name);
      const files = await this.#openDirectory(directory);
      const claim = await files.claim(name, 'write');
      await files.remove(name).finally(() => claim.release());
      return null;
    },
    rename: (request) => this.#rename(request).then(nothing),
    duplicate: (request, id) => this.#duplicate(request, this.#betweenSteps('onFiles', id)).then(nothing),
    list: async ({ directory }) => (await this.#openDirectory(directory)).list(),
    listBases: () => listStoredBases(this.#network?.files ?? null),
    removeBase: (base) => removeStoredBase(this.#network?.files ?? null, base).then(nothing),
  };

  async #open(request: OpenRequest, signal: AbortSignal): Promise<DiskInfo> {
    if (this.#session !== null) throw new Qcow2Error('BAD_ARGUMENT', 'this worker has a disk open already');
    checkFileName(request.name);
    const files = await this.#openDirectory(request.directory);
    const disk = await openDiskFile(files, { ...request, signal, network: this.#network });
    const session = new DiskSession(files, disk, this.#network?.estimateRoom);
    this.#session = session;
    this.#startCleaning(session);
    // What a session before has left goes when the disk is open, which need not wait for it.
    void this.#inTurn(() => session.exports.removeLeftMoment(this.#turnsAside()));
    return disk.info;
  }

  async #fetchBases(id: number): Promise<void> {
    let told = 0;
    const onProgress = (progress: Progress): void => {
      const now = performance.now();
      if (now < told + PROGRESS_MILLISECONDS && progress.done < progress.total) return;
      told = now;
      this.#port.postMessage({ id, progress }, []);
    };
    await this.#disk().bases.makeAvailableOffline({ signal: this.#signal(id), onProgress });
  }

  #changeKeySlots<Wanted extends DerivationLimit, Result>(
    id: number,
    change: (image: Qcow2Image, wanted: Wanted, options: KeySlotOptions) => Promise<Result>,
    wanted: Wanted,
  ): Promise<Result> {
    const { image } = this.#disk();
    const { maxDerivationWork } = wanted;
    return this.#keySlots.add((options) => change(image, wanted, { ...options, maxDerivationWork }), this.#signal(id));
  }

  /** Now and then, when no request is under way. */
  #startCleaning(session: DiskSession): void {
    if (session.cacheCleanInterval === 0) return;
    const milliseconds = Math.min(session.cacheCleanInterval * 1000, LONGEST_INTERVAL_MILLISECONDS);
    this.#cleaning = setInterval(() => {
      if (this.#idle) session.cleanCaches();
    }, milliseconds);
  }

  async #close(): Promise<null> {
    const session = this.#disk();
    this.#session = null;
    clearInterval(this.#cleaning);
    // First of all, or there would be no end of what comes on a fast line.
    session.bases.stopFetchingAhead();
    await session.bases.whenKept();
    session.close();
    return null;
  }

  async #rename(request: RenameRequest): Promise<void> {
    checkFileName(request.name);
    checkFileName(request.newName);
    await renameFile(await this.#openDirectory(request.directory), request);
  }

  async #duplicate(request: DuplicateRequest, between: BetweenSteps): Promise<void> {
    checkFileName(request.name);
    checkFileName(request.newName);
    await duplicateFile(await this.#openDirectory(request.directory), request, between);
  }

  #turnsOf(id: number): JobTurns {
    const aside = this.#turnsAside();
    const signal = this.#signal(id);
    const whileLoading =
      (kind: JobKind): WhileLoading =>
      (load) =>
        this.#passWhile(kind, load(signal));
    return { of: (kind) => this.#betweenSteps(kind, id), whileLoading, aside, signal };
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
  #turnsAside(): BetweenSteps {
    let sliceEnds = 0;
    return async () => {
      if (performance.now() < sliceEnds) return;
      await nextTask();
      await this.#letPass('deleteSnapshot');
      sliceEnds = performance.now() + SLICE_MILLISECONDS;
    };
  }

  async #letPass(job: JobKind): Promise<void> {
    const mayPass = (request: Request): boolean => this.#session?.exports.hasRoomFor(request) ?? true;
    for (;;) {
      const next = takePassing(this.#waiting, job, mayPass);
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

  #disk(): DiskSession {
    if (this.#session === null) throw new Qcow2Error('CLOSED', 'this worker has no disk open');
    return this.#session;
  }

  #currentIntake(): FileIntake {
    if (this.#intake === null) throw new Qcow2Error('BAD_ARGUMENT', 'no file is being stored');
    return this.#intake;
  }

  #takeIntake(): FileIntake {
    const intake = this.#currentIntake();
    this.#intake = null;
    return intake;
  }
}

/** The answer of a request that has none. */
function nothing(): null {
  return null;
}
