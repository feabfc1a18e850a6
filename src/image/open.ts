/**
 * Opening an image, alone (`openImage`) or with its backing chain (`openChain`).
 *
 * The whole header is checked before anything is written. What the header names, the backing file, is opened only through
 * the caller's opener, which decides on each name; without one nothing is opened.
 */
import type { Disk } from '../disk.js';
import { Qcow2Error, isQcow2Error, type ErrorCode } from '../errors.js';
import { MAGIC, hasDataFile, type Header } from '../format/header.js';
import { wasmKernels } from '../kernels/index.js';
import type { KernelsFactory } from '../kernels/kernels.js';
import type { CorruptionListener } from '../metadata/corruption.js';
import { readHeader } from '../metadata/header-state.js';
import { GuardedStorage } from '../storage/guarded.js';
import { settle } from '../storage/not-resident.js';
import { ReadOnlyStorage } from '../storage/read-only.js';
import type { Storage } from '../storage/storage.js';
import { viewOf } from '../util/big-endian.js';
import { reasonOf } from '../util/reason-of.js';
import {
  checkEncryptedAs,
  encryptionFormat,
  guestDataOf,
  type EncryptionFormat,
  type ImageEncryption,
  type RequiredEncryption,
} from './image-encryption.js';
import { Lifecycle } from './lifecycle.js';
import { TablesLoader } from './load-tables.js';
import { Qcow2Image } from './qcow2-image.js';
import { RawDisk } from './raw-disk.js';
import { runtimeOptions, type RuntimeOptions } from './runtime-options.js';
import { unlockImage, type Passphrase, type UnlockOptions } from './unlock-image.js';

export interface OpenOptions extends RuntimeOptions {
  readonly readOnly?: boolean;
  /** The backing disk, already open. Null to read what is not in this image as zeroes although it names a backing file. */
  readonly backing?: Disk | null;
  /** The external data file, for an image that has one; the image owns it and closes it. */
  readonly dataFile?: Storage;
  /** What opens an encrypted image, made by `unlockImage`. Null leaves it locked: all but its data can be looked at. */
  readonly encryption?: ImageEncryption | null;
  /** Default: the WASM kernels. */
  readonly kernels?: KernelsFactory;
  /** Told of corruption that is found while the image is in use. Must not throw, and must not use the image. */
  readonly onCorruption?: CorruptionListener;
}

/**
 * Opens one image. An image left dirty is repaired when opened for writing.
 *
 * On success the image owns `storage` and the backing disk, and closes them. Throws `NOT_QCOW2`, `BAD_IMAGE`, `UNSUPPORTED`,
 * `CORRUPT`, `BACKING`, `KEY_NEEDED`, or `READ_ONLY` for a storage that can't be written; nothing has been changed then.
 */
export function openImage(storage: Storage, options: OpenOptions = {}): Qcow2Image {
  const writable = !(options.readOnly ?? false);
  if (writable && storage.readOnly) {
    throw new Qcow2Error('READ_ONLY', 'the storage is read-only; open the image with readOnly');
  }
  const guarded = new GuardedStorage(storage);
  const header = readHeader(guarded);
  if (header.backingFile !== null && options.backing === undefined) {
    const name = JSON.stringify(header.backingFile.name);
    throw new Qcow2Error('BACKING', `the image names the backing file ${name}, and none was given`);
  }
  if (options.dataFile === storage) throw dataFileInUse(header);
  const data = dataStorage(header, guarded, options.dataFile, writable);
  const { kernels = wasmKernels, onCorruption, backing = null } = options;
  const guestData = guestDataOf(header, data, options.encryption);
  const encryption = options.encryption ?? null;
  if (encryption !== null && !encryption.isKeyOf(guarded, header)) {
    throw new Qcow2Error(
      'BAD_ARGUMENT',
      'encryption was opened for another image: its key is not behind this LUKS header',
    );
  }
  const loader = new TablesLoader({ storage: guarded, data, guestData, kernels, onCorruption });
  const runtime = runtimeOptions(options);
  const tables = loader.load(header, { writable, options: runtime });
  const lifecycle = new Lifecycle({ storage: guarded, data, encryption, loader, tables, options: runtime });
  return new Qcow2Image({ storage: guarded, data, lifecycle, backing });
}

