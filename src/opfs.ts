/**
 * `qcow2-wasm/opfs`: qcow2 disks in the browser's origin private file system (OPFS).
 *
 * Each disk has a worker of its own, which holds the file and the engine; so do the jobs on files, for as long as they
 * take. Files live in a folder of the caller's choice, `DEFAULT_DIRECTORY` if none is given. One tab at a time can write
 * a disk; a second one gets `IN_USE`.
 *
 *     const disk = await openDisk({ name: 'disk.qcow2', create: { size: 1 << 30 } });
 *     await disk.write(0, new Uint8Array(512).fill(1));
 *     await disk.flush();
 */
import { Qcow2Error } from './errors.js';
import { runtimeOptions, type RuntimeOptions } from './image/runtime-options.js';
import type { CipherSpec } from './crypto/luks-cipher.js';
import type { RequiredEncryption } from './image/image-encryption.js';
import type { EncryptionSettings } from './image/unlock-image.js';
import type { BootProfile } from './network/boot-profile.js';
import type { BaseStatus } from './network/network-base.js';
import type { StoredBase } from './network/stored-bases.js';
import { browserNetwork } from './worker/browser-network.js';
import type { WorkerClient } from './worker/client.js';
import type { OpenDiskFile as LocalDisk } from './worker/disk-file.js';
import type { Compression } from './worker/export-content.js';
import { checkFileName, fileLock } from './worker/file-names.js';
import type { JobOptions } from './worker/job-options.js';
import {
  checkRawSize,
  openImageSource,
  recognized,
  type ImageFormat,
  type ImageSource,
} from './worker/image-source.js';
import { openLocalDiskFile } from './worker/local-disk.js';
import type { AllowedBase } from './worker/network-bases.js';
import type { ExportedIncrement, ExportIncrementOptions } from './worker/opfs-bitmaps.js';
import { OpfsDisk, type ExportOptions, type HeldLock, type TakeOverHandler } from './worker/opfs-disk.js';
import { openOpfsDirectory } from './worker/opfs-files.js';
import type { NewDisk, OpenRequest, StoredFile } from './worker/protocol.js';
import type { DiskInfo, DiskStats, RemoteDisk, RemoteSnapshots } from './worker/remote-disk.js';
import { saveBlob, type SaveTarget } from './worker/save-blob.js';
import { startWorker, type WorkerOptions } from './worker/start-worker.js';
import { keepStorage, measureStorage, type KeptStorage, type StorageHealth } from './worker/storage-health.js';
import { storeStream } from './worker/store-stream.js';
import { takeOver } from './worker/take-over.js';

export { ERROR_CODES, Qcow2Error, isQcow2Error, type ErrorCode } from './errors.js';
export { keepStorage, OpfsDisk, saveBlob };
export type {
  BaseStatus,
  BootProfile,
  CipherSpec,
  Compression,
  DiskInfo,
  DiskStats,
  EncryptionSettings,
  ExportedIncrement,
  ExportIncrementOptions,
  ExportOptions,
  ImageFormat,
  ImageSource,
  JobOptions,
  KeptStorage,
  LocalDisk,
  NewDisk,
  RemoteDisk,
  RemoteSnapshots,
  RequiredEncryption,
  RuntimeOptions,
  StorageHealth,
  StoredBase,
  SaveTarget,
  StoredFile,
  TakeOverHandler,
  WorkerOptions,
};

export type { BitmapUsage } from './operations/bitmaps/bitmaps.js';
export type { NewBackingFile } from './operations/change-backing.js';
export type { NewBitmap } from './operations/bitmaps/new-bitmap.js';
export type {
  NewSnapshot,
  SnapshotInfo,
  SnapshotKey,
  SnapshotUsage,
  VmStateOptions,
  VmStateWritten,
} from './operations/snapshots/snapshot-info.js';

export const DEFAULT_DIRECTORY = 'qcow2-wasm';

export interface FileLocation {
  /** A folder of OPFS, `a/b` for one in another; made if it is missing. */
  readonly directory?: string;
  readonly name: string;
}

/** A base image on a server. An overlay over it stands on the version that was there when it was created. */
export interface NetworkBase {
  /** Of the image; of the manifest, if it is split. May be relative to the page. */
  readonly url: string | URL;
  /** The name by which images record it. Default: the absolute URL. */
  readonly name?: string;
  /** It is a split image, for hosts without Range. Default false. */
  readonly split?: boolean;
  /** SHA-256 of the image in hexadecimal digits: tells its version where the server sends no ETag and no Last-Modified. */
  readonly digest?: string;
  /** Bytes that are fetched and kept as one: a power of two from 64 KiB to 4 MiB. Default 128 KiB. */
  readonly chunkBytes?: number;
  /** What is fetched ahead of the guest: a boot profile (`OpfsDisk.bootProfile`), or where it lies. */
  readonly profile?: BootProfile | string | URL;
}

