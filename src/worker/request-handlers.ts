/**
 * What the worker does for each kind of request: with the one disk that it has open, with the one file that it takes in, and with the files of
 * its folders. In which order is the server's business (`server.ts`).
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
import type { BetweenSteps, JobTurns } from './job.js';
import { KeySlotLane } from './key-slot-lane.js';
import type { JobKind } from './passing.js';
import type {
  DerivationLimit,
  DuplicateRequest,
  OpenRequest,
  RenameRequest,
  Request,
  RequestKind,
  RequestOf,
  Results,
} from './protocol.js';
import type { DiskInfo } from './remote-disk.js';
import { renameFile } from './rename-file.js';

/** The world of the handlers. */
export interface HandlerOptions {
  readonly openDirectory: OpenDirectory;
  /** For base images on servers; without it none is opened. */
  readonly network?: NetworkHost | undefined;
  readonly queue: TurnQueue;
}

export interface TurnQueue {
  /** Whether nothing is under way, and nothing waits. */
  readonly isIdle: boolean;
  /** Carries out `work` when no request is under way, before those that wait. `aside` is for a job that no request has asked for. */
  inTurn<T>(work: (aside: BetweenSteps) => T | Promise<T>): Promise<T>;
}

/** A request under way, as its handler sees it. */
export interface Call {
  /** Aborted when the page cancels it. To be asked for before anything is waited for. */
  readonly signal: AbortSignal;
  /** Tells the page how far it is. */
  tell(progress: Progress): void;
  between(kind: JobKind): BetweenSteps;
  turns(): JobTurns;
}

type Handlers = {
  readonly [Kind in RequestKind]: (request: RequestOf<Kind>, call: Call) => Results[Kind] | Promise<Results[Kind]>;
};

/** Between two tellings of how far the fetching is. */
const PROGRESS_MILLISECONDS = 50;

/** Timers count in 31 bits. */
const LONGEST_INTERVAL_MILLISECONDS = 2 ** 31 - 1;

export class RequestHandlers {
  readonly #openDirectory: OpenDirectory;
  readonly #network: NetworkHost | undefined;
  readonly #queue: TurnQueue;
  readonly #keySlots: KeySlotLane;
  #session: DiskSession | null = null;
  #cleaning: ReturnType<typeof setInterval> | undefined;
  #intake: FileIntake | null = null;

  constructor({ openDirectory, network, queue }: HandlerOptions) {
    this.#openDirectory = openDirectory;
    this.#network = network;
    this.#queue = queue;
    this.#keySlots = new KeySlotLane((work) => queue.inTurn(work));
  }

  /** Carries the request out. Rejects, or throws, with what it fails with. */
  handle(request: Request, call: Call): Results[RequestKind] | Promise<Results[RequestKind]> {
    // The handler of a kind takes requests of that kind; the compiler can't follow the two through an index.
    const handler = this.#table[request.kind] as (request: Request, call: Call) => Promise<Results[RequestKind]>;
    return handler(request, call);
  }

  /** Whether a request may be carried out now, while a job runs. */
  mayPass(request: Request): boolean {
    return this.#session?.exports.hasRoomFor(request) ?? true;
  }

  readonly #table: Handlers = {
    open: (request, call) => this.#open(request, call.signal),
    read: ({ offset, length }, call) => this.#disk().read(offset, length, call.signal),
    bases: () => this.#disk().bases.status(),
    fetchBases: (_, call) => this.#fetchBases(call).then(nothing),
    bootProfile: ({ base }) => this.#disk().bases.find(base).profile(),
    write: ({ offset, bytes }, call) => this.#disk().write(offset, bytes, call.signal).then(nothing),
    writeZeroes: ({ offset, length }, call) => this.#disk().writeZeroes(offset, length, call.signal).then(nothing),
    discard: ({ offset, length }, call) => this.#disk().discard(offset, length, call.signal).then(nothing),
    flush: () => this.#disk().flush().then(nothing),
    stats: () => this.#disk().stats(),
    export: (request, call) => this.#disk().exports.export(request, call.turns()),
    save: (request, call) => this.#disk().saves.save(request, call, this.#queue),
    listSnapshots: () => this.#disk().snapshots.list(),
    createSnapshot: ({ snapshot }) => this.#disk().snapshots.create(snapshot),
    gotoSnapshot: ({ id: snapshot }) => this.#disk().snapshots.goto(snapshot),
    deleteSnapshot: ({ id: snapshot }, call) =>
      this.#disk().snapshots.delete(snapshot, call.between('deleteSnapshot')).then(nothing),
    readVmState: ({ id: snapshot, offset, length }) => this.#disk().snapshots.readVmState(snapshot, offset, length),
    writeVmState: ({ offset, bytes, options }) => this.#disk().snapshots.writeVmState(offset, bytes, options),
    discardVmState: () => this.#disk().snapshots.discardVmState().then(nothing),
    listBitmaps: () => this.#disk().bitmaps.list(),
    changeBitmaps: ({ change }) => this.#disk().bitmaps.change(change).then(nothing),
    addPassphrase: (request, call) => this.#changeKeySlots(call, addPassphrase, request),
    changePassphrase: (request, call) => this.#changeKeySlots(call, changePassphrase, request),
    erasePassphrase: (request, call) => this.#changeKeySlots(call, erasePassphrase, request).then(nothing),
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
    storeCommit: ({ image }, call) =>
      this.#takeIntake().commit(image, { network: this.#network, between: call.between('onFiles') }),
    storeAbandon: () => this.#takeIntake().abandon().then(nothing),
    delete: async ({ directory, name }) => {
      checkFileName(name);
      const files = await this.#openDirectory(directory);
      const claim = await files.claim(name, 'write');
      await files.remove(name).finally(() => claim.release());
      return null;
    },
    rename: (request) => this.#rename(request).then(nothing),
    duplicate: (request, call) => this.#duplicate(request, call.between('onFiles')).then(nothing),
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
    void this.#queue.inTurn((aside) => session.exports.removeLeftMoment(aside));
    return disk.info;
  }

  async #fetchBases(call: Call): Promise<void> {
    let told = 0;
    const onProgress = (progress: Progress): void => {
      const now = performance.now();
      if (now < told + PROGRESS_MILLISECONDS && progress.done < progress.total) return;
      told = now;
      call.tell(progress);
    };
    await this.#disk().bases.makeAvailableOffline({ signal: call.signal, onProgress });
  }

  #changeKeySlots<Wanted extends DerivationLimit, Result>(
    call: Call,
    change: (image: Qcow2Image, wanted: Wanted, options: KeySlotOptions) => Promise<Result>,
    wanted: Wanted,
  ): Promise<Result> {
    const { image } = this.#disk();
    const { maxDerivationWork } = wanted;
    return this.#keySlots.add((options) => change(image, wanted, { ...options, maxDerivationWork }), call.signal);
  }

  /** Now and then, when no request is under way. */
  #startCleaning(session: DiskSession): void {
    if (session.cacheCleanInterval === 0) return;
    const milliseconds = Math.min(session.cacheCleanInterval * 1000, LONGEST_INTERVAL_MILLISECONDS);
    this.#cleaning = setInterval(() => {
      if (this.#queue.isIdle) session.cleanCaches();
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
