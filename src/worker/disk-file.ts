/**
 * From a file name to an open disk: claims, creation, and the gate in front of backing files.
 *
 * Invariants:
 * - Nothing is opened or replaced without a claim, and the claims are held until the disk is closed.
 * - A backing file is opened only if the caller's list names it (an image can name whatever it likes), and only to be read.
 * - A disk that is created is complete before its name exists. One over a base image on a server pins the version of it that is there now.
 * - What an open disk refers to knows no passphrase: the request that has them ends with the opening.
 */
import { Qcow2Error } from '../errors.js';
import { createImage, type CreateOptions } from '../image/create.js';
import { encryptionFormat, type ImageEncryption } from '../image/image-encryption.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import { openChain } from '../image/open.js';
import { runtimeOptions, type RuntimeOptions } from '../image/runtime-options.js';
import { newEncryption, type NewEncryption, type UnlockOptions } from '../image/unlock-image.js';
import type { NetworkHost } from '../network/open-base.js';
import { MemoryStorage } from '../storage/memory.js';
import type { Storage } from '../storage/storage.js';
import { Claims } from './claims.js';
import type { ImageFiles } from './image-files.js';
import { NetworkBases } from './network-bases.js';
import type { AllowedFiles, NewDisk, OpenRequest } from './protocol.js';
import type { DiskInfo } from './remote-disk.js';

const SECTOR_BYTES = 512;

export interface OpenDiskFile {
  readonly image: Qcow2Image;
  readonly bases: NetworkBases;
  /** As it is now: going to a snapshot may change the size. */
  readonly info: DiskInfo;
  /** Flushes, closes and releases the claims, these also when the flush fails. */
  close(): void;
}

export interface DiskFileOptions extends Omit<OpenRequest, 'kind' | 'directory'> {
  /** Ends the derivation of keys, and waiting for servers. */
  readonly signal?: AbortSignal | undefined;
  /** Without it no base image on a server is opened. */
  readonly network?: NetworkHost | undefined;
}

/** What opening has at hand. */
interface Opening {
  readonly files: ImageFiles;
  readonly bases: NetworkBases;
  readonly options: DiskFileOptions;
}

/** @throws Qcow2Error `NOT_FOUND`, `IN_USE`, `BACKING`, what a server fails with, and what the engine finds wrong with the image. */
export async function openDiskFile(files: ImageFiles, options: DiskFileOptions): Promise<OpenDiskFile> {
  const claims = new Claims(files);
  const bases = new NetworkBases(options.network ?? null, options.bases ?? []);
  try {
    if (!options.throwAway) await claims.add(options.name, options.readOnly ? 'read' : 'write');
    const image = await openImageFile({ files, bases, options }, claims);
    return openDiskOf({ image, claims, bases, path: files.path(options.name) });
  } catch (error) {
    bases.close();
    claims.release();
    throw error;
  }
}

interface OpenParts {
  readonly image: Qcow2Image;
  readonly claims: Claims;
  readonly bases: NetworkBases;
  readonly path: string;
}

/** A function of its own: what is made inside `openDiskFile` would keep its arguments, passphrases too, for as long as the disk is open. */
function openDiskOf({ image, claims, bases, path }: OpenParts): OpenDiskFile {
  return {
    image,
    bases,
    get info() {
      return describeImage(image, path);
    },
    close: () => {
      try {
        image.close();
      } finally {
        bases.close();
        claims.release();
      }
    },
  };
}

/** Opens the file, or the one that it creates. One that is there must be encrypted as the one that would have been created. */
async function openImageFile(opening: Opening, claims: Claims): Promise<Qcow2Image> {
  const { files, bases, options } = opening;
  const exists = !options.throwAway && (await files.exists(options.name));
  const made = exists ? undefined : await createDisk(opening);
  try {
    const storage = made?.storage ?? (await files.open(options.name, options.readOnly ? 'read-only' : 'read-write'));
    const requireEncryption = options.requireEncryption || (options.create?.encryption?.format ?? false);
    const key = made === undefined ? {} : { encryption: made.encryption?.opened };
    return await openImageStorage(storage, { ...options, requireEncryption, ...key, bases }, claims);
  } catch (error) {
    made?.encryption?.dispose();
    throw error;
  }
}

/**
 * Opens `storage` as a disk would be opened, closes it, and says what it is.
 * @throws Qcow2Error what keeps it from being opened.
 */
export async function inspectImage(
  files: ImageFiles,
  storage: Storage,
  options: AllowedFiles & { readonly name: string; readonly network?: NetworkHost | undefined },
): Promise<DiskInfo> {
  const claims = new Claims(files);
  const bases = new NetworkBases(options.network ?? null, options.bases ?? []);
  try {
    // What it holds is not asked for, so it may stay locked.
    const locked = { readOnly: storage.readOnly, backing: options.backing, bases, encryption: null };
    const image = await openImageStorage(storage, locked, claims);
    const info = describeImage(image, files.path(options.name));
    image.close();
    return info;
  } finally {
    bases.close();
    claims.release();
  }
}

