/**
 * Qcow2 node: an image of the engine as a node of the graph, with what QEMU's block layer does around a driver: writes of zeroes
 * that are detected, clusters that are copied on reading, discards that are ignored, flushes behind each write.
 */
import type { Extent, GuestOffset } from '../../disk.js';
import type { Preallocation } from '../../image/preallocate.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { resizeImage } from '../../operations/resize.js';
import type { Storage } from '../../storage/storage.js';
import { isZero } from '../../util/bytes.js';
import { alignDown, alignUp, isAligned } from '../../util/integers.js';
import { runToEnd } from '../../util/steps.js';
import { errorWords } from '../text/errno.js';
import { CliError, reportError, type Console } from '../text/messages.js';
import type {
  BlockNode,
  NodeOptions,
  NodeStatus,
  ReopenChange,
  WriteOptions,
  WriteZeroesOptions,
} from './block-node.js';
import type { Breakpoints } from './breakpoints.js';
import type { CorruptionNotes } from './corruption-notes.js';
import { nodeStorage } from './node-storage.js';
import { OptionBag } from './option-bag.js';
import { isPreallocated } from './preallocation.js';
import { joinRuntimeOptions, takeRuntimeOptions } from './qcow2-options.js';
import { checkUnchanged } from './reopen-options.js';

export interface Qcow2NodeParts {
  readonly fileName: string;
  readonly nodeName: string;
  readonly file: BlockNode;
  readonly backing: BlockNode | null;
  readonly dataFile: BlockNode | null;
  readonly image: Qcow2Image;
  readonly console: Console;
  /** Told of each request, so that a corruption can be told of as what it hit. */
  readonly notes: CorruptionNotes;
  readonly detectZeroes: 'off' | 'on' | 'unmap';
  readonly unmap: boolean;
  readonly copyOnRead: boolean;
  /** The runtime options that were given. */
  readonly options: NodeOptions;
}

export class Qcow2Node implements BlockNode {
  readonly driver = 'qcow2';
  readonly storage: Storage = nodeStorage(this);
  readonly #parts: Qcow2NodeParts;
  #options: NodeOptions;
  #closed = false;
  /** Not known before it is asked. */
  #preallocated: boolean | null = null;

  constructor(parts: Qcow2NodeParts) {
    this.#parts = parts;
    this.#options = parts.options;
  }

  get nodeName(): string {
    return this.#parts.nodeName;
  }

  get fileName(): string {
    return this.#parts.fileName;
  }

  get image(): Qcow2Image {
    return this.#parts.image;
  }

  get breakpoints(): Breakpoints | null {
    return this.file.breakpoints;
  }

  get dataFile(): BlockNode | null {
    return this.#parts.dataFile;
  }

  get usable(): boolean {
    return !this.#parts.notes.fatal;
  }

  get backing(): BlockNode | null {
    return this.#parts.backing;
  }

  get file(): BlockNode {
    return this.#parts.file;
  }

  get size(): number {
    return this.image.size;
  }

  get readOnly(): boolean {
    return this.image.readOnly;
  }

  get allocatedBytes(): number | null {
    return this.file.allocatedBytes;
  }