/** Where guest data lies: in the image file, or in the external data file that was given. */
function dataStorage(
  header: Header,
  image: GuardedStorage,
  dataFile: Storage | undefined,
  writable: boolean,
): GuardedStorage {
  if (!hasDataFile(header)) {
    if (dataFile === undefined) return image;
    throw new Qcow2Error('BAD_ARGUMENT', 'a data file was given, and the image keeps its data itself');
  }
  if (dataFile === undefined) {
    const name = header.dataFileName === null ? '' : ` ${JSON.stringify(header.dataFileName)}`;
    throw new Qcow2Error('BACKING', `the image keeps its data in an external data file${name}, and none was given`);
  }
  if (writable && dataFile.readOnly) throw new Qcow2Error('READ_ONLY', 'the external data file is read-only');
  return new GuardedStorage(dataFile);
}

export interface BackingReference {
  /** As the image records it. Not to be trusted: it may be any path or URL. */
  readonly name: string;
  /** As the image records it; null where it does not, and the first bytes decide. */
  readonly format: 'qcow2' | 'raw' | null;
  /** 0 for the image that was opened itself, 1 for its backing file, 2 for the backing file of that, ... */
  readonly depth: number;
  /** A backing file, which is only read, or the external data file of the image at `depth`. */
  readonly role: 'backing' | 'data';
  /** What is asked for must be writable. */
  readonly writable: boolean;
}

/** Opens what an image names, or throws to deny it. The chain owns the storage and closes it. */
export type BackingOpener = (reference: BackingReference) => Storage | Promise<Storage>;

/** Which file of a chain a passphrase is asked for. */
export interface LockedImage {
  /** Null for the image that was opened itself. */
  readonly name: string | null;
  readonly depth: number;
  readonly format: EncryptionFormat;
}

/** One passphrase for all encrypted files of a chain, or who knows that of each; undefined to refuse. */
export type PassphraseSource =
  Passphrase | ((image: LockedImage) => Passphrase | undefined | Promise<Passphrase | undefined>);

export interface ChainOptions extends OpenOptions {
  readonly opener?: BackingOpener;
  /** Opens what is encrypted. An image that is not opens all the same, as in QEMU; `requireEncryption` refuses it. */
  readonly passphrase?: PassphraseSource | undefined;
  /**
   * Refuses an image that is not encrypted, or not in this format, so that nobody who put a plain one in its place is written to in plain.
   * Its backing files may be anything: they are only read. Default false.
   */
  readonly requireEncryption?: RequiredEncryption | undefined;
  /** How keys are derived and data decrypted. */
  readonly unlock?: UnlockOptions | undefined;
}

/** What an opener fails with that is no denial, and told under its own code. */
const PASSED_ON: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'NETWORK',
  'BASE_CHANGED',
  'NOT_FOUND',
  'UNSUPPORTED',
  'ABORTED',
]);

/** Longer chains are taken for a loop. */
const DEEPEST_CHAIN = 64;

/**
 * Opens an image and its backing files, down to the last. Backing files are opened read-only. Rejects as `openImage`
 * throws, with `BACKING` for a name that the opener denied or a chain that does not end, and with `BAD_ARGUMENT` for an image that is not
 * encrypted as it must be. On success the image owns all
 * storages; on failure those of the backing files have been closed.
 */
export async function openChain(storage: Storage, options: ChainOptions = {}): Promise<Qcow2Image> {
  const { opener, passphrase, unlock, requireEncryption = false, ...own } = options;
  const { kernels } = own;
  if (requireEncryption !== false) checkEncryptedAs(await settle(() => readHeader(storage)), requireEncryption);
  const keys = { passphrase, unlock, locked: own.encryption === null };
  return openLink(storage, own, { opener, ...keys, kernels, name: null, depth: 0, seen: [storage] });
}

interface ChainState {
  readonly opener: BackingOpener | undefined;
  readonly passphrase: PassphraseSource | undefined;
  readonly unlock: UnlockOptions | undefined;
  /** The image above is to stay locked, and so is this one. */
  readonly locked: boolean;
  readonly kernels: KernelsFactory | undefined;
  /** What the image above calls this one. */
  readonly name: string | null;
  readonly depth: number;
  /** Everything open from the image itself down to here, data files included. */
  readonly seen: readonly Storage[];
}

