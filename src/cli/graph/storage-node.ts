/**
 * Storage node: a node whose bytes are those of a storage, one for one: `file`, `raw`, `null-co`, `blkdebug`.
 *
 * A disk has whole sectors: a file that ends within one is followed by zeroes, and grows when they are written to.
 */
import type { Extent, GuestOffset } from '../../disk.js';
import { Qcow2Error } from '../../errors.js';
import type { Preallocation } from '../../image/preallocate.js';
import type { Storage } from '../../storage/storage.js';
import { alignUp } from '../../util/integers.js';
import { CliError } from '../text/messages.js';
import type { Breakpoints } from './breakpoints.js';
import { checkUnchanged } from './reopen-options.js';
import { OptionBag } from './option-bag.js';
import type { BlockNode, NodeStatus, ReopenChange, WriteOptions, WriteZeroesOptions } from './block-node.js';

/** A storage that knows more of itself than the engine asks for. */
export interface HostStorage extends Storage {
  /** Bytes that the host has given it. */
  readonly allocatedBytes?: number | null;
  /** Whether there is anything at `offset`, and how far that goes on: at most `length` bytes, inside the storage. */
  runAt?(offset: number, length: number): { readonly data: boolean; readonly length: number };
  writeZeroes?(offset: number, length: number): void;
  /** Opens what lies below for reading alone, or for writing as well. */
  reopen?(readOnly: boolean): void;
}

export interface StorageNodeParts {
  readonly driver: string;
  readonly fileName: string;
  /** Default: none. */
  readonly nodeName?: string;
  readonly storage: HostStorage;
  readonly file: BlockNode | null;
  readonly readOnly: boolean;
  /** All of it reads as zeroes, whatever is written (`null-co`). */
  readonly zero?: boolean;
  /** Of `blkdebug`. */
  readonly breakpoints?: Breakpoints;
  /** Discarding does something. */
  readonly unmap?: boolean;
  /** Called before a write; throws to refuse it. */
  readonly beforeWrite?: (offset: number, source: Uint8Array) => void;
}

const SECTOR = 512;
const ZERO_CHUNK = 1024 * 1024;
/** A larger file is not given its room by writing zeroes to it. */
const PREALLOCATIONS: readonly Preallocation[] = ['off', 'falloc', 'full'];

export class StorageNode implements BlockNode {
  readonly image = null;
  readonly backing = null;
  readonly dataFile = null;
  readonly usable = true;
  readonly #parts: StorageNodeParts;
  #readOnly: boolean;
  #closed = false;

  constructor(parts: StorageNodeParts) {
    this.#parts = parts;
    this.#readOnly = parts.readOnly;
  }

  get driver(): string {
    return this.#parts.driver;
  }

  get nodeName(): string {
    return this.#parts.nodeName ?? '';
  }

  get fileName(): string {
    return this.#parts.fileName;
  }

  get file(): BlockNode | null {
    return this.#parts.file;
  }

  get breakpoints(): Breakpoints | null {
    return this.#parts.breakpoints ?? this.file?.breakpoints ?? null;
  }

  get storage(): Storage {
    return this.#parts.storage;
  }

