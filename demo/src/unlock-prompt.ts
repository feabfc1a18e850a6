/** The prompt for the passphrase of the stored disk. It lies over the console, which has nothing to say before it is answered. */
import { element } from './page.js';
import { PassphraseForm } from './passphrase-form.js';

export interface UnlockActions {
  /** Rejects if the passphrase opens nothing. */
  unlock(passphrase: string): Promise<void>;
  /** For who has lost it. Asks first. */
  startOver(): void;
}

export class UnlockPrompt {
  readonly #form = element('unlock', HTMLFormElement);
  readonly #passphrase: PassphraseForm;
  readonly #download = element('download', HTMLButtonElement);

  constructor(actions: UnlockActions) {
    this.#passphrase = new PassphraseForm(this.#form, {
      busyLabel: 'Unlocking…',
      run: ({ current = '' }) => actions.unlock(current),
    });
    element('start-over', HTMLButtonElement).addEventListener('click', () => actions.startOver());
  }

  /** Nothing changes if it is shown already: its form says what was wrong. */
  show(): void {
    if (!this.#form.hidden) return;
    this.#form.hidden = false;
    this.#download.disabled = true;
    this.#passphrase.focus();
  }

  hide(): void {
    if (this.#form.hidden) return;
    this.#passphrase.clear();
    this.#form.hidden = true;
    this.#download.disabled = false;
  }
}
