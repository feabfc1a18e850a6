/**
 * From a file name to an open disk: claims, creation, and the gate in front of backing files.
 *
 * Invariants:
 * - Nothing is opened or replaced without a claim, and the claims are held until the disk is closed.
 * - A backing file is opened only if the caller's list names it (an image can name whatever it likes), and only to be read.
 * - A disk that is created is complete before its name exists.
 * - What an open disk refers to knows no passphrase: the request that has them ends with the opening.
 */
import { Qcow2Error, isQcow2Error } from '../errors.js';
import { createImage, type CreateOptions } from '../image/create.js';
import { encryptionFormat, type ImageEncryption } from '../image/image-encryption.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import { openChain, type BackingOpener, type BackingReference } from '../image/open.js';
import { runtimeOptions, type RuntimeOptions } from '../image/runtime-options.js';
import { newEncryption, type NewEncryption, type UnlockOptions } from '../image/unlock-image.js';
import type { Storage } from '../storage/storage.js';
import type { Claim, ClaimMode, ImageFiles } from './image-files.js';
import type { NewDisk, OpenRequest } from './protocol.js';
import type { DiskInfo } from './remote-disk.js';

const SECTOR_BYTES = 512;

export interface OpenDiskFile {
  readonly image: Qcow2Image;
  /** As it is now: going to a snapshot may change the size. */
  readonly info: DiskInfo;
  /** Flushes, closes and releases the claims, these also when the flush fails. */
  close(): void;
}

export interface DiskFileOptions extends Omit<OpenRequest, 'kind' | 'directory'> {
  /** Ends the derivation of keys. */
  readonly signal?: AbortSignal | undefined;
}

/** @throws Qcow2Error `NOT_FOUND`, `IN_USE`, `BACKING`, and what the engine finds wrong with the image. */
export async function openDiskFile(files: ImageFiles, options: DiskFileOptions): Promise<OpenDiskFile> {
  const claims = new Claims(files);
  try {
    await claims.add(options.name, options.readOnly ? 'read' : 'write');
    const image = await openImageFile(files, options, claims);
    return openDiskOf(image, claims, files.path(options.name));
  } catch (error) {
    claims.release();
    throw error;
  }
}

/** A function of its own: what is made inside `openDiskFile` would keep its arguments, passphrases too, for as long as the disk is open. */
function openDiskOf(image: Qcow2Image, claims: Claims, path: string): OpenDiskFile {
  return {
    image,
    get info() {
      return describeImage(image, path);
    },
    close: () => {
      try {
        image.close();
      } finally {
        claims.release();
      }
    },
  };
}

/** Opens the file, or the one that it creates. One that is there must be encrypted as the one that would have been created. */
async function openImageFile(files: ImageFiles, options: DiskFileOptions, claims: Claims): Promise<Qcow2Image> {
  const exists = await files.exists(options.name);
  const made = exists ? undefined : await createDiskFile(files, options);
  try {
    const storage = await files.open(options.name, options.readOnly ? 'read-only' : 'read-write');
    const requireEncryption = options.requireEncryption || (options.create?.encryption?.format ?? false);
    const key = made === undefined ? {} : { encryption: made.opened };
    return await openImageStorage(storage, { ...options, requireEncryption, ...key }, claims);
  } catch (error) {
    made?.dispose();
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
  options: { readonly name: string; readonly backing: readonly string[] },
): Promise<DiskInfo> {
  const claims = new Claims(files);
  try {
    // What it holds is not asked for, so it may stay locked.
    const locked = { readOnly: storage.readOnly, backing: options.backing, encryption: null };
    const image = await openImageStorage(storage, locked, claims);
    const info = describeImage(image, files.path(options.name));
    image.close();
    return info;
  } finally {
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
  RuntimeOptions & { readonly encryption?: ImageEncryption | null };

async function openImageStorage(storage: Storage, options: ImageOptions, claims: Claims): Promise<Qcow2Image> {
  const { readOnly, backing, passphrase, backingPassphrases = {}, encryption, requireEncryption } = options;
  try {
    return await openChain(storage, {
      ...runtimeOptions(options),
      ...(encryption === undefined ? {} : { encryption }),
      readOnly,
      opener: claims.opener(backing),
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

function unlockOptions({ maxDerivationWork, signal }: ImageOptions): UnlockOptions {
  return { maxDerivationWork, signal };
}

/** What opens the new disk, so that no key is derived twice; undefined for one that is not encrypted. */
async function createDiskFile(files: ImageFiles, options: DiskFileOptions): Promise<NewEncryption | undefined> {
  const { name, create } = options;
  if (create === undefined || options.readOnly) {
    throw new Qcow2Error('NOT_FOUND', `there is no disk ${files.path(name)}, and it was not to be created`);
  }
  const size = await sizeOfNewDisk(files, create, options);
  const encryption = await encryptionOfNewDisk(create, options);
  try {
    await writeDiskFile(files, name, { ...create, size, encryption });
    return encryption;
  } catch (error) {
    encryption?.dispose();
    throw error;
  }
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
async function sizeOfNewDisk(files: ImageFiles, create: NewDisk, options: DiskFileOptions): Promise<number> {
  if (create.backing === undefined) {
    if (create.size !== undefined) return create.size;
    throw new Qcow2Error('BAD_ARGUMENT', 'create.size is missing, and there is no backing file to take it from');
  }
  const claims = new Claims(files);
  try {
    const opener = claims.opener(options.backing);
    const storage = await opener({ ...create.backing, depth: 1, role: 'backing', writable: false });
    if (create.backing.format === 'raw') {
      storage.close();
      return create.size ?? Math.ceil(storage.size / SECTOR_BYTES) * SECTOR_BYTES;
    }
    const image = await openImageStorage(
      storage,
      { readOnly: true, backing: options.backing, encryption: null },
      claims,
    );
    const { size } = image;
    image.close();
    return create.size ?? size;
  } finally {
    claims.release();
  }
}

/** The claims of one disk: on its file and on each file below it. */
class Claims {
  readonly #files: ImageFiles;
  readonly #held = new Map<string, Claim>();

  constructor(files: ImageFiles) {
    this.#files = files;
  }

  async add(name: string, mode: ClaimMode): Promise<void> {
    this.#held.set(name, await this.#files.claim(name, mode));
  }

  /** Opens the backing and data files of `allowed`, each once in a chain. */
  opener(allowed: readonly string[]): (reference: BackingReference) => Promise<Storage> {
    const open = async (reference: BackingReference): Promise<Storage> => {
      const { name, writable } = reference;
      const what = reference.role === 'data' ? 'external data file' : 'backing file';
      if (!allowed.includes(name)) {
        throw new Qcow2Error('BACKING', `the image names the ${what} "${name}", which was not allowed to be opened`);
      }
      if (this.#held.has(name)) {
        throw new Qcow2Error('BACKING', `the ${what} "${name}" occurs twice in one chain of files`);
      }
      try {
        await this.add(name, writable ? 'write' : 'read');
        return await this.#files.open(name, writable ? 'read-write' : 'read-only');
      } catch (error) {
        if (!isQcow2Error(error, 'NOT_FOUND')) throw error;
        throw new Qcow2Error('BACKING', `the ${what} ${this.#files.path(name)} does not exist`, { cause: error });
      }
    };
    return open satisfies BackingOpener;
  }

  release(): void {
    for (const claim of this.#held.values()) claim.release();
    this.#held.clear();
  }
}
