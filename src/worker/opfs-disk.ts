/**
 * A disk in OPFS, held by its worker, as the page has it.
 */
import { Qcow2Error } from '../errors.js';
import type { Progress } from '../util/progress.js';
import type { WorkerClient } from './client.js';
import type { Claim } from './image-files.js';
import type { Bytes } from './protocol.js';
import type { DiskInfo, DiskStats, RemoteDisk } from './remote-disk.js';
import { takeLock } from './web-locks.js';

export interface JobOptions {
  readonly onProgress?: (progress: Progress) => void;
  /** Ends the job; it rejects with `ABORTED`. */
  readonly signal?: AbortSignal;
}

export class OpfsDisk implements RemoteDisk {
  readonly info: DiskInfo;
  /** Resolves when the disk can't be used any more: null after `close()`, the error when its worker died. */
  readonly closed: Promise<Qcow2Error | null>;
  readonly #client: WorkerClient;
  readonly #exports = new AbortController();
  #exportedFile: Claim | null = null;

  constructor(client: WorkerClient, info: DiskInfo) {
    this.#client = client;
    this.info = info;
    this.closed = client.closed;
  }

  read(offset: number, length: number): Promise<Bytes> {
    return this.#client.call({ kind: 'read', offset, length });
  }

  async write(offset: number, source: Bytes): Promise<void> {
    if (source.byteLength !== source.buffer.byteLength) {
      const sizes = `${source.byteLength} of the ${source.buffer.byteLength} bytes of its buffer`;
      throw new Qcow2Error(
        'BAD_ARGUMENT',
        `write takes the whole buffer over, but the array has ${sizes}: pass a copy`,
      );
    }
    await this.#client.call({ kind: 'write', offset, bytes: source }, { transfer: [source.buffer] });
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    await this.#client.call({ kind: 'writeZeroes', offset, length });
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.#client.call({ kind: 'discard', offset, length });
  }

  async flush(): Promise<void> {
    await this.#client.call({ kind: 'flush' });
  }

  stats(): Promise<DiskStats> {
    return this.#client.call({ kind: 'stats' });
  }

  /**
   * The disk as it is now, as one standalone qcow2 without a backing file. Reads and flushes go on meanwhile.
   *
   * Writes wait, and all requests after the first of them, until the export has ended; its length grows with the data on
   * the disk. A guest gives up on a request after a time of its own (Linux: 30 s), so stop the emulator meanwhile:
   * `quiesce()` of its attachment before, `run()` of the emulator afterwards.
   *
   * The blob stands on a temporary file: it can be read until this page ends or the disk is exported again, and also
   * after the disk was closed.
   */
  async exportImage(onProgress?: (progress: Progress) => void, signal?: AbortSignal): Promise<Blob> {
    const signals = signal === undefined ? this.#exports.signal : AbortSignal.any([signal, this.#exports.signal]);
    const { blob, lock } = await this.#client.call({ kind: 'export' }, { onProgress, signal: signals });
    // The worker holds the lock too, until it ends; from then on it is this page that keeps the file.
    this.#exportedFile?.release();
    this.#exportedFile = await takeLock(lock, 'shared', 0);
    return blob;
  }

  /** Flushes, closes the file and ends the worker. An export that is under way is ended. */
  async close(): Promise<void> {
    this.#exports.abort();
    try {
      await this.#client.call({ kind: 'close' });
    } catch (error) {
      if (!(error instanceof Qcow2Error) || error.code !== 'CLOSED') throw error;
    } finally {
      this.#client.end();
    }
  }

  /** Ends the worker at once. What was not flushed may be lost; what is pending rejects with `CLOSED`. */
  terminate(): void {
    this.#client.end();
  }
}
