/**
 * New images: the file, and in it an empty image of a format. A file that was begun and not finished is removed again, so that
 * nothing half made is taken for whole. What can be refused is refused before an existing file is touched.
 */
import { closeSync, lstatSync, openSync, unlinkSync } from 'node:fs';
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
import type { Secrets } from '../graph/secrets.js';
import { errorWords } from '../text/errno.js';
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
    return files.keepUnlessThrown(() => makeLuks(path, values, { settings, files }));
  }
  const settings = qcow2Settings(values, secrets);
  return files.keepUnlessThrown(() => makeQcow2(path, settings, { files, interrupts }));
}

class FilesUnderWay implements NewFiles {
  readonly #paths: string[] = [];

  /** Opens a file for writing, made if need be, and empties it. */
  empty(path: string): NodeFileStorage {
    try {
      closeSync(openSync(path, 'a', 0o644));
      const storage = NodeFileStorage.open(path);
      this.#paths.push(path);
      storage.truncate(0);
      return storage;
    } catch (error) {
      throw new CliError(`Could not create '${path}': ${errorWords(error).words}`, { cause: error });
    }
  }

  async keepUnlessThrown(make: () => Promise<void> | void): Promise<NewFiles> {
    try {
      await make();
      return this;
    } catch (error) {
      this.remove();
      throw error;
    }
  }

  /** Devices and pipes stay. */
  remove(): void {
    for (const path of this.#paths) {
      if (lstatSync(path, { throwIfNoEntry: false })?.isFile() === true) unlinkSync(path);
    }
  }
}

interface Making {
  readonly files: FilesUnderWay;
  readonly interrupts: Interrupts;
}

async function makeQcow2(path: string, settings: Qcow2Settings, { files, interrupts }: Making): Promise<void> {
  const { backing, dataFile, encryption, create } = settings;
  const storage = files.empty(path);
  const data = dataFile === null ? null : files.empty(newFilePath(dataFile.name));
  // Preallocation takes its time. (A raw data file has its clusters from the start on, and no others to be filled later.)
  const later = create.preallocation !== 'off' && dataFile?.raw !== true;
  try {
    const made = encryption === null ? null : await newEncryption(encryption, { createCipher: createNodeSectorCipher });
    createImage(storage, {
      ...create,
      ...(later ? { preallocation: 'off' } : {}),
      ...(backing === null ? {} : { backing }),
      ...(made === null ? {} : { encryption: made }),
      ...(dataFile === null || data === null ? {} : { dataFile: { ...dataFile, storage: data } }),
    });
    if (later) await interrupts.run(preallocateNew({ storage, data, encryption: made?.opened ?? null }, create));
    made?.opened.cipher.wipe();
  } catch (error) {
    throw isQcow2Error(error, 'LIMIT') ? new TooLarge() : error;
  } finally {
    storage.close();
    data?.close();
  }
  if (create.preallocation === 'falloc') reserveAll(dataFile === null ? path : newFilePath(dataFile.name));
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

async function makeLuks(
  path: string,
  values: OptionValues,
  { settings, files }: { settings: EncryptionSettings; files: FilesUnderWay },
): Promise<void> {
  const size = toNumber(values.size('size') ?? 0n);
  const { area, opened } = await newEncryption(settings, { createCipher: createNodeSectorCipher });
  opened.cipher.wipe();
  const storage = files.empty(path);
  try {
    if (size === null || area === null) throw new TooLarge();
    storage.write(0, area);
    storage.truncate(area.length + alignUp(size, 512));
  } finally {
    storage.close();
  }
}

async function makeRaw(path: string, values: OptionValues, { files, interrupts }: Making): Promise<void> {
  const mode = values.get('preallocation') ?? 'off';
  const known = ['off', 'metadata', 'falloc', 'full'].includes(mode);
  if (!known) throw new CliError(`invalid parameter value: ${mode}`);
  if (mode === 'metadata') throw new CliError('Unsupported preallocation mode: metadata');
  const size = toNumber(values.size('size') ?? 0n);
  const storage = files.empty(path);
  try {
    if (size === null) throw new TooLarge();
    storage.truncate(alignUp(size, 512));
    // The first block has its room from the start on, as with QEMU, which finds out from it what the host can do.
    if (size > 0) storage.write(0, new Uint8Array(size < FIRST_BLOCK ? 512 : FIRST_BLOCK));
  } catch (error) {
    throw isQcow2Error(error, 'NO_SPACE') && errorWords(error).errno === 'EFBIG' ? new TooLarge() : error;
  } finally {
    storage.close();
  }
  if (mode === 'falloc') reserveAll(path);
  if (mode === 'full') await interrupts.run(writeZeroes(path));
}
