/** One disk in the list of disks: what it is, what can be done with it, the form that renames it, and the question before it is deleted. */
import type { DemoDisk } from './disk-controls.js';
import { MAXIMUM_NAME_LENGTH, tidyName } from './disk-names.js';
import { element, formatBytes } from './page.js';
import { age } from './time-words.js';

export interface DiskRowEvents {
  readonly onStart: () => void;
  readonly onDuplicate: () => void;
  /** @param newName tidy, and another one than before. */
  readonly onRename: (newName: string) => void;
  readonly onDelete: () => void;
}

export class DiskRow {
  readonly root: HTMLLIElement;
  readonly #parts: Record<'choice' | 'rename' | 'confirm', HTMLElement>;

  constructor(
    readonly disk: DemoDisk,
    private readonly events: DiskRowEvents,
  ) {
    const copy = element('disk-row', HTMLTemplateElement).content.cloneNode(true) as DocumentFragment;
    this.root = copy.querySelector('li')!;
    this.#parts = { choice: this.#part('.choice'), rename: this.#part('.rename'), confirm: this.#part('.confirm') };
    this.#fill();
    this.#connect();
  }

  /** The button or field of that name. */
  control(name: string): HTMLElement | null {
    return this.root.querySelector<HTMLElement>(`[name="${name}"]`);
  }

  #fill(): void {
    const { name, open, encryption } = this.disk;
    this.#part('h3').textContent = name;
    this.#part('.badge').textContent = open === 'here' ? 'open here' : open === 'elsewhere' ? 'in another tab' : '';
    this.root.classList.toggle('here', open === 'here');
    this.root.classList.toggle('locked', encryption !== null);
    this.#part('.facts').textContent = factsOf(this.disk);
    for (const button of this.root.querySelectorAll('button')) {
      const verb = button.dataset['verb'];
      if (verb !== undefined) button.setAttribute('aria-label', `${verb} “${name}”`);
    }
    const [start, remove] = [this.#button('start'), this.#button('delete')];
    start.hidden = open === 'here';
    start.disabled = open === 'elsewhere';
    for (const button of [this.#button('duplicate'), this.#button('rename')]) button.disabled = open === 'elsewhere';
    remove.disabled = open !== null;
    this.#part('.why').textContent = whyNot(this.disk);
  }

  #connect(): void {
    this.#button('start').addEventListener('click', () => this.events.onStart());
    this.#button('duplicate').addEventListener('click', () => this.events.onDuplicate());
    this.#button('rename').addEventListener('click', () => this.#openRename());
    this.#button('delete').addEventListener('click', () => this.#show('confirm', 'keep'));
    this.#button('keep').addEventListener('click', () => this.#show('choice', 'delete'));
    this.#button('confirm').addEventListener('click', () => this.events.onDelete());
    this.#button('cancel').addEventListener('click', () => this.#show('choice', 'rename'));
    this.#parts.rename.addEventListener('submit', (event) => {
      event.preventDefault();
      const newName = tidyName(this.#field().value);
      if (newName === this.disk.name || newName === '') this.#show('choice', 'rename');
      else this.events.onRename(newName);
    });
    this.root.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || !this.#parts.choice.hidden) return;
      // The dialog around it stays open.
      event.preventDefault();
      this.#show('choice', this.#parts.rename.hidden ? 'delete' : 'rename');
    });
  }

  #openRename(): void {
    const field = this.#field();
    field.maxLength = MAXIMUM_NAME_LENGTH * 2;
    field.value = this.disk.name;
    this.#show('rename', 'name');
    field.select();
  }

  /** One of the three at a time, with the focus on `focus`. */
  #show(part: 'choice' | 'rename' | 'confirm', focus: string): void {
    for (const [name, root] of Object.entries(this.#parts)) root.hidden = name !== part;
    this.control(focus)?.focus();
  }

  #field(): HTMLInputElement {
    return this.control('name') as HTMLInputElement;
  }

  #button(name: string): HTMLButtonElement {
    return this.root.querySelector<HTMLButtonElement>(`button[name="${name}"]`)!;
  }

  #part(selector: string): HTMLElement {
    return this.root.querySelector<HTMLElement>(selector)!;
  }
}

function factsOf({ bytes, backingFile, encryption, isReadable, lastUsed }: DemoDisk): string {
  const base = backingFile?.replace(/#identity=.*/, '');
  const kind = !isReadable ? null : base === undefined ? 'standalone' : `over ${base}`;
  const lock = encryption === 'luks' ? 'protected' : encryption === 'aes' ? 'legacy AES' : null;
  return [formatBytes(bytes), kind, lock, `used ${age(new Date(lastUsed))}`]
    .filter((fact) => fact !== null)
    .join(' · ');
}

function whyNot({ open }: DemoDisk): string {
  if (open === 'elsewhere') return 'Close the other tab to start, copy, rename or delete it here.';
  return open === 'here' ? 'To delete it, start another disk first.' : '';
}