  get size(): number {
    return alignUp(this.#parts.storage.size, SECTOR);
  }

  get readOnly(): boolean {
    return this.#readOnly;
  }

  get allocatedBytes(): number | null {
    return this.#parts.file?.allocatedBytes ?? this.#parts.storage.allocatedBytes ?? null;
  }

  read(offset: GuestOffset, target: Uint8Array): void {
    this.#checkRange(offset, target.length);
    if (this.driver === 'raw') this.storage.announce?.('read_aio');
    this.#parts.storage.read(offset, target);
  }

  write(offset: GuestOffset, source: Uint8Array, options: WriteOptions = {}): void {
    this.#checkChange(offset, source.length);
    this.#parts.beforeWrite?.(offset, source);
    if (this.driver === 'raw') this.storage.announce?.('write_aio');
    this.#parts.storage.write(offset, source);
    if (options.fua === true) this.flush();
  }

  writeCompressed(): void {
    throw new CliError('Operation not supported', { errno: 'ENOTSUP' });
  }

  writeZeroes(offset: GuestOffset, length: number, options: WriteZeroesOptions = {}): void {
    this.#checkChange(offset, length);
    const { storage, beforeWrite } = this.#parts;
    beforeWrite?.(offset, new Uint8Array(Math.min(SECTOR, length)));
    if (storage.writeZeroes) storage.writeZeroes(offset, length);
    else if (options.noFallback === true) throw new CliError('Operation not supported', { errno: 'ENOTSUP' });
    else this.#writeOut(offset, length);
    if (options.fua === true) this.flush();
  }

  discard(offset: GuestOffset, length: number): void {
    this.#checkChange(offset, length);
    if (this.#parts.unmap === true) this.#parts.storage.punchHole?.(offset, length);
  }

  *extents(offset: GuestOffset, length: number): Generator<Extent> {
    this.#checkRange(offset, length);
    let at = offset;
    while (at < offset + length) {
      const { zero, data, length: run } = this.status(at, offset + length - at);
      if (zero && !data) yield { kind: 'zero', offset: at, length: run };
      else yield { kind: 'data', offset: at, length: run, host: at };
      at += run;
    }
  }

  /** What the host knows of holes, and that there is nothing behind the end. */
  status(offset: GuestOffset, length: number): NodeStatus {
    this.#checkRange(offset, length);
    const { storage, zero = false } = this.#parts;
    const answer = { allocated: true, compressed: false, host: offset };
    const inside = Math.min(length, storage.size - offset);
    if (zero || inside <= 0) return { ...answer, length, data: false, zero: true };
    const run = storage.runAt?.(offset, inside) ?? { data: true, length: inside };
    return { ...answer, length: run.length, data: run.data, zero: !run.data };
  }

  resize(size: number, preallocation: Preallocation = 'off'): void {
    const { storage } = this.#parts;
    if (!PREALLOCATIONS.includes(preallocation)) {
      throw new CliError(`Unsupported preallocation mode '${preallocation}'`, { errno: 'ENOTSUP' });
    }
    const old = storage.size;
    if (size < old && preallocation !== 'off') {
      throw new CliError(`Preallocation can't be used for shrinking an image`);
    }
    storage.truncate(size);
    if (preallocation === 'full') this.#writeOut(old, size - old);
  }

  reopen({ readOnly, options }: ReopenChange): void {
    const bag = new OptionBag(options);
    checkUnchanged(this, bag);
    const { firstLeft } = bag;
    if (firstLeft !== null) throw new CliError(`Cannot change the option '${firstLeft}'`);
    this.#parts.file?.reopen({ readOnly, options: new Map() });
    this.#parts.storage.reopen?.(readOnly);
    this.#readOnly = readOnly;
  }

  flush(): void {
    if (!this.readOnly) this.#parts.storage.flush();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#parts.storage.close();
  }

  #writeOut(offset: number, length: number): void {
    const zeroes = new Uint8Array(Math.min(ZERO_CHUNK, length));
    for (let done = 0; done < length; done += zeroes.length) {
      this.#parts.storage.write(offset + done, zeroes.subarray(0, Math.min(zeroes.length, length - done)));
    }
  }

  #checkRange(offset: number, length: number): void {
    if (offset >= 0 && length >= 0 && offset + length <= this.size) return;
    throw new Qcow2Error('OUT_OF_RANGE', `${length} bytes at offset ${offset} are not inside the disk of ${this.size}`);
  }

  #checkChange(offset: number, length: number): void {
    this.#checkRange(offset, length);
    if (this.readOnly) throw new Qcow2Error('READ_ONLY', `the node '${this.fileName}' is read-only`);
  }
}
