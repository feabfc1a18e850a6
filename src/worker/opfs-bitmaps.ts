/**
 * The bitmaps of a disk in OPFS, as the page has them: which parts have changed, and backups in increments. Each call is one
 * request to the disk's worker.
 */
import { Qcow2Error } from '../errors.js';
import type { BitmapUsage } from '../operations/bitmaps/bitmaps.js';
import type { IncrementToken } from '../operations/bitmaps/export-incremental.js';
import type { NewBitmap } from '../operations/bitmaps/new-bitmap.js';
import type { NewBackingFile } from '../operations/change-backing.js';
import type { EncryptionSettings } from '../image/unlock-image.js';
import type { WorkerClient } from './client.js';
import type { JobOptions } from './job-options.js';
import type { BitmapChange, ExportContent, ExportedFile } from './protocol.js';

export interface ExportIncrementOptions extends JobOptions {
  /** What the increment records as its backing file: the one before, or the base. Unless told it records none. */
  readonly backing?: NewBackingFile;
  /** Encrypts the increment by this, with a key of its own. Unless told it is encrypted as the disk is. */
  readonly encryption?: EncryptionSettings;
}

export interface ExportedIncrement {
  /** As that of `exportImage`. */
  readonly blob: Blob;
  /** For `confirmIncrement`, once the blob has arrived. */
  readonly token: IncrementToken;
}

/** What the worker has exported, its file kept for this page. */
export type ExportToPage = (content: ExportContent, options: JobOptions) => Promise<ExportedFile>;

/** Rejects with `NOT_FOUND` for a bitmap that there is none of, `UNSUPPORTED` for one that is not consistent, and as the engine throws. */
export class OpfsBitmaps {
  readonly #client: WorkerClient;
  readonly #export: ExportToPage;

  /** @param exportContent an export of the disk. */
  constructor(client: WorkerClient, exportContent: ExportToPage) {
    this.#client = client;
    this.#export = exportContent;
  }

  list(): Promise<BitmapUsage[]> {
    return this.#client.call({ kind: 'listBitmaps' });
  }

  /** Nothing is marked in it. Version 3 only. */
  add(bitmap: NewBitmap): Promise<void> {
    return this.#change({ do: 'add', bitmap });
  }

  /** Also one that is not consistent. */
  remove(name: string): Promise<void> {
    return this.#change({ do: 'remove', name });
  }

  clear(name: string): Promise<void> {
    return this.#change({ do: 'clear', name });
  }

  enable(name: string): Promise<void> {
    return this.#change({ do: 'enable', name });
  }

  disable(name: string): Promise<void> {
    return this.#change({ do: 'disable', name });
  }

  /** Marks in `name` what is marked in `source`. */
  merge(name: string, source: string): Promise<void> {
    return this.#change({ do: 'merge', name, source });
  }

  /**
   * Writes down what has changed so far. A page that ends without closing its disk leaves bitmaps that nobody trusts, unless nothing
   * has changed since: for a moment at which the guest is idle.
   */
  store(): Promise<void> {
    return this.#change({ do: 'store' });
  }

  /**
   * What has changed since the last increment that was confirmed, or since the bitmap was added, as a qcow2 over it. Otherwise as
   * `exportImage`: of one moment, writes wait meanwhile. Until it is confirmed it belongs to the next increment, too.
   */
  async exportIncrement(name: string, options: ExportIncrementOptions = {}): Promise<ExportedIncrement> {
    const { backing, encryption, ...job } = options;
    const recorded = backing === undefined ? {} : { backing };
    const encrypted = encryption === undefined ? {} : { encryption };
    const { blob, token } = await this.#export({ of: 'increment', bitmap: name, ...recorded, ...encrypted }, job);
    if (token === null) throw new Qcow2Error('IO', 'the worker did not say which export this was');
    return { blob, token };
  }

  /**
   * The increment has arrived where it is to be; the next one need not have its content. Rejects with `BAD_ARGUMENT` unless the token is
   * that of the last one since the disk was opened.
   */
  confirmIncrement(name: string, token: IncrementToken): Promise<void> {
    return this.#change({ do: 'confirm', name, token });
  }

  async #change(change: BitmapChange): Promise<void> {
    await this.#client.call({ kind: 'changeBitmaps', change });
  }
}