function describeImage(image: Qcow2Image, path: string): DiskInfo {
  const { header } = image;
  return {
    size: image.size,
    readOnly: image.readOnly,
    path,
    version: header.version,
    clusterSize: image.clusterSize,
    refcountBits: image.refcountBits,
    lazyRefcounts: image.lazyRefcounts,
    encryption: encryptionFormat(header),
    cipher: image.encryption?.spec ?? null,
    backingFile: header.backingFile?.name ?? null,
  };
}

type ImageOptions = Pick<DiskFileOptions, 'readOnly' | 'backing' | 'passphrase' | 'backingPassphrases'> &
  Pick<DiskFileOptions, 'requireEncryption' | 'maxDerivationWork' | 'signal'> &
  RuntimeOptions & { readonly bases: NetworkBases; readonly encryption?: ImageEncryption | null | undefined };

async function openImageStorage(storage: Storage, options: ImageOptions, claims: Claims): Promise<Qcow2Image> {
  const {
    readOnly,
    backing,
    bases,
    passphrase,
    backingPassphrases = {},
    encryption,
    requireEncryption,
    signal,
  } = options;
  try {
    return await openChain(storage, {
      ...runtimeOptions(options),
      ...(encryption === undefined ? {} : { encryption }),
      readOnly,
      opener: claims.opener({ backing, bases, signal }),
      requireEncryption,
      unlock: unlockOptions(options),
      // An image may name its backing file as what every object has, such as "constructor".
      passphrase: ({ name }) =>
        name !== null && Object.hasOwn(backingPassphrases, name) ? backingPassphrases[name] : passphrase,
    });
  } catch (error) {
    storage.close();
    throw error;
  }
}

function unlockOptions({
  maxDerivationWork,
  signal,
}: Pick<ImageOptions, 'maxDerivationWork' | 'signal'>): UnlockOptions {
  return { maxDerivationWork, signal };
}

interface MadeDisk {
  /** What opens it, so that no key is derived twice; undefined for one that is not encrypted. */
  readonly encryption: NewEncryption | undefined;
  /** Where it is, if it is in no file. */
  readonly storage: Storage | null;
}

async function createDisk(opening: Opening): Promise<MadeDisk> {
  const { files, bases, options } = opening;
  const { name, create, throwAway = false } = options;
  if (create === undefined || options.readOnly) {
    const problem = throwAway
      ? 'is to be thrown away, so "create" must say what it is'
      : 'is not there, and it was not to be created';
    throw new Qcow2Error(throwAway ? 'BAD_ARGUMENT' : 'NOT_FOUND', `the disk ${files.path(name)} ${problem}`);
  }
  const size = await sizeOfNewDisk(opening, create);
  const encryption = await encryptionOfNewDisk(create, options);
  const { backing } = create;
  const pinned = backing === undefined ? {} : { backing: { ...backing, name: bases.pinned(backing.name) } };
  try {
    const settings = { ...create, ...pinned, size, encryption };
    if (!throwAway) await writeDiskFile(files, name, settings);
    return { encryption, storage: throwAway ? imageInMemory(settings) : null };
  } catch (error) {
    encryption?.dispose();
    throw error;
  }
}

function imageInMemory(create: CreateOptions): Storage {
  const storage = new MemoryStorage();
  createImage(storage, create);
  return storage;
}

/** Makes an image under a temporary name, and puts it in its place. */
async function writeDiskFile(files: ImageFiles, name: string, create: CreateOptions): Promise<void> {
  const temporary = await files.createTemporary();
  try {
    const storage = await files.open(temporary.name, 'read-write');
    try {
      createImage(storage, create);
      storage.flush();
    } finally {
      storage.close();
    }
    await files.replace(temporary.name, name);
  } catch (error) {
    // A file that stays goes when the folder is next opened; what went wrong is what the caller must hear of.
    await files.remove(temporary.name).catch(() => {});
    throw error;
  }
}

function encryptionOfNewDisk({ encryption }: NewDisk, options: DiskFileOptions): Promise<NewEncryption | undefined> {
  if (encryption === undefined) return Promise.resolve(undefined);
  const { passphrase } = options;
  if (passphrase !== undefined) return newEncryption({ ...encryption, passphrase }, unlockOptions(options));
  throw new Qcow2Error('KEY_NEEDED', 'the new disk is to be encrypted, and no passphrase was given');
}

/** The size asked for, or that of the backing file, which must open either way. */
async function sizeOfNewDisk({ files, bases, options }: Opening, create: NewDisk): Promise<number> {
  if (create.backing === undefined) {
    if (create.size !== undefined) return create.size;
    throw new Qcow2Error('BAD_ARGUMENT', 'create.size is missing, and there is no backing file to take it from');
  }
  const { backing, signal } = options;
  const claims = new Claims(files);
  try {
    const opener = claims.opener({ backing, bases, signal });
    const storage = await opener({ ...create.backing, depth: 1, role: 'backing', writable: false });
    if (create.backing.format === 'raw') {
      storage.close();
      return create.size ?? Math.ceil(storage.size / SECTOR_BYTES) * SECTOR_BYTES;
    }
    const image = await openImageStorage(storage, { readOnly: true, backing, bases, signal, encryption: null }, claims);
    const { size } = image;
    image.close();
    return create.size ?? size;
  } finally {
    claims.release();
  }
}