export interface OpenDiskOptions extends FileLocation, RuntimeOptions {
  /**
   * Creates the disk if there is none of that name. The size may be left out if there is a backing file. With `create.encryption` a disk
   * that is there must be encrypted in that format, as the new one would be.
   */
  readonly create?: NewDisk;
  /**
   * Opens the disk if it is encrypted, and what lies below it; the passphrase of one that is created so. A disk that is not encrypted
   * opens all the same, as in QEMU, and what is written to it is plain: `requireEncryption` refuses it.
   */
  readonly passphrase?: string;
  /** Refuses a disk that is not encrypted, or not in this format, with `BAD_ARGUMENT`. Default false. */
  readonly requireEncryption?: RequiredEncryption;
  /** HMACs that trying a passphrase on all key slots may take. Default: as in `UnlockOptions` of `qcow2-wasm`. */
  readonly maxDerivationWork?: number;
  /** Ends the opening, which rejects with `ABORTED`. */
  readonly signal?: AbortSignal;
  /** Those of backing files that have another one, by their names. */
  readonly backingPassphrases?: Readonly<Record<string, string>>;
  /**
   * What may be opened as a backing file; an image that names anything else is refused. Files of the same folder by their names; base images
   * on servers by their URLs (`http:` or `https:`), or as a `NetworkBase`.
   */
  readonly backing?: readonly (string | NetworkBase)[];
  /** Keeps the disk in memory, `create` being what it is: nothing of it is left when it is closed. Its `name` is only what it is called. */
  readonly throwAway?: boolean;
  /** Several tabs may open a disk so at the same time, and none to write it meanwhile. */
  readonly readOnly?: boolean;
}

export interface TakeOverOptions {
  /**
   * Asks whoever has the disk open, another tab or this one, to let go of it (`OpfsDisk.onTakeOver`), and waits so many milliseconds until
   * it has; 10,000 unless told. Who does not answer keeps the disk, unless it has ended.
   */
  readonly takeOver?: boolean | { readonly patience: number };
}

const TAKE_OVER_MILLISECONDS = 10_000;

/**
 * Opens a disk in a worker.
 * @throws Qcow2Error `NOT_FOUND`, `IN_USE` (another tab has it, or does not let go of it), `BACKING`, `KEY_NEEDED` and `WRONG_PASSPHRASE` for an encrypted
 * disk, `UNSUPPORTED` (no OPFS here), `WORKER_DIED`, `ABORTED`, `LIMIT` for key slots that ask for too much work; with a base image on a server
 * `NETWORK`, `BASE_CHANGED`, `NOT_FOUND` there, `UNSUPPORTED` (it knows no ranges); and what the engine finds wrong with the image: `NOT_QCOW2`, `BAD_IMAGE`, `CORRUPT`.
 */
export async function openDisk(options: OpenDiskOptions & TakeOverOptions & WorkerOptions): Promise<OpfsDisk> {
  const { signal } = options;
  const client = startWorker(options);
  // A derivation can't be ended between its iterations; the worker can.
  const end = (): void => client.end();
  signal?.addEventListener('abort', end);
  try {
    const held = heldLock(options);
    if (held !== null) await freeDisk(held, options);
    return new OpfsDisk(client, await client.call(openRequest(options), { signal }), held);
  } catch (error) {
    client.end();
    if (signal?.aborted !== true) throw error;
    throw new Qcow2Error('ABORTED', 'opening the disk was ended by its AbortSignal', { cause: signal.reason });
  } finally {
    signal?.removeEventListener('abort', end);
  }
}

/**
 * Opens a disk in this thread, which must be a dedicated worker: for an emulator that runs in one, and is then answered
 * without a detour. Errors as `openDisk`.
 */
export async function openLocalDisk(options: OpenDiskOptions): Promise<LocalDisk> {
  const request = openRequest(options);
  checkFileName(request.name);
  const [files, network] = [await openOpfsDirectory(request.directory), browserNetwork()];
  return openLocalDiskFile(files, { ...request, signal: options.signal, network });
}

export interface ImportOptions extends JobOptions {
  /** Told by the first bytes unless given: what has no mark, and is whole sectors, is a raw image. */
  readonly format?: ImageFormat;
  /** Bytes in all of a `ReadableStream`, if known: fewer are an `IO` error. */
  readonly total?: number;
}

