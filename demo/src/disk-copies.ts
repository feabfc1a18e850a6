/** What makes a disk out of another one, or out of an image from elsewhere. It takes its time, and can be ended by a signal. */
import { duplicateFile, type ImageSource, type JobOptions } from 'qcow2-wasm/opfs';
import { fileNameOf } from './disk-names.js';
import { requireFree, requireThere, takeName } from './disk-shelf.js';
import { oneAtTheDoor } from './door.js';
import { passphraseOfStagedImage, type PassphraseAsker } from './image-passphrase.js';
import { commitNewDisk, directory, discardStagedImage, stageImage, stageFile } from './stored-disk.js';

export interface CopyOptions {
  /** From 0 to 1. */
  readonly onProgress?: ((fraction: number) => void) | undefined;
  /** Rejects with `ABORTED`; nothing has changed then. */
  readonly signal?: AbortSignal | undefined;
}

/** Of a disk that is closed. Rejects with `IN_USE` for one that is not, `BAD_ARGUMENT` if the new name is taken. */
export async function duplicateClosedDisk(name: string, newName: string, options: CopyOptions): Promise<void> {
  await requireThere(name);
  await requireFree(newName);
  await duplicateFile({ directory, name: fileNameOf(name) }, fileNameOf(newName), jobOptions(options));
}

/** Stores a file on its way in. */
export type StoreFile = (file: Blob, options: CopyOptions) => Promise<void>;

/** Makes a disk of a file with a copy of one that is open. @param bring makes the file and stores it, while nothing else comes in. */
export function keepCopy(
  newName: string,
  bring: (store: StoreFile) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  return oneAtTheDoor(async () => {
    await bring((file, options) => stageFile(file, jobOptions(options)));
    await commitAs(newName);
  }, signal);
}

export interface Intake extends CopyOptions {
  /** Of the new disk. */
  readonly name: string;
  /** Asks for the passphrase of an image that is encrypted. */
  readonly ask: PassphraseAsker;
}

/**
 * Makes a disk of an image from elsewhere: a file of the visitor's, or an address. Resolves with its passphrase, if it has one. If it is refused, or nobody has its passphrase
 * (`ABORTED`), there is no new disk.
 */
export function takeInImage(image: ImageSource, { name, ask, ...options }: Intake): Promise<string | undefined> {
  return oneAtTheDoor(async () => {
    await requireFree(name);
    const { encryption } = await stageImage(image, jobOptions(options));
    const passphrase = encryption === null ? undefined : await passphraseOfStagedImage(ask);
    await commitAs(name);
    return passphrase;
  }, options.signal);
}

/** Somebody may have taken the name meanwhile. */
async function commitAs(name: string): Promise<void> {
  try {
    await takeName(name, () => commitNewDisk(name));
  } catch (error) {
    await discardStagedImage();
    throw error;
  }
}

export function jobOptions({ onProgress, signal }: CopyOptions): JobOptions {
  return {
    ...(onProgress && { onProgress: ({ done, total }) => onProgress(total > 0 ? done / total : 1) }),
    ...(signal && { signal }),
  };
}
