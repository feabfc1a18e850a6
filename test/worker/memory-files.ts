/**
 * `ImageFiles` in memory, for the server in Node: claims, temporary files and the step that puts a file in place, without
 * a browser. Several servers on one `MemoryFolder` are several tabs.
 */
import { Qcow2Error } from '../../src/errors.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import type { FileMode } from '../../src/storage/opfs.js';
import { ReadOnlyStorage } from '../../src/storage/read-only.js';
import type { Storage } from '../../src/storage/storage.js';
import type { Claim, ClaimMode, ImageFiles, OpenDirectory, TemporaryFile } from '../../src/worker/image-files.js';
import type { StoredFile } from '../../src/worker/protocol.js';

export class MemoryFolder implements ImageFiles {
  readonly files = new Map<string, Uint8Array<ArrayBuffer>>();
  /** Reads per file; a write claim is `'write'`. */
  readonly claims = new Map<string, number | 'write'>();
  /** Flushes that reached a file. */
  flushes = 0;
  #lastTemporary = 0;

  readonly openDirectory: OpenDirectory = () => Promise.resolve(this);

  /** What the file holds; nothing if there is none. */
  content(name: string): Uint8Array {
    return this.files.get(name) ?? new Uint8Array(0);
  }

  path(name: string): string {
    return `/memory/${name}`;
  }

  claim(name: string, mode: ClaimMode): Promise<Claim> {
    const held = this.claims.get(name) ?? 0;
    if (held === 'write' || (mode === 'write' && held > 0)) {
      return Promise.reject(new Qcow2Error('IN_USE', `${this.path(name)} is in use`));
    }
    this.claims.set(name, mode === 'write' ? 'write' : held + 1);
    return Promise.resolve({ release: () => this.#release(name) });
  }

  exists(name: string): Promise<boolean> {
    return Promise.resolve(this.files.has(name));
  }

  async open(name: string, mode: FileMode): Promise<Storage> {
    const storage = new FolderStorage(this, name, await this.#content(name));
    return mode === 'read-only' ? new ReadOnlyStorage(storage) : storage;
  }

  async blob(name: string): Promise<Blob> {
    return new Blob([await this.#content(name)]);
  }

  createTemporary(): Promise<TemporaryFile> {
    const name = `.tmp-${++this.#lastTemporary}`;
    this.files.set(name, new Uint8Array(0));
    return Promise.resolve({ name, lock: name });
  }

  async replace(from: string, to: string): Promise<void> {
    this.files.set(to, await this.#content(from));
    this.files.delete(from);
  }

  remove(name: string): Promise<void> {
    this.files.delete(name);
    return Promise.resolve();
  }

  list(): Promise<StoredFile[]> {
    const names = [...this.files.keys()].filter((name) => !name.startsWith('.tmp-')).sort();
    return Promise.resolve(names.map((name) => ({ name, size: this.files.get(name)?.length ?? 0, lastModified: 0 })));
  }

  #content(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const content = this.files.get(name);
    if (content !== undefined) return Promise.resolve(content);
    return Promise.reject(new Qcow2Error('NOT_FOUND', `${this.path(name)} does not exist`));
  }

  #release(name: string): void {
    const held = this.claims.get(name);
    if (held === undefined || held === 'write' || held === 1) this.claims.delete(name);
    else this.claims.set(name, held - 1);
  }
}

/** What is written to it is in the folder after a flush or close, and not before. */
class FolderStorage extends MemoryStorage {
  readonly #folder: MemoryFolder;
  readonly #name: string;
  #changed = false;

  constructor(folder: MemoryFolder, name: string, content: Uint8Array) {
    super(content.slice());
    this.#folder = folder;
    this.#name = name;
  }

  override write(offset: number, source: Uint8Array): void {
    this.#changed = true;
    super.write(offset, source);
  }

  override truncate(size: number): void {
    this.#changed = true;
    super.truncate(size);
  }

  override flush(): void {
    this.#folder.flushes++;
    this.#save();
  }

  override close(): void {
    this.#save();
  }

  #save(): void {
    if (this.#changed && this.#folder.files.has(this.#name)) this.#folder.files.set(this.#name, this.toBytes());
  }
}
