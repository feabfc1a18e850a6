/** The form for a fresh disk: its name, and whether it is protected with a passphrase. */
import { freeName, isSameName, nameProblem, tidyName } from './disk-names.js';
import { element } from './page.js';
import { PassphraseForm } from './passphrase-form.js';

const DEFAULT_NAME = 'disk';

export class NewDiskForm {
  readonly #name = element('new-disk-name', HTMLInputElement);
  readonly #fields = element('new-disk-passphrase', HTMLFieldSetElement);
  readonly #protects = element('new-disk-protects', HTMLInputElement);
  readonly #form: PassphraseForm;
  #taken: readonly string[] = [];

  /** @param make rejects with why it can't be made. */
  constructor(make: (name: string, passphrase: string | undefined) => Promise<void>) {
    this.#form = new PassphraseForm(element('new-disk-form', HTMLFormElement), {
      busyLabel: 'Making it…',
      run: async ({ next }) => make(tidyName(this.#name.value), next),
    });
    this.#name.addEventListener('input', () => this.#judge());
    this.#protects.addEventListener('change', () => {
      this.#showFields();
      if (this.#protects.checked) this.#form.focus();
    });
    element('new-disk', HTMLDetailsElement).addEventListener('toggle', () => {
      if (element('new-disk', HTMLDetailsElement).open) this.#name.select();
    });
  }

  /** These names can't be had. */
  setTaken(names: readonly string[]): void {
    const wasDefault = this.#name.value === '' || this.#name.value === this.#default();
    this.#taken = names;
    if (wasDefault) this.#name.value = this.#default();
    this.#judge();
  }

  /** As it was before anything was typed. */
  clear(): void {
    this.#form.clear();
    this.#showFields();
    this.#name.value = this.#default();
    this.#judge();
    element('new-disk', HTMLDetailsElement).open = false;
  }

  #default(): string {
    return freeName(DEFAULT_NAME, this.#taken);
  }

  #showFields(): void {
    this.#fields.disabled = !this.#protects.checked;
    this.#fields.hidden = !this.#protects.checked;
  }

  /** The browser says it when the form is sent. */
  #judge(): void {
    const name = tidyName(this.#name.value);
    const other = this.#taken.find((taken) => isSameName(taken, name));
    const problem = nameProblem(name) ?? (other === undefined ? '' : `There is a disk “${other}” already.`);
    this.#name.setCustomValidity(problem);
  }
}
