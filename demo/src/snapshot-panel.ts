/**
 * The panel of snapshots: a film of cards, newest first, and the form that takes one. It asks for things through `actions`
 * and shows what it is given; while something is under way nothing else can be asked for.
 */
import type { MachineSnapshot } from 'qcow2-wasm/v86';
import { checkpointChoice, type CheckpointSeconds } from './checkpoint-choice.js';
import { element, setText } from './page.js';
import { SnapshotCard } from './snapshot-card.js';
import { defaultName, nameBefore } from './snapshot-names.js';
import { age } from './time-words.js';

const AGE_MILLISECONDS = 5000;

/** None of them rejects: what goes wrong is shown. */
export interface SnapshotActions {
  /** The first four resolve with whether it worked. */
  save(name: string): Promise<boolean>;
  restore(snapshot: MachineSnapshot): Promise<boolean>;
  /** The same, as the first thing on a visit. */
  resume(snapshot: MachineSnapshot): Promise<boolean>;
  delete(snapshot: MachineSnapshot): Promise<boolean>;
  checkpointEvery(seconds: CheckpointSeconds): Promise<void>;
}

export class SnapshotPanel {
  readonly #root = element('snapshots', HTMLElement);
  readonly #list = element('snapshot-list', HTMLOListElement);
  readonly #name = element('snapshot-name', HTMLInputElement);
  readonly #take = element('snapshot-take', HTMLButtonElement);
  readonly #every = element('checkpoint-seconds', HTMLSelectElement);
  readonly #cards = new Map<string, SnapshotCard>();
  #snapshots: readonly MachineSnapshot[] = [];
  #focused: HTMLElement | null = null;

  constructor(private readonly actions: SnapshotActions) {
    element('snapshot-form', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#save();
    });
    this.#name.addEventListener('input', () => this.#showWhetherReplaced());
    this.#every.value = String(checkpointChoice() ?? '');
    this.#every.addEventListener('change', () => void actions.checkpointEvery(Number(this.#every.value) || null));
    setInterval(() => this.#cards.forEach((card) => card.showAge()), AGE_MILLISECONDS);
    this.#connectDialog();
  }

