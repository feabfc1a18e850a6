/**
 * Opening an image, alone (`openImage`) or with its backing chain (`openChain`).
 *
 * The whole header is checked before anything is written. What the header names, the backing file, is opened only through
 * the caller's opener, which decides on each name; without one nothing is opened.
 */
import type { Disk } from '../disk.js';
import { Qcow2Error, isQcow2Error } from '../errors.js';
import { INCOMPATIBLE_CORRUPT } from '../format/features.js';
import { MAGIC, type Header } from '../format/header.js';
import { wasmKernels } from '../kernels/index.js';
import type { KernelsFactory } from '../kernels/kernels.js';
import { readHeader } from '../metadata/header-state.js';
import { ImageTables } from '../metadata/image-tables.js';
import { rebuildRefcounts } from '../metadata/rebuild-refcounts.js';
import { GuardedStorage } from '../storage/guarded.js';
import { settle } from '../storage/not-resident.js';
import { ReadOnlyStorage } from '../storage/read-only.js';
import type { Storage } from '../storage/storage.js';
import { viewOf } from '../util/big-endian.js';
import { Qcow2Image } from './qcow2-image.js';
import { RawDisk } from './raw-disk.js';

export interface OpenOptions {
  readonly readOnly?: boolean;
  /** The backing disk, already open. Null to read what is not in this image as zeroes although it names a backing file. */
  readonly backing?: Disk | null;
  /** Default: the WASM kernels. */
  readonly kernels?: KernelsFactory;
  /** Bytes of L2 tables to keep in memory. */
  readonly l2CacheBytes?: number;
  /** Bytes of refcount blocks to keep in memory. */
  readonly refcountCacheBytes?: number;
}

/**
 * Opens one image. An image left dirty is repaired when opened for writing.
 *
 * On success the image owns `storage` and the backing disk, and closes them. Throws `NOT_QCOW2`, `BAD_IMAGE`, `UNSUPPORTED`,
 * `CORRUPT`, `BACKING`, or `READ_ONLY` for a storage that can't be written; nothing has been changed then.
 */
export function openImage(storage: Storage, options: OpenOptions = {}): Qcow2Image {
  const writable = !(options.readOnly ?? false);
  if (writable && storage.readOnly) {
    throw new Qcow2Error('READ_ONLY', 'the storage is read-only; open the image with readOnly');
  }
  const guarded = new GuardedStorage(storage);
  const header = readHeader(guarded);
  if (writable && (header.incompatible & INCOMPATIBLE_CORRUPT) !== 0n) {
    throw new Qcow2Error('CORRUPT', 'the image is marked corrupt; it can be opened read-only, or be repaired');
  }
  if (header.backingFile !== null && options.backing === undefined) {
    const name = JSON.stringify(header.backingFile.name);
    throw new Qcow2Error('BACKING', `the image names the backing file ${name}, and none was given`);
  }
  const tables = new ImageTables({
    storage: guarded,
    header,
    kernels: options.kernels ?? wasmKernels,
    writable,
    l2CacheBytes: options.l2CacheBytes,
    refcountCacheBytes: options.refcountCacheBytes,
  });
  if (writable && tables.header.dirty) {
    rebuildRefcounts(guarded, tables);
    tables.header.setDirty(false);
    guarded.flush();
  }
  return new Qcow2Image(guarded, tables, options.backing ?? null);
}

export interface BackingReference {
  /** As the image records it. Not to be trusted: it may be any path or URL. */
  readonly name: string;
  /** As the image records it; null where it does not, and the first bytes decide. */
  readonly format: 'qcow2' | 'raw' | null;
  /** 1 for the backing file of the image that was opened, 2 for its backing file, ... */
  readonly depth: number;
}

/** Opens what an image names, or throws to deny it. The chain owns the storage and closes it. */
export type BackingOpener = (reference: BackingReference) => Storage | Promise<Storage>;

