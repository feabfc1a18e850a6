/**
 * Lifecycle of an open image: which tables are in use, and whether requests may be served.
 *
 *   active --reopen--> active      other options, or read-only <-> writable
 *   active --inactivate--> inactive --invalidate--> active
 *   any --close--> closed
 *
 * - New options mean new tables: the kernels' memory has a fixed size for life, so caches are not resized but replaced. Before
 *   that everything is written, bitmaps included, the dirty bit cleared, and the header read again: nothing of the old tables is
 *   needed.
 * - A change that fails leaves the image as it was, flushed. One that fails in `invalidate` leaves it inactive.
 * - While an image is inactive its file is somebody else's (a migration): nothing is read, written or remembered of it.
 * - A long job must ask for the tables anew at each of its steps.
 */
import { Qcow2Error } from '../errors.js';
import { hasDataFile, type Header } from '../format/header.js';
import { chooseCacheSizes } from '../metadata/cache-sizes.js';
import { readHeader } from '../metadata/header-state.js';
import type { ImageTables } from '../metadata/image-tables.js';
import type { GuardedStorage } from '../storage/guarded.js';
import type { TablesLoader } from './load-tables.js';
import { encryptionFormat, type ImageEncryption } from './image-encryption.js';
import { cleanInterval, joinOptions, runtimeOptions, type RuntimeOptions } from './runtime-options.js';

export interface ReopenOptions extends RuntimeOptions {
  readonly readOnly?: boolean | undefined;
}

export interface LifecycleParts {
  readonly storage: GuardedStorage;
  /** Where guest data lies: the same storage, or the external data file. */
  readonly data: GuardedStorage;
  /** Null for an image that is not encrypted, or locked. */
  readonly encryption: ImageEncryption | null;
  readonly loader: TablesLoader;
  readonly tables: ImageTables;
  readonly options: RuntimeOptions;
}

/** Table slices that were looked up and found in memory, and that had to be loaded. */
export interface CacheCounts {
  readonly hits: number;
  readonly misses: number;
}

/** Memory that is less than this is not worth new tables. Bytes. */
const WORTH_GIVING_BACK = 256 * 1024;

export class Lifecycle {
  readonly #parts: LifecycleParts;
  #state: 'active' | 'inactive' | 'closed' = 'active';
  #tables: ImageTables;
  #options: RuntimeOptions;
  /** Counted by tables that are not in use any more. */
  #past: CacheCounts = { hits: 0, misses: 0 };

  constructor(parts: LifecycleParts) {
    this.#parts = parts;
    this.#tables = parts.tables;
    this.#options = parts.options;
  }

  get tables(): ImageTables {
    return this.#tables;
  }

  /** Seconds. */
  get cacheCleanInterval(): number {
    return cleanInterval(this.#options);
  }

  /** Since the image was opened. */
  get cacheCounts(): CacheCounts {
    return this.#tables.caches.reduce(
      (sum, { hits, misses }) => ({ hits: sum.hits + hits, misses: sum.misses + misses }),
      this.#past,
    );
  }

  /** Null for an image that is not encrypted, or locked. */
  get encryption(): ImageEncryption | null {
    return this.#parts.encryption;
  }

  get closed(): boolean {
    return this.#state === 'closed';
  }

  get poisoned(): boolean {
    return this.#parts.storage.poisoned || this.#parts.data.poisoned;
  }

  /** Throws `CLOSED`, `INACTIVE`, or `CORRUPT` for an image that was found corrupt while in use. */
  checkUsable(): void {
    this.#checkOpen();
    if (this.#state === 'inactive') {
      throw new Qcow2Error('INACTIVE', 'the image is inactive; call invalidate() before it is used again');
    }
    this.#tables.corruption.checkUsable();
  }