  /** The snapshots there are, oldest first; null when there is no machine to have any. */
  show(snapshots: readonly MachineSnapshot[] | null): void {
    const hadDefault = this.#name.value === '' || this.#name.value === defaultName(namesOf(this.#snapshots));
    this.#snapshots = snapshots ?? [];
    this.#take.disabled = snapshots === null;
    this.#renderCards();
    element('snapshot-none', HTMLElement).hidden = this.#snapshots.length > 0;
    if (hadDefault) this.#name.value = defaultName(namesOf(this.#snapshots));
    this.#showWhetherReplaced();
    if (this.#isBusy) return;
    setText('snapshot-text', summary(this.#snapshots));
    this.#returnFocus();
  }

  /** What is under way, with the part of it that is done (null: unknown), or null for nothing. */
  showBusy(busy: { readonly what: string; readonly fraction: number | null } | null): void {
    const progress = element('snapshot-progress', HTMLProgressElement);
    setText('snapshot-text', busy?.what ?? summary(this.#snapshots));
    if (busy?.fraction === null) progress.removeAttribute('value');
    else progress.value = busy?.fraction ?? 0;
    this.#disable(busy !== null);
  }

  /** What is disabled loses the focus; it comes back afterwards, unless the visitor has put it elsewhere. */
  #disable(disabled: boolean): void {
    const parts = element('snapshot-parts', HTMLFieldSetElement);
    if (this.#isBusy === disabled) return;
    if (disabled && parts.contains(document.activeElement)) this.#focused = document.activeElement as HTMLElement;
    this.#root.classList.toggle('busy', disabled);
    this.#root.setAttribute('aria-busy', String(disabled));
    parts.disabled = disabled;
    if (!disabled) this.#returnFocus();
  }

  get #isBusy(): boolean {
    return element('snapshot-parts', HTMLFieldSetElement).disabled;
  }

  #returnFocus(): void {
    if (document.activeElement === document.body && this.#focused?.isConnected) this.#focused.focus();
    this.#focused = null;
  }

  showCheckpointChoice(seconds: CheckpointSeconds): void {
    this.#every.value = String(seconds ?? '');
  }

  async #save(): Promise<void> {
    const name = this.#name.value.trim() || defaultName(namesOf(this.#snapshots));
    // The next one gets a name of its own.
    this.#name.value = '';
    if (await this.actions.save(name)) return;
    this.#name.value = name;
    this.#showWhetherReplaced();
  }

  /** Cards stay the same elements, so that neither focus nor place is lost when the list changes. */
  #renderCards(): void {
    const keys = new Set(this.#snapshots.map(keyOf));
    for (const [key, card] of this.#cards) {
      if (keys.has(key)) continue;
      const next = card.root.contains(this.#focused ?? document.activeElement) ? this.#neighbour(card) : null;
      card.dispose();
      card.root.remove();
      this.#cards.delete(key);
      if (next) this.#focused = next;
    }
    [...this.#snapshots].reverse().forEach((snapshot, index) => {
      const root = this.#card(snapshot).root;
      const there = this.#list.children[index] ?? null;
      if (there !== root) this.#list.insertBefore(root, there);
    });
  }

  #card(snapshot: MachineSnapshot): SnapshotCard {
    const key = keyOf(snapshot);
    const found = this.#cards.get(key);
    if (found) {
      found.update(snapshot);
      return found;
    }
    const card = new SnapshotCard(snapshot, {
      onRestore: (chosen) => this.#askToRestore(chosen),
      onDelete: (chosen) => void this.actions.delete(chosen),
    });
    this.#cards.set(key, card);
    return card;
  }

  /** Where the focus goes when a card goes. */
  #neighbour({ root }: SnapshotCard): HTMLElement {
    const sibling = root.nextElementSibling ?? root.previousElementSibling;
    return [...this.#cards.values()].find((card) => card.root === sibling)?.firstButton ?? this.#name;
  }

  #showWhetherReplaced(): void {
    const replaces = this.#snapshots.some(({ name }) => name === this.#name.value.trim());
    const label = replaces ? 'Replace it' : 'Take snapshot';
    if (this.#take.textContent !== label) this.#take.textContent = label;
  }

  #askToRestore(snapshot: MachineSnapshot): void {
    const { name, date } = snapshot;
    const dialog = element('confirm-restore', HTMLDialogElement);
    setText('restore-title', `Go back to “${name}”?`);
    setText('restore-age', age(date));
    element('restore-keep', HTMLInputElement).checked = false;
    dialog.dataset['snapshot'] = keyOf(snapshot);
    dialog.returnValue = '';
    dialog.showModal();
  }

  #connectDialog(): void {
    const dialog = element('confirm-restore', HTMLDialogElement);
    dialog.addEventListener('close', () => {
      const snapshot = this.#snapshots.find((one) => keyOf(one) === dialog.dataset['snapshot']);
      if (dialog.returnValue === 'restore' && snapshot) void this.#restore(snapshot);
    });
  }

  async #restore(snapshot: MachineSnapshot): Promise<void> {
    const keepsPresent = element('restore-keep', HTMLInputElement).checked;
    if (keepsPresent && !(await this.actions.save(nameBefore(snapshot.name, namesOf(this.#snapshots))))) return;
    await this.actions.restore(snapshot);
  }
}

/** An id may be given again after a snapshot was deleted. */
function keyOf({ id, date }: MachineSnapshot): string {
  return `${id} ${date.getTime()}`;
}

function namesOf(snapshots: readonly MachineSnapshot[]): string[] {
  return snapshots.map(({ name }) => name);
}

function summary(snapshots: readonly MachineSnapshot[]): string {
  if (snapshots.length === 0) return 'Memory, screen and disk, as one moment';
  return snapshots.length === 1 ? '1 in this disk' : `${snapshots.length} in this disk`;
}
