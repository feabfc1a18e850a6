/**
 * What becomes of the bytes that arrive for a file: they are appended as they are, or a raw image becomes a qcow2 while it arrives, in which
 * zeroes take no room.
 */
import { Qcow2Error } from '../errors.js';
import { SECTOR_BYTES } from '../format/limits.js';
import { createImage } from '../image/create.js';
import { openImage } from '../image/open.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import { dataWriter, writeContent, type ContentWriter } from '../operations/content-writer.js';
import { resizeImage } from '../operations/resize.js';
import type { Storage } from '../storage/storage.js';
import { alignUp } from '../util/integers.js';
import { runToEnd } from '../util/steps.js';

export interface IntakeSink {
  append(bytes: Uint8Array): void;
  /** All is there: what was appended is stable, and the file is closed. */
  finish(): void;
  /** Nobody wants it any more: the file is closed. Also after `finish`. */
  abandon(): void;
}

export class PlainSink implements IntakeSink {
  readonly #storage: Storage;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  append(bytes: Uint8Array): void {
    this.#storage.write(this.#storage.size, bytes);
  }

  finish(): void {
    this.#storage.flush();
    this.#storage.close();
  }

  abandon(): void {
    this.#storage.close();
  }
}

/** Collected until there is so much: whole clusters. Bytes. */
const PIECE_BYTES = 1024 * 1024;
/** The disk has this size at first, and twice as much each time that it is full. Room is taken by data alone. */
const FIRST_SIZE = 2 ** 30;

export class RawImageSink implements IntakeSink {
  readonly #storage: Storage;
  readonly #image: Qcow2Image;
  readonly #writer: ContentWriter;
  readonly #piece = new Uint8Array(PIECE_BYTES);
  /** Bytes in `#piece`, and bytes of the disk before them. */
  #filled = 0;
  #written = 0;

  /** @param storage empty. */
  constructor(storage: Storage) {
    this.#storage = storage;
    createImage(storage, { size: FIRST_SIZE });
    this.#image = openImage(storage);
    this.#writer = { ...dataWriter(this.#image, false), zeroes: () => {} };
  }

  append(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const part = bytes.subarray(at, at + PIECE_BYTES - this.#filled);
      this.#piece.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled === PIECE_BYTES) this.#write();
    }
  }

  /** The disk has the bytes that arrived, in whole sectors. Throws `BAD_ARGUMENT` where there were none. */
  finish(): void {
    this.#write();
    if (this.#written === 0) throw new Qcow2Error('BAD_ARGUMENT', 'the raw image has no bytes; a disk needs some');
    runToEnd(resizeImage(this.#image, { size: alignUp(this.#written, SECTOR_BYTES), shrink: true }));
    this.#image.close();
  }

  abandon(): void {
    this.#storage.close();
  }

  #write(): void {
    const end = this.#written + this.#filled;
    while (this.#image.size < end) this.#image.resize(2 * this.#image.size);
    writeContent(this.#writer, this.#written, this.#piece.subarray(0, this.#filled));
    this.#written = end;
    this.#filled = 0;
  }
}