/**
 * Puts an image from elsewhere, say from the visitor's computer or a server, in place of the disk `name`, if it opens and a check finds it
 * sound. A raw image becomes a qcow2 on the way, in which zeroes take no room. The old disk is untouched until the new one is complete, and
 * stays when anything fails or the browser crashes.
 *
 * A disk that is open, in this page too, gives `IN_USE`: import under another name, close the disk, then `renameFile`.
 * @param location `backing` lists what the image may name as its backing file, as in `openDisk`; by default nothing.
 * @param source a blob, a URL (a string is one, too, and may be relative to the page), a response, or a stream.
 * @throws Qcow2Error as `openDisk`, and `CORRUPT`, `NOT_QCOW2` or `UNSUPPORTED` for what is no such image, `NETWORK`, `NOT_FOUND` (on the
 * server), `NO_SPACE`, `IO`, `ABORTED`.
 */
export async function importImage(
  location: FileLocation & WorkerOptions & Pick<OpenDiskOptions, 'backing'>,
  source: ImageSource | string,
  options: ImportOptions = {},
): Promise<DiskInfo> {
  const { directory, name } = address(location);
  const allowed = allowedNames(location.backing ?? []);
  const { signal = new AbortController().signal, total = null } = options;
  const given = typeof source === 'string' ? new URL(absoluteUrl(source)) : source;
  return withWorker(location, async (client) => {
    const opened = await openImageSource(given, { total, signal });
    const { format, source: stream } =
      options.format === undefined ? await recognized(opened) : { format: options.format, source: opened };
    // What is no image at all is refused before it is copied.
    if (given instanceof Blob && format === 'qcow2') {
      await client.call({ kind: 'inspect', directory, blob: given, ...allowed });
    }
    const raw = format === 'raw' && { convert: 'raw' as const, ...(!options.format && { checkLength: checkRawSize }) };
    const info = await storeStream(client, { directory, name }, stream, { ...options, ...raw, image: allowed });
    if (info === null) throw new Qcow2Error('IO', 'the worker did not say what it stored');
    return info;
  });
}

/**
 * Stores a file as it is, say a base image, in place of the one of that name, in one step when all of it has arrived.
 * @param source a stream (`response.body`) or a blob. @param options.total bytes in all, if known: fewer are an `IO` error.
 * @throws Qcow2Error `BAD_ARGUMENT` for null (a response without a body has that), `IN_USE`, `NO_SPACE`, `IO`, `ABORTED`.
 */
export async function storeFile(
  location: FileLocation & WorkerOptions,
  source: ReadableStream<Uint8Array> | Blob | null,
  options: JobOptions & { readonly total?: number } = {},
): Promise<void> {
  if (source === null) {
    throw new Qcow2Error('BAD_ARGUMENT', `the source of "${location.name}" is null: the response has no body`);
  }
  const isBlob = source instanceof Blob;
  const bytes = { stream: isBlob ? source.stream() : source, total: isBlob ? source.size : (options.total ?? null) };
  await withWorker(location, (client) => storeStream(client, address(location), bytes, { ...options, image: null }));
}

/** Deletes a file; nothing happens if there is none. @throws Qcow2Error `IN_USE`. */
export async function deleteFile(location: FileLocation & WorkerOptions): Promise<void> {
  await withWorker(location, (client) => client.call({ kind: 'delete', ...address(location) }));
}

export interface RenameOptions {
  /** Replaces a file of the new name. Default true; with false such a file is left alone, also one that another tab makes meanwhile. */
  readonly overwrite?: boolean;
}

/**
 * Renames a file within its folder, in one step.
 * @throws Qcow2Error `NOT_FOUND`, `IN_USE`, `BAD_ARGUMENT` where there is a file of the new name and it is not to be replaced.
 */
export async function renameFile(
  location: FileLocation & WorkerOptions,
  newName: string,
  { overwrite = true }: RenameOptions = {},
): Promise<void> {
  const request = { kind: 'rename', ...address(location), newName, overwrite } as const;
  await withWorker(location, (client) => client.call(request));
}

export interface DuplicateOptions extends JobOptions {
  /** Replaces a file of the new name, in one step. Default false: such a file is left alone. */
  readonly overwrite?: boolean;
}

/**
 * Copies a file, say a disk that is closed, under another name within its folder. The copy has its name only when it is whole.
 * @throws Qcow2Error `NOT_FOUND`, `IN_USE` (somebody writes it, or uses one of the new name), `BAD_ARGUMENT` where there is a file of the new
 * name, `NO_SPACE`, `IO`, `ABORTED`.
 */
export async function duplicateFile(
  location: FileLocation & WorkerOptions,
  newName: string,
  { overwrite = false, ...options }: DuplicateOptions = {},
): Promise<void> {
  const request = { kind: 'duplicate', ...address(location), newName, overwrite } as const;
  await withWorker(location, (client) => client.call(request, options));
}

