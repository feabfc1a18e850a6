/**
 * One open disk in the worker: its requests against the engine, and its counters.
 *
 * The engine answers at once or throws `NotResident` (a remote base); `settle` waits for that. So nothing else may use the
 * disk while a request is under way: the server's queue sees to it.
 */
import { Qcow2Error } from '../errors.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import type { EstimateRoom } from '../network/make-offline.js';
import { settle } from '../storage/not-resident.js';
import { BitmapSession } from './bitmap-session.js';
import { BufferPool } from './buffer-pool.js';
import type { OpenDiskFile } from './disk-file.js';
import { ExportSession } from './export-session.js';
import type { ImageFiles } from './image-files.js';
import type { Bytes } from './protocol.js';
import type { DiskStats } from './remote-disk.js';
import type { NetworkBases } from './network-bases.js';
import { SaveSession } from './save-session.js';
import { SnapshotSession } from './snapshot-session.js';

export class DiskSession {
  readonly snapshots: SnapshotSession;
  readonly bitmaps: BitmapSession;
  readonly exports: ExportSession;
  readonly saves: SaveSession;
  readonly #disk: OpenDiskFile;
  readonly #buffers = new BufferPool();
  #reads = 0;
  #readBytes = 0;
  #writes = 0;
  #writtenBytes = 0;
  #flushes = 0;

  /** @param estimateRoom null where nobody can tell how much room the site has. */
  constructor(files: ImageFiles, disk: OpenDiskFile, estimateRoom: EstimateRoom | null = null) {
    this.#disk = disk;
    this.exports = new ExportSession(files, disk.image, estimateRoom);
    this.saves = new SaveSession(files, disk.image, this.exports);
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

  /** Flushes and closes. The file exported last stays: its reader may not be done. */
  close(): void {
    this.#disk.close();
  }
}
