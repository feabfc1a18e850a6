/**
 * Corruption found while an image is in use: a misaligned offset in a table, or a write that would hit metadata.
 *
 * - *Fatal*, in an image open for writing: the corrupt bit (spec, "incompatible_features" bit 1) is set in the file and
 *   made stable, the storage takes no further change, and the image is unusable: every later call fails with `CORRUPT`.
 *   What was not flushed is lost, as in a crash; what a crash leaves is a good image (`write-order.ts`), so setting the bit
 *   needs no barrier before it. Version 2 has no such bit; there the image is unusable until it is opened again.
 * - An image opened read-only only reports. The request fails, others go on.
 * - Until `arm` is called findings are only thrown: an image that can't be opened is left as it is.
 * - One event for each image, as QEMU's BLOCK_IMAGE_CORRUPTED: after a first one only a fatal one is told.
 *
 * What QEMU takes for plain I/O errors (a damaged compressed stream, a refcount that can't be lowered) does not come here.
 */
import type { GuestOffset, HostOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import type { HeaderState } from './header-state.js';
import type { GuardedStructure } from './overlap-options.js';

/** What a corruption is, for whoever has words of his own for it. Offsets are of the image file. */
export type CorruptionFacts =
  /** `writing` is what would have been written, in words: "a new L2 table". */
  | { readonly fact: 'overlap'; readonly structure: GuardedStructure | 'encryption'; readonly writing: string }
  | { readonly fact: 'misaligned-table'; readonly table: string; readonly index: number; readonly host: HostOffset }
  | { readonly fact: 'misaligned-cluster'; readonly guest: GuestOffset; readonly host: HostOffset };

/** What is known of a corruption. */
export interface CorruptionFinding {
  /** Names the field, its value and the limit. */
  readonly message: string;
  /** The place in the image file, where there is one place. */
  readonly offset?: HostOffset | undefined;
  /** Bytes. */
  readonly size?: number | undefined;
  readonly facts?: CorruptionFacts | undefined;
}

export interface CorruptionEvent extends CorruptionFinding {
  /** The image has been marked corrupt and can't be used any more. */
  readonly fatal: boolean;
}

export type CorruptionListener = (event: CorruptionEvent) => void;

export interface CorruptionOptions {
  readonly header: HeaderState;
  readonly writable: boolean;
  /** Makes the storage refuse all further changes with this error. */
  readonly seal: (error: Qcow2Error) => void;
  readonly flush: () => void;
  /** Must not throw, and must not use the image. */
  readonly onCorruption?: CorruptionListener | undefined;
}

export class Corruption {
  readonly #options: CorruptionOptions;
  #armed = false;
  #told = false;
  #fatal: Qcow2Error | null = null;

  constructor(options: CorruptionOptions) {
    this.#options = options;
  }

  /** The image is open: from now on findings are marked and told. */
  arm(): void {
    this.#armed = true;
  }

  /** Whether the image has become unusable. */
  get isFatal(): boolean {
    return this.#fatal !== null;
  }

  /** Throws `CORRUPT` once the image has become unusable. */
  checkUsable(): void {
    if (this.#fatal === null) return;
    const { message } = this.#fatal;
    throw new Qcow2Error('CORRUPT', `the image was found corrupt: ${message}`, { cause: this.#fatal });
  }

  /** Marks and reports. Returns the error to throw, with the code `CORRUPT`. */
  found(finding: CorruptionFinding): Qcow2Error {
    const { writable } = this.#options;
    const error = new Qcow2Error('CORRUPT', finding.message);
    if (this.#fatal !== null || !this.#armed) return error;
    if (writable) {
      this.#fatal = error;
      const marked = this.#mark(error);
      this.#tell(finding, true);
      return marked;
    }
    this.report(finding);
    return error;
  }

  /** Reports what does no harm to go on with. */
  report(finding: CorruptionFinding): void {
    if (this.#armed && !this.#told) this.#tell(finding, false);
  }

  /** Sets the bit, stably. An image whose storage fails at that is no more usable, and says why. */
  #mark(error: Qcow2Error): Qcow2Error {
    const { header, flush, seal } = this.#options;
    try {
      if (header.value.version === 3) {
        header.setCorrupt();
        flush();
      }
      return error;
    } catch (cause) {
      return new Qcow2Error('CORRUPT', `${error.message}; and the image could not be marked corrupt`, { cause });
    } finally {
      seal(error);
    }
  }

  #tell(finding: CorruptionFinding, fatal: boolean): void {
    this.#told = true;
    this.#options.onCorruption?.({ fatal, ...finding });
  }
}
