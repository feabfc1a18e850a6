/**
 * New images: the file, and in it an empty image of a format. A file that was begun and not finished is removed again, so that
 * nothing half made is taken for whole. Options, sizes and passphrases are refused before an existing file is touched, and a file
 * that is open here, as a source or below one, is never touched.
 */
import { existsSync, realpathSync, statSync, unlinkSync } from 'node:fs';
import { createNodeSectorCipher } from '../../crypto/node-sector-cipher.js';
import { isQcow2Error } from '../../errors.js';
import { createImage } from '../../image/create.js';
import type { ImageEncryption } from '../../image/image-encryption.js';
import { openImage } from '../../image/open.js';
import { preallocate } from '../../image/preallocate.js';
import { newEncryption, type EncryptionSettings } from '../../image/unlock-image.js';
import { NodeFileStorage } from '../../storage/node-file.js';
import { alignUp } from '../../util/integers.js';
import { sequence, singleStep, type Steps } from '../../util/steps.js';
import { forgetFile, identityAt, identityOf, noteFile } from '../graph/open-files.js';
import type { Secrets } from '../graph/secrets.js';
import { errorWords } from '../text/errno.js';
import { fullBackingName } from '../text/file-name.js';
import { CliError } from '../text/messages.js';
import { toNumber } from '../text/sizes.js';
import type { OptionValues } from './creation-options.js';
import { newFilePath, type Format } from './formats.js';
import { reserveAll, writeZeroes } from './host-room.js';
import type { Interrupts } from './interrupts.js';
import { luksSettings, qcow2Settings, TooLarge, type Qcow2Settings } from './qcow2-settings.js';

const FIRST_BLOCK = 4096;

export interface NewImageRequest {
  readonly fileName: string;
  readonly format: Format;
  /** With a size. */
  readonly values: OptionValues;
  readonly secrets: Secrets;
  readonly interrupts: Interrupts;
}

/** Files that were made: to be kept, or removed when what comes after fails. */
export interface NewFiles {
  remove(): void;
}

/** Makes the image. Rejects with QEMU's messages, and leaves no file then. */
export async function makeImage({ fileName, format, values, secrets, interrupts }: NewImageRequest): Promise<NewFiles> {
  const path = newFilePath(fileName);
  const files = new FilesUnderWay();
  interrupts.guard();
  if (format === 'raw') return files.keepUnlessThrown(() => makeRaw(path, values, { files, interrupts }));
  if (format === 'luks') {
    const settings = luksSettings(values, secrets);
    return files.keepUnlessThrown(() => makeLuks(path, values, { settings, files, interrupts }));
  }
  const settings = qcow2Settings(values, secrets);
  return files.keepUnlessThrown(() => makeQcow2(path, settings, { files, interrupts }));
}

class FilesUnderWay implements NewFiles {
  /** Paths, by device and inode: a path may be a link, or another file's by the time it is removed. */
  readonly #begun = new Map<string, string>();

  readonly #open: NodeFileStorage[] = [];

  /**
   * Opens files for writing, made if need be, and empties them once all of them are known to be free for that: not open in the graph, nor
   * one of them twice.
   */
  empty(...paths: readonly string[]): NodeFileStorage[] {
    const storages = paths.map((path) => this.#attempt(path, () => this.#opened(path)));
    storages.forEach((storage, index) => {
      const path = paths[index]!;
      this.#attempt(path, () => {
        if (storage.size > 0) storage.truncate(0);
        this.#note(path, storage);
      });
    });
    return storages;
  }

  #opened(path: string): NodeFileStorage {
    const isNew = !existsSync(path);
    const storage = NodeFileStorage.open(path, { create: true });
    try {
      noteFile(storage, path);
    } catch (error) {
      storage.close();
      throw error;
    }
    this.#open.push(storage);
    if (isNew) this.#note(path, storage);
    return storage;
  }

  #note(path: string, storage: NodeFileStorage): void {
    this.#begun.set(identityOf(storage.descriptor), path);
  }

  #attempt<T>(path: string, action: () => T): T {
    try {
      return action();
    } catch (error) {
      if (error instanceof CliError) throw error;
      throw new CliError(`Could not create '${path}': ${errorWords(error).words}`, { cause: error });
    }
  }

  /** Closes what is open. */
  close(): void {
    for (const storage of this.#open.splice(0)) {
      forgetFile(storage);
      storage.close();
    }
  }

  async keepUnlessThrown(make: () => Promise<void> | void): Promise<NewFiles> {
    try {
      await make();
      return this;
    } catch (error) {
      this.close();
      this.remove();
      throw error;
    }
  }

  /** Devices and pipes stay. */
  remove(): void {
    for (const [identity, path] of this.#begun) {
      if (identityAt(path) === identity && statSync(path).isFile()) unlinkSync(realpathSync(path));
    }
    this.#begun.clear();
  }
}

interface Making {
  readonly files: FilesUnderWay;
  readonly interrupts: Interrupts;
}

