/**
 * A disk in OPFS, held by its worker, as the page has it.
 */
import { Qcow2Error, isQcow2Error } from '../errors.js';
import type { BootProfile } from '../network/boot-profile.js';
import type { BaseStatus } from '../network/network-base.js';
import type { WorkerClient } from './client.js';
import { DiskHolder, type HolderOptions } from './disk-holder.js';
import { exportContent, type ExportOptions } from './export-options.js';
import type { Claim } from './image-files.js';
import type { JobOptions } from './job-options.js';
import { OpfsBitmaps } from './opfs-bitmaps.js';
import { OpfsSnapshots } from './opfs-snapshots.js';
import type { Bytes, DerivationLimit, ExportContent, ExportedFile, NewPassphrase } from './protocol.js';
import type { DiskInfo, DiskStats, RemoteDisk, WaitOptions } from './remote-disk.js';
import type { SaveTarget } from './save-blob.js';
import { saveImage } from './save-image.js';
import { handOver } from './transferable.js';
import { takeLock } from './web-locks.js';

export type { ExportOptions, JobOptions };

/**
 * Stops whatever uses the disk, so that another page can have it. Rejects, or throws, to keep the disk. `signal` is aborted when nobody
 * waits for it any more: who asked has given up, or the disk was closed meanwhile, and is theirs.
 */
export type TakeOverHandler = (signal: AbortSignal) => Promise<void> | void;

/** By which others ask for the disk: its lock, and how it is held. */
export type HeldLock = Pick<HolderOptions, 'lock' | 'mode'>;

type SignalOption = Pick<JobOptions, 'signal'>;

export class OpfsDisk implements RemoteDisk {
  readonly snapshots: OpfsSnapshots;
  readonly bitmaps: OpfsBitmaps;
  /**
   * Resolves when the disk can't be used any more: with null after `close()`; with `IN_USE` when it went to another page that asked for it
   * (`onTakeOver`); with the error when its worker died, or its last writes could not be made stable while it was let go of.
   */
  readonly closed: Promise<Qcow2Error | null>;
  /**
   * Called when another page, or this one, wants the disk (`takeOver` of `openDisk`). When it has resolved, the disk is flushed and closed,
   * and `closed` resolves. Null refuses: who knows nothing of it must not lose its disk.
   */
  onTakeOver: TakeOverHandler | null = null;
  readonly #client: WorkerClient;
  readonly #exports = new AbortController();
  #info: DiskInfo;
  #exportedFile: Claim | null = null;

