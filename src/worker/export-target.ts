/**
 * Where an export is written to: a temporary file of the folder; or, piece by piece between the steps, the page, which writes it into a file
 * of the visitor's.
 */
import { PouredStorage } from '../storage/poured.js';
import type { Storage } from '../storage/storage.js';
import type { ImageFiles } from './image-files.js';
import type { WhileLoading } from './job.js';
import type { PieceSender } from './piece-pipe.js';

export interface ExportTarget {
  /** Whether it takes room that the site has. */
  readonly takesRoom: boolean;
  /** Whether it may take any time, which no guest is to wait for. */
  readonly takesItsTime: boolean;
  open(): Promise<Storage>;
  /** Called between two steps, and, with `isAll`, when all is written. */
  send(whileLoading: WhileLoading, isAll?: boolean): Promise<void>;
  /** Gives its room back: nothing comes of the export. */
  discard(): Promise<void>;
}

export class TemporaryTarget implements ExportTarget {
  readonly takesRoom = true;
  readonly takesItsTime = false;
  readonly #files: ImageFiles;
  readonly #name: string;

  constructor(files: ImageFiles, name: string) {
    this.#files = files;
    this.#name = name;
  }

  open(): Promise<Storage> {
    return this.#files.open(this.#name, 'read-write');
  }

  async send(): Promise<void> {}

  discard(): Promise<void> {
    return this.#files.remove(this.#name);
  }
}

/** In memory until they are sent. Bytes. */
const MOST_WAITING_BYTES = 2 * 1024 * 1024;

export class PageTarget implements ExportTarget {
  readonly takesRoom = false;
  readonly takesItsTime = true;
  readonly #file = new PouredStorage();
  readonly #sender: PieceSender;

  constructor(sender: PieceSender) {
    this.#sender = sender;
  }

  /** Of the file. Bytes. */
  get size(): number {
    return this.#file.size;
  }

  open(): Promise<Storage> {
    return Promise.resolve(this.#file);
  }

  async send(whileLoading: WhileLoading, isAll = false): Promise<void> {
    if (!isAll && this.#file.waitingBytes < MOST_WAITING_BYTES) return;
    const pieces = this.#file.takePieces();
    if (isAll) pieces.push(...this.#file.takeRest());
    await whileLoading((signal) => this.#sender.sendAll(pieces, signal));
  }

  /** The page has a file of which it keeps nothing. */
  async discard(): Promise<void> {}
}