async function makeQcow2(path: string, settings: Qcow2Settings, { files, interrupts }: Making): Promise<void> {
  const { backing, dataFile, encryption, create } = settings;
  const own = [path, ...(dataFile === null ? [] : [newFilePath(dataFile.name)])];
  if (backing !== null) for (const name of own) refuseOwnBacking(name, fullBackingName(path, backing.name));
  const made = encryption === null ? null : await newEncryption(encryption, { createCipher: createNodeSectorCipher });
  // Preallocation takes its time. (A raw data file has its clusters from the start on, and no others to be filled later.)
  const later = create.preallocation !== 'off' && dataFile?.raw !== true;
  try {
    const dataPath = dataFile === null ? [] : [newFilePath(dataFile.name)];
    const [storage, data = null] = files.empty(path, ...dataPath) as [NodeFileStorage, NodeFileStorage?];
    createImage(storage, {
      ...create,
      ...(later ? { preallocation: 'off' } : {}),
      ...(backing === null ? {} : { backing }),
      ...(made === null ? {} : { encryption: made }),
      ...(dataFile === null || data === null ? {} : { dataFile: { ...dataFile, storage: data } }),
    });
    if (later) await interrupts.run(preallocateNew({ storage, data, encryption: made?.opened ?? null }, create));
  } catch (error) {
    throw isQcow2Error(error, 'LIMIT') ? new TooLarge() : error;
  } finally {
    made?.opened.cipher.wipe();
    files.close();
  }
  if (create.preallocation === 'falloc') reserveAll(dataFile === null ? path : newFilePath(dataFile.name));
}

/** A file that is to show through what comes to be in its place. */
function refuseOwnBacking(path: string, backing: string | null): void {
  const own = identityAt(path);
  if (own === null || backing === null || own !== identityAt(backing)) return;
  throw new CliError('Error: Trying to create an image with the same filename as the backing file');
}

interface NewParts {
  readonly storage: NodeFileStorage;
  readonly data: NodeFileStorage | null;
  readonly encryption: ImageEncryption | null;
}

/** What the image is given its places in is closed with it. */
function preallocateNew(
  { storage, data, encryption }: NewParts,
  { size, preallocation = 'off' }: Qcow2Settings['create'],
): Steps {
  const image = openImage(storage, {
    backing: null,
    ...(data === null ? {} : { dataFile: data }),
    ...(encryption === null ? {} : { encryption: { ...encryption, borrowed: true } }),
  });
  return sequence([
    () => preallocate(image, { from: 0, to: size, mode: preallocation, backingSize: 0 }),
    () => singleStep('closing the image', () => image.close()),
  ]);
}

/** What the host does for a file ahead of time: nothing, room for all of it, or zeroes written to all of it. */
type HostPreallocation = 'off' | 'falloc' | 'full';

/** `preallocation` of a format that has no metadata to place ahead of time. */
function hostPreallocation(values: OptionValues): HostPreallocation {
  const mode = values.get('preallocation') ?? 'off';
  if (mode === 'off' || mode === 'falloc' || mode === 'full') return mode;
  if (mode === 'metadata') throw new CliError('Unsupported preallocation mode: metadata');
  throw new CliError(`invalid parameter value: ${mode}`);
}

/** In whole sectors. Throws `TooLarge`. */
function diskSize(values: OptionValues): number {
  const size = toNumber(values.size('size') ?? 0n);
  if (size === null) throw new TooLarge();
  return alignUp(size, 512);
}

interface FileContent {
  /** Bytes. */
  readonly size: number;
  /** What it begins with; zeroes follow. */
  readonly start: Uint8Array;
  readonly mode: HostPreallocation;
}

async function makeFile(
  path: string,
  { files, interrupts }: Making,
  { size, start, mode }: FileContent,
): Promise<void> {
  const [storage] = files.empty(path) as [NodeFileStorage];
  try {
    storage.truncate(size);
    if (start.length > 0) storage.write(0, start);
  } catch (error) {
    throw isQcow2Error(error, 'NO_SPACE') && errorWords(error).errno === 'EFBIG' ? new TooLarge() : error;
  } finally {
    files.close();
  }
  if (mode === 'falloc') reserveAll(path);
  if (mode === 'full') await interrupts.run(writeZeroes(path, start.length));
}

async function makeLuks(
  path: string,
  values: OptionValues,
  { settings, ...making }: Making & { settings: EncryptionSettings },
): Promise<void> {
  const mode = hostPreallocation(values);
  const size = diskSize(values);
  const { area, opened } = await newEncryption(settings, { createCipher: createNodeSectorCipher });
  opened.cipher.wipe();
  if (area === null) throw new Error('a LUKS disk has an area for its header');
  await makeFile(path, making, { size: area.length + size, mode, start: area });
}

async function makeRaw(path: string, values: OptionValues, making: Making): Promise<void> {
  const mode = hostPreallocation(values);
  const size = diskSize(values);
  // The first block has its room from the start on, as with QEMU, which finds out from it what the host can do.
  const start = new Uint8Array(Math.min(size, size < FIRST_BLOCK ? 512 : FIRST_BLOCK));
  await makeFile(path, making, { size, mode, start });
}
