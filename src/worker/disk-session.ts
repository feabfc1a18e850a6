/**
 * One open disk in the worker: its requests against the engine, and its counters.
 *
 * The engine answers at once or throws `NotResident` (a remote base); `settle` waits for that. So nothing else may use the
 * disk while a request is under way: the server's queue sees to it.
 */
import { Qcow2Error } from '../errors.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import { newEncryption, type NewEncryption } from '../image/unlock-image.js';
import type { IncrementToken } from '../operations/bitmaps/export-incremental.js';
import { settle } from '../storage/not-resident.js';
import { BitmapSession } from './bitmap-session.js';
import { BufferPool } from './buffer-pool.js';
import type { OpenDiskFile } from './disk-file.js';
import { exportJob, type ExportJob } from './export-job.js';
import type { ImageFiles } from './image-files.js';
import { carryOut, type BetweenSteps } from './job.js';
import type { Bytes, ExportContent, ExportedFile } from './protocol.js';
import type { DiskStats } from './remote-disk.js';
import type { NetworkBases } from './network-bases.js';
import { SnapshotSession } from './snapshot-session.js';

interface ExportTools {
  readonly encryption: NewEncryption | undefined;
  readonly between: BetweenSteps;
}

export class DiskSession {
  readonly snapshots: SnapshotSession;
  readonly bitmaps: BitmapSession;
  readonly #files: ImageFiles;
  readonly #disk: OpenDiskFile;
  readonly #buffers = new BufferPool();
  #lastExport: string | null = null;
  #reads = 0;
  #readBytes = 0;
  #writes = 0;
  #writtenBytes = 0;
  #flushes = 0;

  constructor(files: ImageFiles, disk: OpenDiskFile) {
    this.#files = files;
    this.#disk = disk;
    this.snapshots = new SnapshotSession(disk.image, this.#buffers);
    this.bitmaps = new BitmapSession(disk.image);
  }

  get image(): Qcow2Image {
    return this.#disk.image;
  }

  /** The base images on servers that the disk stands on. */
  get bases(): NetworkBases {
    return this.#disk.bases;
  }

  /** @param signal ends waiting for a server. */
  async read(offset: number, length: number, signal?: AbortSignal): Promise<Bytes> {
    const { size } = this.#disk.image;
    // Looked at before an array of that length is made.
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || length < 0 || length > size) {
      throw new Qcow2Error('OUT_OF_RANGE', `a read of ${length} bytes at ${offset}; the disk has ${size} bytes`);
    }
    const target = this.#buffers.take(length);
    await settle(() => this.#disk.image.read(offset, target), signal);
    this.#reads++;
    this.#readBytes += length;
    return target;
  }

  /** What is written in part needs what a server may have. @param signal ends waiting for it; nothing was changed then. */
  async write(offset: number, bytes: Bytes, signal?: AbortSignal): Promise<void> {
    await settle(() => this.#disk.image.write(offset, bytes), signal);
    this.#writes++;
    this.#writtenBytes += bytes.length;
    this.#buffers.give(bytes);
  }

  writeZeroes(offset: number, length: number, signal?: AbortSignal): Promise<void> {
    return settle(() => this.#disk.image.writeZeroes(offset, length, { unmap: true }), signal);
  }

  discard(offset: number, length: number, signal?: AbortSignal): Promise<void> {
    return settle(() => this.#disk.image.discard(offset, length), signal);
  }

  async flush(): Promise<void> {
    await settle(() => this.#disk.image.flush());
    this.#flushes++;
  }

  stats(): DiskStats {
    const { cacheHits, cacheMisses } = this.#disk.image.statistics();
    return {
      reads: this.#reads,
      readBytes: this.#readBytes,
      writes: this.#writes,
      writtenBytes: this.#writtenBytes,
      flushes: this.#flushes,
      fileSize: this.#disk.image.storage.size,
      cacheHits,
      cacheMisses,
    };
  }

  /**
   * Writes the disk as it is now into a file, which replaces that of the export before and stays until nobody holds its lock.
   * @param between while it waits, the disk may be read and not changed. @param signal ends the derivation of a key of its own.
   */
  async export(content: ExportContent, between: BetweenSteps, signal?: AbortSignal): Promise<ExportedFile> {
    await this.#removeLastExport();
    const temporary = await this.#files.createTemporary();
    this.#lastExport = temporary.name;
    try {
      const settings = content.of === 'file' ? undefined : content.encryption;
      const encryption = settings === undefined ? undefined : await newEncryption(settings, { signal });
      const token = await this.#exportTo(temporary.name, content, { encryption, between });
      return { blob: await this.#files.blob(temporary.name), lock: temporary.lock, token };
    } catch (error) {
      await this.#removeLastExport();
      throw error;
    }
  }

  /** Seconds between two calls of `cleanCaches`, 0 for none. */
  get cacheCleanInterval(): number {
    return this.#disk.image.cacheCleanInterval;
  }

  /** Gives memory back that is not in use. Only between requests. */
  cleanCaches(): void {
    try {
      this.#disk.image.cleanCaches();
    } catch {
      // An image that is damaged, or whose remote base is not all here, tells so to the next request.
    }
  }

  /** Flushes and closes. The exported file stays: its reader may not be done. */
  close(): void {
    this.#disk.close();
  }

  /** Resolves with the token of an increment. Wipes the key of `encryption`, whatever happens. */
  async #exportTo(
    name: string,
    content: ExportContent,
    { encryption, between }: ExportTools,
  ): Promise<IncrementToken | null> {
    try {
      const file = await this.#files.open(name, 'read-write');
      try {
        const job: ExportJob = await settle(() => exportJob(this.#disk.image, file, content, encryption));
        return (await carryOut<IncrementToken | void>(job, between)) ?? null;
      } finally {
        file.close();
      }
    } finally {
      encryption?.dispose();
    }
  }

  async #removeLastExport(): Promise<void> {
    if (this.#lastExport === null) return;
    const name = this.#lastExport;
    this.#lastExport = null;
    await this.#files.remove(name);
  }
}