/** Opens one image of the chain, with its data file and what lies below it. */
async function openLink(storage: Storage, options: OpenOptions, state: ChainState): Promise<Qcow2Image> {
  const header = await settle(() => readHeader(storage));
  const writable = !(options.readOnly ?? false);
  const opened = options.dataFile === undefined ? await openDataFile(header, writable, state) : undefined;
  const dataFile = options.dataFile ?? (opened && !writable ? new ReadOnlyStorage(opened) : opened);
  const used = options.dataFile ?? opened;
  const seen = used === undefined ? state.seen : [...state.seen, used];
  let backing = options.backing;
  try {
    if (backing === undefined) backing = await openBacking(header, { ...state, depth: state.depth + 1, seen });
    const files = dataFile === undefined ? { backing } : { backing, dataFile };
    const encryption = options.encryption === undefined ? await openEncryption(storage, header, state) : undefined;
    const key = encryption === undefined ? {} : { encryption };
    try {
      return await settle(() => openImage(storage, { ...options, ...files, ...key }));
    } catch (error) {
      encryption?.cipher.wipe();
      throw error;
    }
  } catch (error) {
    if (options.dataFile === undefined) dataFile?.close();
    if (options.backing === undefined) backing?.close();
    throw error;
  }
}

/** Undefined for an image that is not encrypted, or whose passphrase nobody gives; opening it says so then. */
async function openEncryption(
  storage: Storage,
  header: Header,
  { name, depth, passphrase: source, unlock }: ChainState,
): Promise<ImageEncryption | undefined> {
  const format = encryptionFormat(header);
  if (format === null) return undefined;
  const passphrase = typeof source === 'function' ? await source({ name, depth, format }) : source;
  return passphrase === undefined ? undefined : unlockImage(storage, passphrase, unlock);
}

async function openDataFile(header: Header, writable: boolean, state: ChainState): Promise<Storage | undefined> {
  if (!hasDataFile(header) || header.dataFileName === null) return undefined;
  const reference = { name: header.dataFileName, format: 'raw', depth: state.depth, role: 'data', writable } as const;
  const storage = await callOpener(state, reference);
  if (state.seen.includes(storage)) throw dataFileInUse(header);
  return storage;
}

/** Guest data would be written over the metadata of the image, or over what lies above it in the chain. */
function dataFileInUse({ dataFileName }: Header): Qcow2Error {
  const name = dataFileName === null ? '' : ` ${JSON.stringify(dataFileName)}`;
  return new Qcow2Error('BACKING', `the external data file${name} is the image itself, or another file of its chain`);
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
  const storage = await callOpener(state, { name, format, depth: state.depth, role: 'backing', writable: false });
  if (state.seen.includes(storage)) {
    throw new Qcow2Error('BACKING', `the backing chain leads back to itself through ${JSON.stringify(name)}`);
  }
  const readOnly = new ReadOnlyStorage(storage);
  try {
    const isQcow2 = format === 'qcow2' || (format === null && (await settle(() => hasMagic(readOnly))));
    if (!isQcow2) return new RawDisk(readOnly);
    const kernels = state.kernels ? { kernels: state.kernels } : {};
    const below = { ...state, name, seen: [...state.seen, storage] };
    const locked = state.locked ? { encryption: null } : {};
    return await openLink(readOnly, { readOnly: true, ...kernels, ...locked }, below);
  } catch (error) {
    storage.close();
    throw isQcow2Error(error) ? inBackingFile(error, name) : error;
  }
}

/** The same error, saying in which file of the chain. */
function inBackingFile(error: Qcow2Error, name: string): Qcow2Error {
  return new Qcow2Error(error.code, `in the backing file ${JSON.stringify(name)}: ${error.message}`, { cause: error });
}

async function callOpener(state: ChainState, reference: BackingReference): Promise<Storage> {
  const what = reference.role === 'data' ? 'external data file' : 'backing file';
  const name = `${what} ${JSON.stringify(reference.name)}`;
  if (state.opener === undefined) {
    throw new Qcow2Error('BACKING', `the image names the ${name}, and there is no opener to allow it`);
  }
  try {
    return await state.opener(reference);
  } catch (cause) {
    const reason = reasonOf(cause);
    const code = isQcow2Error(cause) && PASSED_ON.has(cause.code) ? cause.code : 'BACKING';
    throw new Qcow2Error(code, `the ${name} could not be opened: ${reason}`, { cause });
  }
}

function hasMagic(storage: Storage): boolean {
  const bytes = new Uint8Array(4);
  storage.read(0, bytes);
  return viewOf(bytes).getUint32(0) === MAGIC;
}
