/** One snapshot in the panel: its picture, its facts, and what can be done with it. Deleting asks in the place of its buttons. */
import type { MachineSnapshot } from 'qcow2-wasm/v86';
import { element, formatBytes } from './page.js';
import { hasImage } from './picture-file.js';
import { showPicture } from './snapshot-picture.js';
import { age, duration } from './time-words.js';

export interface CardActions {
  readonly onRestore: (snapshot: MachineSnapshot) => void;
  readonly onDelete: (snapshot: MachineSnapshot) => void;
}

export class SnapshotCard {
  readonly root: HTMLElement;
  #snapshot: MachineSnapshot;

  constructor(snapshot: MachineSnapshot, { onRestore, onDelete }: CardActions) {
    const template = element('snapshot-card', HTMLTemplateElement);
    this.root = template.content.firstElementChild!.cloneNode(true) as HTMLElement;
    this.#snapshot = snapshot;
    this.#button('restore').addEventListener('click', () => onRestore(this.#snapshot));
    this.#button('delete').addEventListener('click', () => this.#ask(true));
    this.#button('keep').addEventListener('click', () => this.#ask(false));
    this.#button('confirm').addEventListener('click', () => onDelete(this.#snapshot));
    this.root.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && !this.#part('.confirm').hidden) this.#ask(false);
    });
    this.#fill();
    showPicture(this.#part('img') as HTMLImageElement, snapshot.picture);
  }

  /** The same snapshot, listed again: what it costs depends on the others. */
  update(snapshot: MachineSnapshot): void {
    this.#snapshot = snapshot;
    this.#fill();
  }

  showAge(): void {
    setPart(this.#part('time'), age(this.#snapshot.date));
  }

  /** Where the focus may go. */
  get firstButton(): HTMLButtonElement {
    const restore = this.#button('restore');
    return restore.disabled ? this.#button('delete') : restore;
  }

  /** Lets go of what the card holds besides its elements. */
  dispose(): void {
    showPicture(this.#part('img') as HTMLImageElement, null);
  }

  #fill(): void {
    const { name, date, ownBytes, stateBytes, runningSeconds, loadable, picture } = this.#snapshot;
    const title = this.#part('h3');
    setPart(title, name || '(no name)');
    title.title = name;
    const time = this.#part('time') as HTMLTimeElement;
    time.dateTime = date.toISOString();
    time.title = date.toLocaleString();
    this.showAge();
    const size = this.#part('.size');
    setPart(size, `+${formatBytes(ownBytes)}`);
    size.title = `${formatBytes(ownBytes)} of the file are this snapshot's alone: deleting it frees them`;
    setPart(this.#part('.ran'), stateBytes > 0 ? `guest up ${duration(runningSeconds)}` : 'disk only');
    const why = this.#part('.why');
    setPart(why, loadable ?? 'no picture');
    why.hidden = loadable === null && picture !== null && hasImage(picture);
    why.title = loadable ?? '';
    this.root.classList.toggle('foreign', loadable !== null);
    this.#button('restore').disabled = loadable !== null;
    this.#button('restore').setAttribute('aria-label', `Restore ${name}`);
    this.#button('delete').setAttribute('aria-label', `Delete ${name}`);
    this.#button('confirm').setAttribute('aria-label', `Delete ${name} for good`);
  }

  #ask(asking: boolean): void {
    this.#part('.choice').hidden = asking;
    this.#part('.confirm').hidden = !asking;
    this.#button(asking ? 'keep' : 'delete').focus();
  }

  #button(name: 'restore' | 'delete' | 'keep' | 'confirm'): HTMLButtonElement {
    return this.#part(`[name=${name}]`) as HTMLButtonElement;
  }

  #part(selector: string): HTMLElement {
    return this.root.querySelector<HTMLElement>(selector)!;
  }
}

function setPart(part: HTMLElement, text: string): void {
  if (part.textContent !== text) part.textContent = text;
}
