/**
 * A form with passphrases: fields named `current`, `next` and `repeat`, as far as it has them and they are enabled, a box to show
 * what is typed, a line for what is wrong, and a button.
 *
 * Nothing that was typed stays in the page: the fields are emptied when the form has done its work, and when it is closed.
 */
import { isQcow2Error } from 'qcow2-wasm/opfs';
import { messageOf } from './notice.js';
import { complaintAbout, type Complaint, type FieldName, type PassphraseValues } from './passphrase-rules.js';

const FIELDS: readonly FieldName[] = ['current', 'next', 'repeat'];

/** Says how far it is, from 0 to 1. */
export type OnProgress = (fraction: number) => void;

export interface FormWork {
  /** On the button while `run` runs. */
  readonly busyLabel: string;
  /** Rejects with why it did not work; the visitor may try again then. */
  readonly run: (values: PassphraseValues, onProgress: OnProgress) => Promise<void>;
}

export class PassphraseForm {
  readonly #form: HTMLFormElement;
  readonly #button: HTMLButtonElement;
  readonly #label: string;
  #isBusy = false;

  constructor(form: HTMLFormElement, work: FormWork) {
    this.#form = form;
    this.#button = part(form, 'button[type=submit]', HTMLButtonElement);
    this.#label = this.#button.textContent;
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#submit(work);
    });
    part(form, 'input[name=show]', HTMLInputElement).addEventListener('change', () => this.#showTyped());
  }

  /** Empties the fields. */
  clear(): void {
    // The box to show them goes back with them.
    this.#form.reset();
    this.#showTyped();
    this.#complain(null);
  }

  focus(): void {
    this.#fields()[0]?.focus();
  }

  async #submit({ busyLabel, run }: FormWork): Promise<void> {
    if (this.#isBusy) return;
    const values = Object.fromEntries(this.#fields().map(({ name, value }) => [name, value])) as PassphraseValues;
    const complaint = complaintAbout(values);
    this.#complain(complaint);
    if (complaint) return;
    this.#setBusy(busyLabel);
    try {
      await run(values, (fraction) => this.#setBusy(`${busyLabel} ${Math.round(100 * fraction)} %`));
      this.#setBusy(null);
      this.clear();
    } catch (error) {
      this.#setBusy(null);
      this.#complain({ field: this.#fields()[0]?.name as FieldName, text: problemText(error) });
    }
  }

  /** The fields keep their focus meanwhile, which disabled ones would lose. */
  #setBusy(label: string | null): void {
    this.#isBusy = label !== null;
    this.#form.setAttribute('aria-busy', String(this.#isBusy));
    this.#button.disabled = this.#isBusy;
    this.#button.textContent = label ?? this.#label;
    for (const field of this.#fields()) field.readOnly = this.#isBusy;
  }

  #complain(complaint: Complaint | null): void {
    const line = part(this.#form, '.problem', HTMLElement);
    line.textContent = complaint?.text ?? '';
    for (const field of this.#fields()) field.removeAttribute('aria-invalid');
    const wrong = this.#fields().find(({ name }) => name === complaint?.field);
    if (!wrong) return;
    wrong.setAttribute('aria-invalid', 'true');
    wrong.focus();
    wrong.select();
  }

  #showTyped(): void {
    const shows = part(this.#form, 'input[name=show]', HTMLInputElement).checked;
    const inputs = this.#form.querySelectorAll<HTMLInputElement>(FIELDS.map((name) => `input[name=${name}]`).join());
    for (const input of inputs) input.type = shows ? 'text' : 'password';
  }

  #fields(): HTMLInputElement[] {
    return FIELDS.flatMap((name) => [...this.#form.querySelectorAll<HTMLInputElement>(`input[name=${name}]:enabled`)]);
  }
}

function problemText(error: unknown): string {
  if (isQcow2Error(error, 'WRONG_PASSPHRASE')) {
    return 'That passphrase does not open this disk. Check capital letters and the keyboard’s language, then try again.';
  }
  if (isQcow2Error(error, 'NO_SPACE')) {
    return 'There is no room for it in this browser’s storage, and nothing has changed. Free some space, then try again.';
  }
  return messageOf(error);
}

function part<T extends HTMLElement>(form: HTMLFormElement, selector: string, type: new () => T): T {
  const found = form.querySelector(selector);
  if (!(found instanceof type)) throw new Error(`the form "${form.id}" has no ${type.name} "${selector}"`);
  return found;
}