export interface ChainOptions extends OpenOptions {
  readonly opener?: BackingOpener;
}

/** Longer chains are taken for a loop. */
const DEEPEST_CHAIN = 64;

/**
 * Opens an image and its backing files, down to the last. Backing files are opened read-only. Rejects as `openImage`
 * throws, and with `BACKING` for a name that the opener denied or a chain that does not end. On success the image owns all
 * storages; on failure those of the backing files have been closed.
 */
export async function openChain(storage: Storage, options: ChainOptions = {}): Promise<Qcow2Image> {
  const { opener, ...own } = options;
  if (own.backing !== undefined) return settle(() => openImage(storage, own));
  const header = await settle(() => readHeader(storage));
  const backing = await openBacking(header, { opener, kernels: own.kernels, depth: 1, seen: [storage] });
  try {
    return await settle(() => openImage(storage, { ...own, backing }));
  } catch (error) {
    backing?.close();
    throw error;
  }
}

interface ChainState {
  readonly opener: BackingOpener | undefined;
  readonly kernels: KernelsFactory | undefined;
  readonly depth: number;
  readonly seen: readonly Storage[];
}

async function openBacking(header: Header, state: ChainState): Promise<Disk | null> {
  if (header.backingFile === null) return null;
  const { name, format } = header.backingFile;
  if (format !== null && format !== 'qcow2' && format !== 'raw') {
    throw new Qcow2Error(
      'UNSUPPORTED',
      `the backing file's format is ${JSON.stringify(format)}; it must be qcow2 or raw`,
    );
  }
  if (state.depth > DEEPEST_CHAIN) {
    throw new Qcow2Error('BACKING', `the backing chain is longer than ${DEEPEST_CHAIN}; does it lead back to itself?`);
  }
  const storage = await callOpener(state, { name, format, depth: state.depth });
  if (state.seen.includes(storage)) {
    throw new Qcow2Error('BACKING', `the backing chain leads back to itself through ${JSON.stringify(name)}`);
  }
  try {
    return await openBackingDisk(new ReadOnlyStorage(storage), storage, format, state);
  } catch (error) {
    storage.close();
    throw isQcow2Error(error) ? inBackingFile(error, name) : error;
  }
}

/** The same error, saying in which file of the chain. */
function inBackingFile(error: Qcow2Error, name: string): Qcow2Error {
  return new Qcow2Error(error.code, `in the backing file ${JSON.stringify(name)}: ${error.message}`, { cause: error });
}

async function openBackingDisk(
  storage: ReadOnlyStorage,
  opened: Storage,
  format: 'qcow2' | 'raw' | null,
  state: ChainState,
): Promise<Disk> {
  const isQcow2 = format === 'qcow2' || (format === null && (await settle(() => hasMagic(storage))));
  if (!isQcow2) return new RawDisk(storage);
  const header = await settle(() => readHeader(storage));
  const below = { ...state, depth: state.depth + 1, seen: [...state.seen, opened] };
  const backing = await openBacking(header, below);
  try {
    const kernels = state.kernels ? { kernels: state.kernels } : {};
    return await settle(() => openImage(storage, { readOnly: true, backing, ...kernels }));
  } catch (error) {
    backing?.close();
    throw error;
  }
}

async function callOpener(state: ChainState, reference: BackingReference): Promise<Storage> {
  const name = JSON.stringify(reference.name);
  if (state.opener === undefined) {
    throw new Qcow2Error('BACKING', `the image names the backing file ${name}, and there is no opener to allow it`);
  }
  try {
    return await state.opener(reference);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Qcow2Error('BACKING', `the backing file ${name} could not be opened: ${reason}`, { cause });
  }
}

function hasMagic(storage: Storage): boolean {
  const bytes = new Uint8Array(4);
  storage.read(0, bytes);
  return viewOf(bytes).getUint32(0) === MAGIC;
}