  /** @param held null for a disk that nobody else can want. */
  constructor(client: WorkerClient, info: DiskInfo, held: HeldLock | null = null) {
    this.#client = client;
    this.#info = info;
    this.closed = client.closed;
    this.snapshots = new OpfsSnapshots(client, ({ diskSize }) => {
      this.#info = { ...this.#info, size: diskSize };
    });
    this.bitmaps = new OpfsBitmaps(client, (content, options) => this.#export(content, options));
    if (held !== null) this.#answerTakeOvers(held);
  }

  /** What the disk is now: going to a snapshot may change its size. */
  get info(): DiskInfo {
    return this.#info;
  }

  read(offset: number, length: number, { signal }: WaitOptions = {}): Promise<Bytes> {
    return this.#client.call({ kind: 'read', offset, length }, { signal });
  }

  async write(offset: number, source: Bytes, { signal }: WaitOptions = {}): Promise<void> {
    const transfer = handOver(source, 'write');
    await this.#client.call({ kind: 'write', offset, bytes: source }, { transfer, signal });
  }

  async writeZeroes(offset: number, length: number, { signal }: WaitOptions = {}): Promise<void> {
    await this.#client.call({ kind: 'writeZeroes', offset, length }, { signal });
  }

  async discard(offset: number, length: number, { signal }: WaitOptions = {}): Promise<void> {
    await this.#client.call({ kind: 'discard', offset, length }, { signal });
  }

  async flush(): Promise<void> {
    await this.#client.call({ kind: 'flush' });
  }

  stats(): Promise<DiskStats> {
    return this.#client.call({ kind: 'stats' });
  }

  /** The base images on servers that the disk stands on: which versions, how much of them is here, what they cost so far. */
  bases(): Promise<BaseStatus[]> {
    return this.#client.call({ kind: 'bases' });
  }

  /**
   * Fetches all that is missing of the base images on servers, and compares what is here with its checksums. The disk goes on meanwhile.
   * When it resolves, the disk needs no network any more. `signal` is the pause: the next call goes on where this one was.
   * @throws Qcow2Error `NETWORK` and the like, `NO_SPACE` or `IN_USE` where it can't be kept, `ABORTED`.
   */
  async makeAvailableOffline({ onProgress, signal }: JobOptions = {}): Promise<void> {
    await this.#client.call({ kind: 'fetchBases' }, { onProgress, signal });
  }

  /**
   * What has been read of a base image since the disk was opened, in order: to be shipped as JSON beside the image, and given as `profile`
   * to those who boot from it. @param base its name; may be left out where there is one. @throws Qcow2Error `NOT_FOUND`.
   */
  bootProfile(base?: string): Promise<BootProfile> {
    return this.#client.call({ kind: 'bootProfile', ...(base === undefined ? {} : { base }) });
  }

  /**
   * The disk as it is now, as one standalone qcow2 without a backing file, and its snapshots with their VM state in it.
   * Whatever several of them share takes its room once in the new file, too. Or else its overlay alone (`content`).
   *
   * It is of the moment at which it begins, and the disk goes on in all ways: what is written is copied away from a snapshot, which nobody
   * sees and which is gone at the end. Only where the image can have no snapshots (its data are in an external file, a limit or its room is
   * reached) do writes wait, and all requests after the first of them; then stop the emulator meanwhile. Changes of bitmaps wait in
   * any case, and all that comes after them.
   *
   * The site needs room for the copy, and for what is written meanwhile. The disk comes first: an export without room is refused, or given up
   * when the disk needs it, with `NO_SPACE`.
   *
   * The blob stands on a temporary file: it can be read until this page ends or the disk is exported again, and also
   * after the disk was closed.
   * @throws Qcow2Error `NOT_FOUND` (no such snapshot), `BAD_ARGUMENT`, `NO_SPACE`, `IO`, `ABORTED`.
   */
  async exportImage(options: ExportOptions = {}): Promise<Blob> {
    return (await this.#export(exportContent(options), options)).blob;
  }

  /**
   * Makes an export as `exportImage` does, and writes it into a file as it is made, or into another stream: little of it is in memory at any
   * time. A file needs no room of the site but for what is written to the disk meanwhile; what waits for an export, such as the delete of a
   * snapshot, waits until the file is written.
   *
   * Three kinds are made as a temporary file first, of which nothing is left behind, and are written then, with one progress over both: an export
   * that has snapshots in it; one for a stream, which takes bytes in their order only; and one of a disk whose writes must wait. The site needs
   * room for these as for `exportImage`.
   *
   * Where it fails or is ended, also by `close()`, the target is aborted: a file is as it was then.
   * @throws Qcow2Error as `exportImage` and `saveBlob`.
   */
  async saveTo(target: SaveTarget, options: ExportOptions = {}): Promise<void> {
    const { onProgress, signal } = options;
    await saveImage(this.#client, target, exportContent(options), { onProgress, signal: this.#signal(signal) });
  }

  /**
   * The file of the disk as it is now, byte for byte, with all that is in it, bitmaps too; otherwise as `exportImage`. It is
   * faster, and NOT the whole disk where `info.backingFile` names a backing file: QEMU then needs that file beside this one.
   *
   * Writes wait, and all requests after the first of them, until it has ended: a file can't be written and be of one moment. A guest gives
   * up on a request after a time of its own (Linux: 30 s), so stop the emulator meanwhile: `quiesce()` of its attachment before, `run()` of
   * the emulator afterwards.
   */
  async exportFile(options: JobOptions = {}): Promise<Blob> {
    return (await this.#export({ of: 'file' }, options)).blob;
  }

  /**
   * A further passphrase for an encrypted disk (LUKS). The disk goes on while keys are derived, some seconds; one that is closed
   * meanwhile is left as it was, and this rejects with `CLOSED`. Resolves with its key slot. `signal` ends it between two derivations.
   * @throws Qcow2Error `WRONG_PASSPHRASE`, `LIMIT` where all slots are in use or ask for too much work, `BAD_ARGUMENT`, `ABORTED`.
   */
  addPassphrase(request: NewPassphrase, { signal }: SignalOption = {}): Promise<number> {
    return this.#client.call({ kind: 'addPassphrase', ...request }, { signal });
  }

  /** A passphrase in place of another, which opens nothing afterwards. Otherwise as `addPassphrase`. */
  changePassphrase(request: NewPassphrase, { signal }: SignalOption = {}): Promise<number> {
    return this.#client.call({ kind: 'changePassphrase', ...request }, { signal });
  }

  /** Has a passphrase open nothing any more. The last one can't be erased. @throws as `addPassphrase`. */
  async erasePassphrase(passphrase: string, options: SignalOption & DerivationLimit = {}): Promise<void> {
    const { signal, ...limit } = options;
    await this.#client.call({ kind: 'erasePassphrase', passphrase, ...limit }, { signal });
  }

  /** Flushes, closes the file and ends the worker. An export that is under way is ended. */
  async close(): Promise<void> {
    try {
      await this.#closeFile();
    } finally {
      this.#client.end();
    }
  }

  /** Ends the worker at once. What was not flushed may be lost; what is pending rejects with `CLOSED`. */
  terminate(): void {
    this.#client.end();
  }

  async #closeFile(): Promise<void> {
    this.#exports.abort();
    try {
      await this.#client.call({ kind: 'close' });
    } catch (error) {
      if (!isQcow2Error(error, 'CLOSED')) throw error;
    }
  }

  #answerTakeOvers(held: HeldLock): void {
    const holder = new DiskHolder({
      ...held,
      consent: async (signal) => {
        if (this.onTakeOver === null) throw new Error('it does not let go of its disks');
        await this.onTakeOver(signal);
      },
      handOver: () => this.#handOver(),
    });
    void this.closed.then(() => holder.close());
  }

  async #handOver(): Promise<void> {
    const { path } = this.#info;
    try {
      await this.#closeFile();
      this.#client.end(new Qcow2Error('IN_USE', `${path} went to another page, which asked for it`));
    } catch (cause) {
      const { code, message } = cause instanceof Qcow2Error ? cause : new Qcow2Error('IO', String(cause));
      const loss = `${path} went to another page, and what was written to it last could not be made stable: ${message}`;
      this.#client.end(new Qcow2Error(code, loss, { cause }));
      throw cause;
    }
  }

  async #export(content: ExportContent, { onProgress, signal }: JobOptions): Promise<ExportedFile> {
    const exported = await this.#client.call({ kind: 'export', content }, { onProgress, signal: this.#signal(signal) });
    // The worker holds the lock too, until it ends; from then on it is this page that keeps the file.
    this.#exportedFile?.release();
    this.#exportedFile = await takeLock(exported.lock, 'shared', 0);
    return exported;
  }

  /** Also that of the exports of a disk that is closed. */
  #signal(signal: AbortSignal | undefined): AbortSignal {
    return signal === undefined ? this.#exports.signal : AbortSignal.any([signal, this.#exports.signal]);
  }
}
