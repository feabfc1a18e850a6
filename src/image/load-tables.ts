/**
 * Loading the tables of an image: what opening, reopening and invalidating have in common once the header is read.
 *
 * Writable tables are those of an image that is clean: one marked corrupt is refused, one left dirty is repaired. Until all
 * of that is done nothing that is found marks the image corrupt: an image that can't be opened is left as it is.
 *
 * A damaged snapshot table does not keep an image from being read. It is refused where the image is to be written, because what
 * it leads to could not be kept from being written over.
 */
import { Qcow2Error } from '../errors.js';
import { INCOMPATIBLE_CORRUPT, INCOMPATIBLE_DIRTY } from '../format/features.js';
import { checkSnapshotTable } from '../format/header-checks.js';
import type { Header } from '../format/header.js';
import type { KernelsFactory } from '../kernels/kernels.js';
import type { CorruptionListener } from '../metadata/corruption.js';
import { ImageTables } from '../metadata/image-tables.js';
import { readHeader } from '../metadata/header-state.js';
import { repairDirty } from '../metadata/repair-dirty.js';
import type { GuardedStorage } from '../storage/guarded.js';
import type { GuestData } from '../storage/guest-data.js';
import type { RuntimeOptions } from './runtime-options.js';

export interface TablesSource {
  readonly storage: GuardedStorage;
  /** Where guest data lies: the same storage, or the external data file. */
  readonly data: GuardedStorage;
  /** How its content reads. */
  readonly guestData: GuestData;
  readonly kernels: KernelsFactory;
  readonly onCorruption: CorruptionListener | undefined;
}

export class TablesLoader {
  readonly #source: TablesSource;

  constructor(source: TablesSource) {
    this.#source = source;
  }

  /** Throws `CORRUPT`, `BAD_IMAGE`, `LIMIT`, `UNSUPPORTED`, and `BAD_ARGUMENT` for options that can't be. */
  load(header: Header, request: { readonly writable: boolean; readonly options: RuntimeOptions }): ImageTables {
    const { writable, options } = request;
    if (writable && (header.incompatible & INCOMPATIBLE_CORRUPT) !== 0n) {
      throw new Qcow2Error('CORRUPT', 'the image is marked corrupt; it can be opened read-only, or be repaired');
    }
    if (writable) checkSnapshotTable(header);
    const tables = new ImageTables({
      ...this.#source,
      header: writable ? this.#repaired(header) : header,
      writable,
      options,
    });
    tables.corruption.arm();
    return tables;
  }

  /** Fresh tables of an image that is open, as the file has them. Nothing of the old ones is left to be written, but for bitmaps. */
  renew(old: ImageTables, header: Header, options: RuntimeOptions): ImageTables {
    const tables = new ImageTables({
      ...this.#source,
      header,
      writable: old.writable !== null,
      options,
      bitmaps: old.bitmaps,
    });
    tables.corruption.arm();
    return tables;
  }

  /** The header of the image once it is clean. */
  #repaired(header: Header): Header {
    if ((header.incompatible & INCOMPATIBLE_DIRTY) === 0n) return header;
    repairDirty(this.#source.storage);
    return readHeader(this.#source.storage);
  }
}
