/** The dialogs with passphrases: protect the disk, change its passphrase, and the one of an image that is being opened. */
import type { PassphraseAsker } from './image-passphrase.js';
import { showNotice, showPassphraseFailure } from './notice.js';
import { currentState, element } from './page.js';
import { PassphraseForm, type FormWork } from './passphrase-form.js';
import type { Session } from './session.js';

export function connectPassphraseDialogs(session: Session): void {
  connectProtect(session);
  connectChange(session);
}

function connectProtect(session: Session): void {
  const dialog = new PassphraseDialog('protect-dialog', {
    failure: 'The disk could not be protected',
    busyLabel: 'Protecting…',
    run: async ({ next = '' }, onProgress) => {
      // What ends the guest has a panel of its own.
      await session.protect(next, onProgress).catch(rethrowUnless(() => currentState() === 'error'));
      dialog.close();
      if (currentState() !== 'error') showProtected();
    },
  });
  element('protect', HTMLButtonElement).addEventListener('click', () => dialog.open());
}

function connectChange(session: Session): void {
  const dialog = new PassphraseDialog('change-dialog', {
    failure: 'The passphrase could not be changed',
    busyLabel: 'Changing…',
    run: async ({ current = '', next = '' }) => {
      await session.changePassphrase(current, next);
      dialog.close();
      showNotice({
        title: 'The passphrase was changed',
        advice:
          'The old one opens this disk no more. It still opens what was downloaded before, so download the disk again if that matters.',
        calm: true,
      });
    },
  });
  element('change-passphrase', HTMLButtonElement).addEventListener('click', () => dialog.open());
}

/** Asks for the passphrase of an image until one opens it, or the visitor has enough. */
export function imagePassphraseAsker(): PassphraseAsker {
  let answer: (passphrase: string | null) => void = () => undefined;
  let attempt: (passphrase: string) => Promise<void> = () => Promise.resolve();
  const dialog = new PassphraseDialog('image-dialog', {
    failure: null,
    busyLabel: 'Opening…',
    run: async ({ current = '' }) => {
      await attempt(current);
      answer(current);
      dialog.close();
    },
  });
  // Also when it was answered, which is too late to count.
  dialog.onClose(() => answer(null));
  return (tried) =>
    new Promise((resolve) => {
      [answer, attempt] = [resolve, tried];
      dialog.open();
    });
}

interface DialogWork extends FormWork {
  /** The title of the notice if it fails when the dialog was closed meanwhile; null: nobody waits for it then. */
  readonly failure: string | null;
}

/** A modal dialog with one form of passphrases in it, and a button to close it, which does not end what is under way. */
class PassphraseDialog {
  readonly #dialog: HTMLDialogElement;
  readonly #form: PassphraseForm;

  constructor(id: string, { failure, busyLabel, run }: DialogWork) {
    this.#dialog = element(id, HTMLDialogElement);
    this.#form = new PassphraseForm(this.#dialog.querySelector('form')!, {
      busyLabel,
      run: (values, onProgress) =>
        run(values, onProgress).catch((error: unknown) => {
          if (failure !== null && !this.#dialog.open) showPassphraseFailure(failure, error);
          throw error;
        }),
    });
    this.#dialog.querySelector('button.cancel')!.addEventListener('click', () => this.close());
    this.#dialog.addEventListener('close', () => this.#form.clear());
  }

  open(): void {
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#form.focus();
  }

  close(): void {
    this.#dialog.close();
  }

  onClose(listener: () => void): void {
    this.#dialog.addEventListener('close', listener);
  }
}

function showProtected(): void {
  showNotice({
    title: 'This disk is protected now',
    advice:
      'The passphrase is asked for on your next visit, and downloads of the disk have it too. The unprotected file was deleted; ' +
      'traces that a drive keeps of deleted files are out of a web page’s reach.',
    calm: true,
  });
}

function rethrowUnless(isShown: () => boolean): (error: unknown) => void {
  return (error) => {
    if (!isShown()) throw error;
  };
}