/** The files of a folder, by name. */
export async function listFiles(location: { readonly directory?: string } & WorkerOptions = {}): Promise<StoredFile[]> {
  const directory = location.directory ?? DEFAULT_DIRECTORY;
  return withWorker(location, (client) => client.call({ kind: 'list', directory }));
}

/** The versions of base images on servers that are kept for all disks of the origin, the one opened last first. @throws Qcow2Error `IO`. */
export async function listBases(options: WorkerOptions = {}): Promise<StoredBase[]> {
  return withWorker(options, (client) => client.call({ kind: 'listBases' }));
}

/**
 * Deletes what is kept of one version of a base image; a disk that stands on it fetches it again. Nothing happens if nothing is kept.
 * @param base what `listBases` tells. @throws Qcow2Error `IN_USE` while a disk has it open, in whichever tab.
 */
export async function removeBase(base: Pick<StoredBase, 'url' | 'identity'> & WorkerOptions): Promise<void> {
  const { url, identity } = base;
  await withWorker(base, (client) => client.call({ kind: 'removeBase', url, identity }));
}

/** What the site has stored, of what it may: the files of a folder, the base images, the rest. @throws Qcow2Error `IO`. */
export async function storageHealth(
  location: { readonly directory?: string } & WorkerOptions = {},
): Promise<StorageHealth> {
  return withWorker(location, (client) => measureStorage(client, location.directory ?? DEFAULT_DIRECTORY));
}

function address({ directory, name }: FileLocation): { directory: string; name: string } {
  return { directory: directory ?? DEFAULT_DIRECTORY, name };
}

/** Null for a disk that is in no file. */
function heldLock({ directory, name, readOnly, throwAway }: OpenDiskOptions): HeldLock | null {
  if (throwAway) return null;
  return { lock: fileLock(directory ?? DEFAULT_DIRECTORY, name), mode: readOnly ? 'read' : 'write' };
}

async function freeDisk(held: HeldLock, options: OpenDiskOptions & TakeOverOptions): Promise<void> {
  const { takeOver: wish = false, directory = DEFAULT_DIRECTORY, name, signal } = options;
  if (wish === false) return;
  const patience = wish === true ? TAKE_OVER_MILLISECONDS : wish.patience;
  if (!Number.isSafeInteger(patience) || patience < 0) {
    throw new Qcow2Error(
      'BAD_ARGUMENT',
      `takeOver.patience is ${String(patience)}; it is a whole number of milliseconds`,
    );
  }
  await takeOver({ ...held, path: `/${directory}/${name}`, patience, signal });
}

function openRequest(options: OpenDiskOptions): OpenRequest {
  const { create, passphrase, backingPassphrases, requireEncryption, maxDerivationWork } = options;
  return {
    kind: 'open',
    ...address(options),
    readOnly: options.readOnly ?? false,
    ...allowedNames(options.backing ?? []),
    ...(options.throwAway === undefined ? {} : { throwAway: options.throwAway }),
    ...(create === undefined ? {} : { create }),
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(backingPassphrases === undefined ? {} : { backingPassphrases }),
    ...(requireEncryption === undefined ? {} : { requireEncryption }),
    ...(maxDerivationWork === undefined ? {} : { maxDerivationWork }),
    ...runtimeOptions(options),
  };
}

/** Files by their names, and base images on servers; no file of OPFS has a slash in its name. */
function allowedNames(backing: readonly (string | NetworkBase)[]): Pick<OpenRequest, 'backing' | 'bases'> {
  const names: string[] = [];
  const bases: AllowedBase[] = [];
  for (const entry of backing) {
    if (typeof entry !== 'string') bases.push(allowedBase(entry));
    else if (/^https?:\/\//i.test(entry)) bases.push(allowedBase({ url: entry, name: entry }));
    else names.push(entry);
  }
  return { backing: names, bases };
}

/** With absolute URLs: a worker that was started from a Blob has no address of its own. */
function allowedBase({ url, profile, ...base }: NetworkBase): AllowedBase {
  const isAddress = typeof profile === 'string' || profile instanceof URL;
  const ahead = profile === undefined ? {} : { profile: isAddress ? absoluteUrl(profile) : profile };
  return { ...base, url: absoluteUrl(url), ...ahead };
}

function absoluteUrl(given: string | URL): string {
  const from = globalThis.document?.baseURI ?? globalThis.location?.href;
  if (URL.canParse(given.toString(), from)) return new URL(given, from).href;
  throw new Qcow2Error('BAD_ARGUMENT', `the image's URL ${JSON.stringify(given.toString())} is none`);
}

/** A worker for one job. */
async function withWorker<T>(options: WorkerOptions, job: (client: WorkerClient) => Promise<T>): Promise<T> {
  const client = startWorker(options);
  try {
    return await job(client);
  } finally {
    client.end();
  }
}
