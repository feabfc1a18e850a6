/** The passphrase of an encrypted image that was taken in: asked for until one opens it, or nobody has any. */
import { Qcow2Error } from 'qcow2-wasm/opfs';
import { discardStagedImage, tryStagedImage } from './stored-disk.js';

/**
 * Asks for a passphrase, and tries what it gets with `attempt`, which rejects with `WRONG_PASSPHRASE`. Resolves with one that was
 * right, or null if there is none to be had.
 */
export type PassphraseAsker = (attempt: (passphrase: string) => Promise<void>) => Promise<string | null>;

/** What scripts have instead of a dialog: one passphrase, or none. */
export function givenPassphrase(passphrase: string | undefined): PassphraseAsker {
  return async (attempt) => {
    if (passphrase === undefined) {
      throw new Qcow2Error('KEY_NEEDED', 'the image is encrypted, and no passphrase was given');
    }
    await attempt(passphrase);
    return passphrase;
  };
}

/** A passphrase that opens the image. Rejects if there is none, with `ABORTED` if `ask` gave up; the image is gone then. */
export async function passphraseOfStagedImage(ask: PassphraseAsker): Promise<string> {
  let attempt: Promise<void> = Promise.resolve();
  try {
    const passphrase = await ask((tried) => (attempt = tryStagedImage(tried)));
    if (passphrase === null) throw new Qcow2Error('ABORTED', 'the passphrase of the image was not given');
    return passphrase;
  } catch (error) {
    // Who gives up may do so while a passphrase is tried, and the image is open.
    await attempt.catch(() => undefined);
    await discardStagedImage();
    throw error;
  }
}
