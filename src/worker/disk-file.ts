/**
 * From a file name to an open disk: claims, creation, and the gate in front of backing files.
 *
 * Invariants:
 * - Nothing is opened or replaced without a claim, and the claims are held until the disk is closed.
 * - A backing file is opened only if the caller's list names it (an image can name whatever it likes), and only to be read.
 * - A disk that is created is complete before its name exists.
 */
import { Qcow2Error, isQcow2Error } from '../errors.js';
import { createImage } from '../image/create.js';
import { encryptionFormat, type ImageEncryption } from '../image/image-encryption.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import { openChain, type BackingOpener, type BackingReference } from '../image/open.js';
import { runtimeOptions, type RuntimeOptions } from '../image/runtime-options.js';
import { newEncryption, type NewEncryption } from '../image/unlock-image.js';
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

export type DiskFileOptions = Omit<OpenRequest, 'kind' | 'directory'>;

/** @throws Qcow2Error `NOT_FOUND`, `IN_USE`, `BACKING`, and what the engine finds wrong with the image. */
export async function openDiskFile(files: ImageFiles, options: DiskFileOptions): Promise<OpenDiskFile> {
  const claims = new Claims(files);
  try {
    await claims.add(options.name, options.readOnly ? 'read' : 'write');
    const image = await openImageFile(files, options, claims);
    return {
      image,
      get info() {
        return describeImage(image, files.path(options.name));
      },
      close: () => {
        try {
          image.close();
        } finally {
          claims.release();
        }
      },
    };
  } catch (error) {
    claims.release();
    throw error;
  }
}

/** Opens the file, or the one that it creates. */
async function openImageFile(files: ImageFiles, options: DiskFileOptions, claims: Claims): Promise<Qcow2Image> {
  const exists = await files.exists(options.name);
  const made = exists ? null : await createDiskFile(files, options);
  try {
    const storage = await files.open(options.name, options.readOnly ? 'read-only' : 'read-write');
    return await openImageStorage(storage, made === null ? options : { ...options, encryption: made }, claims);
  } catch (error) {
    made?.cipher.wipe();
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
  RuntimeOptions & { readonly encryption?: ImageEncryption | null };

async function openImageStorage(storage: Storage, options: ImageOptions, claims: Claims): Promise<Qcow2Image> {
  const { readOnly, backing, passphrase, backingPassphrases = {}, encryption } = options;
  try {
    return await openChain(storage, {
      ...runtimeOptions(options),
      ...(encryption === undefined ? {} : { encryption }),
      readOnly,
      opener: claims.opener(backing),
      // An image may name its backing file as what every object has, such as "constructor".
      passphrase: ({ name }) =>
        name !== null && Object.hasOwn(backingPassphrases, name) ? backingPassphrases[name] : passphrase,
    });
  } catch (error) {
    storage.close();
    throw error;
  }
}

/** What opens the new disk, so that no key is derived twice; null for one that is not encrypted. */
async function createDiskFile(files: ImageFiles, options: DiskFileOptions): Promise<ImageEncryption | null> {
  const { name, create } = options;
  if (create === undefined || options.readOnly) {
    throw new Qcow2Error('NOT_FOUND', `there is no disk ${files.path(name)}, and it was not to be created`);
  }
  const size = await sizeOfNewDisk(files, create, options);
  const encryption = await encryptionOfNewDisk(create, options.passphrase);
  const temporary = await files.createTemporary();
  try {
    const storage = await files.open(temporary.name, 'read-write');
    try {
      createImage(storage, { ...create, size, encryption });
      storage.flush();
    } finally {
      storage.close();
    }
    await files.replace(temporary.name, name);
    return encryption?.opened ?? null;
  } catch (error) {
    encryption?.opened.cipher.wipe();
    await files.remove(temporary.name);
    throw error;
  }
}

function encryptionOfNewDisk(
  { encryption }: NewDisk,
  passphrase: string | undefined,
): Promise<NewEncryption | undefined> {
  if (encryption === undefined) return Promise.resolve(undefined);
  if (passphrase !== undefined) return newEncryption({ ...encryption, passphrase });
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