  /** Throws `BAD_ARGUMENT`, `READ_ONLY` for a storage or data file that can't be written, and as `openImage` does. */
  reopen(changes: ReopenOptions): void {
    this.checkUsable();
    const { readOnly = this.#tables.writable === null, ...runtime } = changes;
    const options = runtimeOptions(joinOptions(this.#options, runtime));
    if (!readOnly) checkWritable(this.#parts);
    this.#writeAll();
    this.#load({ writable: !readOnly, options });
  }

  /**
   * Reads all metadata again, after an operation has rewritten it in the file. Everything has been flushed. Where it can't be
   * read, the old tables, which the file does not know any more, must not be written: the image takes no change any more.
   */
  reload(): void {
    this.checkUsable();
    const { storage, loader } = this.#parts;
    try {
      this.#use(loader.renew(this.#tables, readHeader(storage), this.#options));
    } catch (cause) {
      const message = 'the tables were rewritten, and could not be read again; close the image and open it again';
      storage.seal(new Qcow2Error('IO', message, { cause }));
      throw cause;
    }
  }

  /** Tables to read another state of the image with, which `header` describes: that of a snapshot. */
  tablesOf(header: Header): ImageTables {
    return this.#parts.loader.load(header, { writable: false, options: this.#options });
  }

  /** After the disk was resized: caches whose size follows from that of the disk are made anew. */
  fitCaches(): void {
    const { geometry, header, writable, cacheSizes } = this.#tables;
    const shape = { geometry, diskSize: header.value.size, writable: writable !== null };
    const wanted = chooseCacheSizes(shape, this.#options);
    if (wanted.l2Slots !== cacheSizes.l2Slots || wanted.refcountSlots !== cacheSizes.refcountSlots) this.reopen({});
  }

  /** Writes everything, marks the image clean, and lets go of the file. */
  inactivate(): void {
    this.checkUsable();
    this.#writeAll();
    this.#state = 'inactive';
  }

  /**
   * Reads all metadata again, the header included, after somebody else had the file. Throws as `openImage` does, and
   * `BACKING` when the header now names other files than those that are open, `KEY_NEEDED` when it is encrypted with another
   * key: the file has become another image. Only legacy AES can't tell that.
   */
  invalidate(): void {
    this.#checkOpen();
    if (this.#state === 'active') this.inactivate();
    const { storage, data } = this.#parts;
    storage.refresh();
    if (data !== storage) data.refresh();
    this.#load({ writable: this.#tables.writable !== null, options: this.#options });
    this.#state = 'active';
  }

  /**
   * Drops table slices that were not used since the last call. Where most of the memory is idle then, it goes back to the
   * host: WASM can't return a part of a memory, so the tables move to a new one. Not while changes wait for a flush.
   */
  cleanCaches(): void {
    this.checkUsable();
    const { caches } = this.#tables;
    for (const cache of caches) cache.dropUnused();
    const held = caches.reduce((sum, cache) => sum + cache.usage.held, 0);
    const touched = caches.reduce((sum, cache) => sum + cache.usage.touched, 0);
    if (touched < WORTH_GIVING_BACK || held * 4 > touched || this.#tables.pending || this.poisoned) return;
    this.#use(this.#parts.loader.renew(this.#tables, this.#tables.header.value, this.#options));
  }

  /** Writes everything, marks the image clean and closes the storages. A poisoned image is closed as it is. Once. */
  close(): void {
    if (this.closed) return;
    const { storage, data, encryption } = this.#parts;
    try {
      if (this.#state === 'active' && !this.poisoned) this.#writeAll();
    } finally {
      this.#state = 'closed';
      if (encryption?.borrowed !== true) encryption?.cipher.wipe();
      storage.close();
      if (data !== storage) data.close();
    }
  }

  /** Bitmaps that can't be stored stay marked in use; everything else is written all the same. */
  #writeAll(): void {
    const { writable, bitmaps } = this.#tables;
    if (writable === null) return;
    try {
      bitmaps.store(this.#tables);
    } finally {
      if (!this.poisoned) writable.order.makeClean();
    }
  }

  #load(request: { readonly writable: boolean; readonly options: RuntimeOptions }): void {
    const header = readHeader(this.#parts.storage);
    checkSameFiles(this.#tables.header.value, header);
    checkSameEncryption(this.#tables.header.value, header);
    checkSameKey(this.#parts, header);
    this.#use(this.#parts.loader.load(header, request));
    this.#options = request.options;
  }

  #use(tables: ImageTables): void {
    this.#past = this.cacheCounts;
    this.#tables.retire();
    this.#tables = tables;
  }

  #checkOpen(): void {
    if (this.closed) throw new Qcow2Error('CLOSED', 'the image was used after close()');
  }
}

function checkWritable({ storage, data }: LifecycleParts): void {
  const name = storage.readOnly ? 'storage' : 'external data file';
  if (!storage.readOnly && !data.readOnly) return;
  throw new Qcow2Error('READ_ONLY', `the ${name} is read-only; the image can not be reopened for writing`);
}

/** The files that the header names are open, and were allowed by the opener; others were not. */
function checkSameFiles(old: Header, now: Header): void {
  const check = (what: string, before: string, after: string) => {
    if (before === after) return;
    throw new Qcow2Error(
      'BACKING',
      `the ${what} is ${after} instead of ${before} now; close the image and open it again`,
    );
  };
  const quoted = (name: string | null | undefined) => (name == null ? 'none' : JSON.stringify(name));
  check('external data file', describeDataFile(old), describeDataFile(now));
  check('backing file', quoted(old.backingFile?.name), quoted(now.backingFile?.name));
  check('format of the backing file', quoted(old.backingFile?.format), quoted(now.backingFile?.format));
}

/** The key that is at hand would make rubbish of what is read, and of what is written. */
function checkSameEncryption(old: Header, now: Header): void {
  const [before, after] = [old, now].map((header) => encryptionFormat(header) ?? 'none');
  if (before === after) return;
  const what = `the encryption is ${after} instead of ${before} now`;
  throw new Qcow2Error('KEY_NEEDED', `${what}; close the image and open it again`);
}

/** The same for another image that is encrypted in the same way. */
function checkSameKey({ storage, encryption }: LifecycleParts, now: Header): void {
  if (encryption === null || encryption.isKeyOf(storage, now)) return;
  const what = 'the LUKS header is that of another key now, and so of another image';
  throw new Qcow2Error('KEY_NEEDED', `${what}; close the image and open it again`);
}

function describeDataFile(header: Header): string {
  if (!hasDataFile(header)) return 'none';
  return header.dataFileName === null ? 'one without a name' : JSON.stringify(header.dataFileName);
}