  read(offset: GuestOffset, target: Uint8Array): void {
    this.#checkUsable();
    if (this.#parts.copyOnRead && !this.readOnly && target.length > 0) this.#copyUp(offset, target.length);
    this.image.read(offset, target);
  }

  write(offset: GuestOffset, source: Uint8Array, options: WriteOptions = {}): void {
    this.#checkUsable();
    const { detectZeroes } = this.#parts;
    if (detectZeroes !== 'off' && isZero(source)) {
      this.writeZeroes(offset, source.length, { ...options, unmap: detectZeroes === 'unmap' });
      return;
    }
    this.image.write(offset, source);
    if (options.fua === true) this.flush();
  }

  writeCompressed(offset: GuestOffset, source: Uint8Array): void {
    this.#checkUsable();
    this.image.writeCompressed(offset, source);
  }

  writeZeroes(offset: GuestOffset, length: number, options: WriteZeroesOptions = {}): void {
    this.#checkUsable();
    if (options.noFallback === true) this.#checkNoFallback(offset, length);
    this.image.writeZeroes(offset, length, { unmap: options.unmap === true && this.#parts.unmap });
    if (options.fua === true) this.flush();
  }

  /** What it frees is of use at once, as in QEMU: the engine gives it out after a flush. */
  discard(offset: GuestOffset, length: number): void {
    this.#checkUsable();
    if (!this.#parts.unmap) return;
    this.image.discard(offset, length);
    this.image.flush();
  }

  extents(offset: GuestOffset, length: number): Iterable<Extent> {
    return this.image.extents(offset, length);
  }

  status(offset: GuestOffset, length: number): NodeStatus {
    const extents = this.image.extents(offset, length)[Symbol.iterator]();
    let run = this.#statusOf(extents.next().value as Extent);
    for (let step = extents.next(); step.done !== true; step = extents.next()) {
      const next = this.#statusOf(step.value);
      if (!continues(run, next)) break;
      run = { ...run, length: run.length + next.length };
    }
    return this.#withHoles(run);
  }

  resize(size: number, preallocation: Preallocation = 'off'): void {
    runToEnd(resizeImage(this.image, { size, preallocation, shrink: true }));
  }

  reopen({ readOnly, options }: ReopenChange): void {
    const bag = new OptionBag(options);
    checkUnchanged(this, bag);
    const joined = joinRuntimeOptions(this.#options, bag.rest);
    const rest = new OptionBag(joined);
    const runtime = takeRuntimeOptions(rest, this.image.header, { unmap: this.#parts.unmap });
    const { firstLeft } = rest;
    if (firstLeft !== null) throw new CliError(`Cannot change the option '${firstLeft}'`);
    if (!readOnly && this.file.readOnly) this.file.reopen({ readOnly, options: new Map() });
    this.image.reopen({ ...runtime, readOnly });
    if (readOnly && !this.file.readOnly) this.file.reopen({ readOnly, options: new Map() });
    this.#options = joined;
  }

  flush(): void {
    this.#checkUsable();
    this.image.flush();
  }

  /** What can't be written any more is told of on the console: a caller could do nothing about it. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.image.close();
    } catch (error) {
      const { words } = errorWords(error);
      reportError(this.#parts.console, `Failed to flush the L2 table cache: ${words}`);
    } finally {
      this.backing?.close();
    }
  }

  /** What QEMU says of a disk whose image was taken away. */
  #checkUsable(): void {
    if (!this.usable) throw new CliError('No medium found', { errno: 'ENOMEDIUM' });
  }

  #statusOf(extent: Extent): NodeStatus {
    const { offset, length } = extent;
    const { backing, image } = this.#parts;
    const below = backing !== null && offset < backing.size;
    const host = image.header.cryptMethod === 0 && 'host' in extent && extent.host !== undefined ? extent.host : null;
    switch (extent.kind) {
      case 'data':
        return { length, allocated: true, data: true, zero: false, host, compressed: false };
      case 'compressed':
        return { length, allocated: true, data: true, zero: false, host: null, compressed: true };
      case 'zero':
        return { length, allocated: true, data: false, zero: true, host, compressed: false };
      case 'backing':
      case 'unallocated':
        return { length, allocated: false, data: false, zero: !below, host, compressed: false };
    }
  }

  /** Where clusters have their places before they are written, the host knows which are zeroes. */
  #withHoles(run: NodeStatus): NodeStatus {
    if (!run.data || run.host === null) return run;
    this.#preallocated ??= isPreallocated(this.image, this.file.allocatedBytes);
    if (!this.#preallocated) return run;
    const file = this.dataFile ?? this.file;
    const inside = Math.min(run.length, file.size - run.host);
    if (inside <= 0) return run;
    const { length, zero } = file.status(run.host, inside);
    return { ...run, length, zero };
  }

  /** Writes to the image what a read of the range would take from the backing node. */
  #copyUp(offset: GuestOffset, length: number): void {
    const { image } = this.#parts;
    const start = alignDown(offset, image.clusterSize);
    const end = Math.min(this.size, alignUp(offset + length, image.clusterSize));
    const held = ['data', 'zero', 'compressed'];
    const missing = [...image.extents(start, end - start)].filter(({ kind }) => !held.includes(kind));
    for (const extent of missing) {
      const bytes = new Uint8Array(extent.length);
      image.read(extent.offset, bytes);
      if (isZero(bytes)) image.writeZeroes(extent.offset, extent.length);
      else image.write(extent.offset, bytes);
    }
  }

  /** Zeroes that are not a matter of the tables alone are refused. */
  #checkNoFallback(offset: GuestOffset, length: number): void {
    const { header, tables } = this.image;
    const unit = tables.geometry.subclusterSize;
    const end = offset + length;
    const fits = (at: number) => isAligned(at, unit) || at === this.size;
    if (header.version === 3 && fits(offset) && fits(end)) return;
    throw new CliError('Operation not supported', { errno: 'ENOTSUP' });
  }
}

function continues(first: NodeStatus, next: NodeStatus): boolean {
  if (first.allocated !== next.allocated || first.data !== next.data || first.zero !== next.zero) return false;
  if (first.compressed || next.compressed) return false;
  return first.host === null ? next.host === null : next.host === first.host + first.length;
}
