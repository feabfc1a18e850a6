/**
 * The disk object v86 takes as `hda`. What holds, whichever thread the engine is in:
 *
 * 1. `set` copies before it returns: v86 passes a live view of the controller's buffer.
 * 2. Requests run one at a time in the order made (`request-queue.ts`): no read passes an earlier write, and sector 0
 *    from the cache is never older than the last `set`.
 * 3. v86 gets right bytes or none. A failed request is told to `onError` and, through the port that the flush hook
 *    installs, to the guest as an ATA error; without the hook it stays unanswered and the guest's own time-out meets it.
 * 4. An answer to a request from before a reset of the controller is dropped; one that still waits for a server then is given up. A write that
 *    was given up has changed nothing, and the guest, which was never told that it was done, writes again.
 * 5. `get_state` holds a name, a size and a generation, never disk bytes. A state is taken from a disk of this name, or from
 *    whoever vouches for it: a snapshot inside this disk's own image, whatever the disk was called then.
 */
import { isQcow2Error, Qcow2Error } from '../errors.js';
import { reasonOf } from '../util/reason-of.js';
import type { RemoteDisk, RemoteSnapshots } from '../worker/remote-disk.js';
import { localSource, remoteSource, type DiskSource, type LocalDisk } from './disk-source.js';
import { RequestQueue } from './request-queue.js';
import type { V86DiskContract, V86ReadOptions } from './v86-types.js';

const SECTOR_BYTES = 512;

/** IDENTIFY counts sectors in 32 bits, and v86 computes offsets from 32-bit sector numbers: 2 TiB less one sector. */
export const MAXIMUM_DISK_BYTES = 2 ** 41 - SECTOR_BYTES;

/** A request that the disk could not carry out. */
export interface DiskFault {
  readonly operation: 'read' | 'write' | 'flush';
  /** Bytes; 0 for a flush. */
  readonly offset: number;
  readonly length: number;
  readonly error: Qcow2Error;
}

export interface LocalDiskOptions extends V86DiskOptions {
  /** `localSnapshots(image)`, for an image of this thread whose snapshots are to hold the machine. */
  readonly snapshots?: RemoteSnapshots;
}

export interface V86DiskOptions {
  /** Goes into saved machine states, which by themselves only fit a disk of this name. */
  readonly name?: string;
  /** Called for each request that failed, whether or not the guest can be told. */
  readonly onError?: (fault: DiskFault) => void;
}

/** Counts since the disk object was made. */
export interface DiskActivity {
  readonly reads: number;
  readonly readBytes: number;
  readonly writes: number;
  readonly writtenBytes: number;
  readonly flushes: number;
  readonly errors: number;
  /** Requests made and not yet answered. */
  readonly inFlight: number;
  /** Whether there are writes that no completed flush covers. */
  readonly dirty: boolean;
}

/** The guest's end of the disk, where the flush hook found it. */
export interface AtaPort {
  /** Ends the command under way with an error status. Called while the failed request is still the current one. */
  failCommand(operation: 'read' | 'write'): void;
}

/** A write as the PIO path of the hook needs to see it. */
export interface PendingWrite {
  state: 'pending' | 'done' | 'failed';
  whenDone: (() => void) | null;
}

export class V86Disk implements V86DiskContract {
  readonly name: string;
  readonly byteLength: number;
  readonly readOnly: boolean;
  readonly source: DiskSource;
  onload: ((event: object) => void) | undefined = undefined;
  onprogress: ((event: object) => void) | undefined = undefined;
  /** Set by the flush hook; null where v86 has no seam for it. */
  port: AtaPort | null = null;
  /** Called after each accepted write; the durability policy listens. */
  onWrite: (() => void) | null = null;
  /** The last `set`, for the PIO path. */
  lastWrite: PendingWrite | null = null;
  /** Resets of the controller so far: an answer of an earlier epoch is dropped. */
  epoch = 0;

  readonly #queue = new RequestQueue();
  readonly #onError: (fault: DiskFault) => void;
  #sectorZero: Uint8Array | null = null;
  #sectorZeroVersion = 0;
  /** Writes begun, and the count of them that the last completed flush covers. */
  #generation = 0;
  #stableGeneration = 0;
  #takesAnyName = false;
  /** Of the writes since the last reset. */
  #resetting = new AbortController();
  #counts = { reads: 0, readBytes: 0, writes: 0, writtenBytes: 0, flushes: 0, errors: 0 };

  /** @throws `BAD_ARGUMENT` for a disk without a whole sector, `LIMIT` for one that v86 can't address. */
  constructor(source: DiskSource, options: V86DiskOptions = {}) {
    if (source.size < SECTOR_BYTES) {
      throw new Qcow2Error('BAD_ARGUMENT', `disk size ${source.size} is less than one sector of ${SECTOR_BYTES} bytes`);
    }
    if (source.size > MAXIMUM_DISK_BYTES) {
      throw new Qcow2Error('LIMIT', `disk size ${source.size} is over ${MAXIMUM_DISK_BYTES}, what v86 can address`);
    }
    this.source = source;
    // A part of a sector at the end can't be addressed; the guest sees whole sectors only.
    this.byteLength = source.size - (source.size % SECTOR_BYTES);
    this.readOnly = source.readOnly;
    this.name = options.name ?? 'disk';
    this.#onError = options.onError ?? (() => undefined);
  }

  /** For v86's types alone, which know an image by its address: v86 itself sees `get`, `set` and `load`, and takes those. */
  get url(): string {
    return this.name;
  }

  get activity(): DiskActivity {
    return { ...this.#counts, inFlight: this.#queue.inFlight, dirty: this.#generation !== this.#stableGeneration };
  }

  /** The guest has reset its controller: it waits for nothing from before. */
  reset(): void {
    this.epoch++;
    this.#resetting.abort();
    this.#resetting = new AbortController();
  }

  load(): void {
    this.get_and_cache(0, SECTOR_BYTES, () => this.onload?.({}));
  }

  get(offset: number, length: number, answer: (data: Uint8Array) => void, options?: V86ReadOptions): void {
    const epoch = this.epoch;
    this.#read(offset, length, options?.signal, {
      done: (data) => {
        // A cancelled read is answered too: v86 drops the bytes and forgets the request.
        if (epoch === this.epoch || options?.signal?.aborted) answer(data);
      },
      failed: (cause) => {
        this.#report(cause, 'read', offset, length);
        this.#failCommand('read', epoch, () => answer(new Uint8Array(length)));
      },
    });
  }

  set(offset: number, data: Uint8Array, answer: () => void): void {
    const copy = data.slice();
    const { byteLength: length } = copy;
    const epoch = this.epoch;
    const pending: PendingWrite = { state: 'pending', whenDone: null };
    this.lastWrite = pending;
    this.#counts.writes++;
    this.#counts.writtenBytes += length;
    this.#generation++;
    this.#writeThrough(offset, copy);
    const { signal } = this.#resetting;
    this.#queue.run(() => this.source.write(offset, copy, signal), {
      done: () => {
        pending.state = 'done';
        this.onWrite?.();
        if (epoch !== this.epoch) return;
        answer();
        pending.whenDone?.();
      },
      failed: (cause) => {
        pending.state = 'failed';
        if (offset < SECTOR_BYTES) this.#forgetSectorZero();
        if (signal.aborted && isQcow2Error(cause, 'ABORTED')) return;
        this.#report(cause, 'write', offset, length);
        this.#failCommand('write', epoch);
      },
    });
  }

  /** Everything written before is stable when it resolves. Rejects with a `Qcow2Error`. */
  flush(): Promise<void> {
    return new Promise((resolve, reject) => {
      const generation = this.#generation;
      this.#queue.run(() => this.source.flush(), {
        done: () => {
          this.#counts.flushes++;
          this.#stableGeneration = generation;
          resolve();
        },
        failed: (cause) => reject(this.#report(cause, 'flush', 0, 0)),
      });
    });
  }

  /**
   * Hands a flush to the disk before it returns, past the requests that wait here: for a page that is going away, where
   * their turn may never come. It covers the writes that the disk has been given (a worker keeps their order), so what
   * `activity` says is left to the next `flush`.
   */
  async flushAtOnce(): Promise<void> {
    await this.source.flush();
  }

  /** Resolves once no request is waiting or under way. */
  whenIdle(): Promise<void> {
    return this.#queue.whenIdle();
  }

  get_and_cache(offset: number, length: number, answer: (data: Uint8Array) => void, options?: V86ReadOptions): void {
    const version = this.#sectorZeroVersion;
    this.#read(offset, length, options?.signal, {
      done: (data) => {
        const isCurrent = version === this.#sectorZeroVersion && !options?.signal?.aborted;
        if (offset === 0 && length >= SECTOR_BYTES && isCurrent) this.#sectorZero = data.slice(0, SECTOR_BYTES);
        answer(data);
      },
      failed: (cause) => {
        this.#report(cause, 'read', offset, length);
        // No guest waits here: v86 wants the geometry, finds no partition table and goes on. The BIOS then reads for real.
        answer(new Uint8Array(length));
      },
    });
  }

  get_from_cache(offset: number, length: number): Uint8Array | undefined {
    if (!this.#sectorZero || offset + length > SECTOR_BYTES) return undefined;
    return this.#sectorZero.slice(offset, offset + length);
  }

  /** v86 asks for the whole disk as one buffer; there is none. */
  get_buffer(answer: (buffer?: ArrayBuffer) => void): void {
    answer(undefined);
  }

  /** [name, size in bytes, generation] */
  get_state(): [string, number, number] {
    return [this.name, this.byteLength, this.#generation];
  }

  /** @throws `BAD_ARGUMENT` if the state was saved with another disk. */
  set_state(state: unknown): void {
    const [name, size, generation] = Array.isArray(state) ? (state as unknown[]) : [];
    const isOwn = (this.#takesAnyName || name === this.name) && size === this.byteLength;
    if (!isOwn || typeof generation !== 'number') {
      throw new Qcow2Error(
        'BAD_ARGUMENT',
        `the machine was saved with disk "${String(name)}" of ${String(size)} bytes, not "${this.name}" of ${this.byteLength}`,
      );
    }
    // What is written stays written: the generation never goes back, and what was stable still is.
    const ahead = Math.max(0, generation - this.#generation);
    this.#generation += ahead;
    this.#stableGeneration += ahead;
    this.epoch++;
  }

  /**
   * Tells that the disk has become another one, and stable, while no request was under way: its image went to a snapshot.
   * The machine state of that snapshot is restored by `restore`; its disk is this one, under whatever name.
   */
  async becomeSnapshot(restore: () => Promise<void>): Promise<void> {
    this.#forgetSectorZero();
    this.#stableGeneration = ++this.#generation;
    this.#takesAnyName = true;
    try {
      await restore();
    } finally {
      this.#takesAnyName = false;
    }
  }

  #read(
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
    outcome: { done(data: Uint8Array): void; failed(cause: unknown): void },
  ): void {
    this.#counts.reads++;
    this.#counts.readBytes += length;
    const read = () => (signal?.aborted ? new Uint8Array(length) : this.source.read(offset, length, signal));
    this.#queue.run(read, {
      done: outcome.done,
      failed: (cause) => {
        // Nobody waits for a read that v86 has cancelled: that it was given up is no fault.
        if (signal?.aborted) outcome.done(new Uint8Array(length));
        else outcome.failed(cause);
      },
    });
  }

  /**
   * A microtask later, because v86 lowers the interrupt line after it has started a command: an error raised inside that
   * call would never be seen. `afterwards` answers a read that the port has made v86 cancel.
   */
  #failCommand(operation: 'read' | 'write', epoch: number, afterwards?: () => void): void {
    queueMicrotask(() => {
      if (!this.port || epoch !== this.epoch) return;
      this.port.failCommand(operation);
      afterwards?.();
    });
  }

  #writeThrough(offset: number, data: Uint8Array): void {
    if (offset >= SECTOR_BYTES) return;
    this.#sectorZeroVersion++;
    this.#sectorZero?.set(data.subarray(0, SECTOR_BYTES - offset), offset);
  }

  #forgetSectorZero(): void {
    this.#sectorZeroVersion++;
    this.#sectorZero = null;
  }

  /** Tells of what has failed; returns the error. */
  #report(cause: unknown, operation: DiskFault['operation'], offset: number, length: number): Qcow2Error {
    this.#counts.errors++;
    const error = asQcow2Error(cause, operation, offset, length);
    this.#onError({ operation, offset, length, error });
    return error;
  }
}

/** A disk whose engine runs in the emulator's own thread: synchronous answers. */
export function localDisk(disk: LocalDisk, options: LocalDiskOptions = {}): V86Disk {
  return new V86Disk(localSource(disk, options.snapshots), options);
}

/** A disk that a worker holds. */
export function remoteDisk(remote: RemoteDisk, options?: V86DiskOptions): V86Disk {
  return new V86Disk(remoteSource(remote), { name: remote.info.path, ...options });
}

function asQcow2Error(error: unknown, operation: string, offset: number, length: number): Qcow2Error {
  if (isQcow2Error(error)) return error;
  const reason = reasonOf(error);
  return new Qcow2Error('IO', `${operation} of ${length} bytes at ${offset} failed: ${reason}`, { cause: error });
}
