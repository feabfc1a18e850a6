/**
 * The dialog with the visitor's disks: a list of them, newest use first, and the form for a fresh one. It asks for things through
 * `actions`, one at a time, and says what did not work. The guest runs on behind it.
 */
import { isQcow2Error } from 'qcow2-wasm/opfs';
import type { DemoDisk, DiskActions } from './disk-controls.js';
import { freeName } from './disk-names.js';
import { DiskRow } from './disk-row.js';
import type { JobStrip } from './job-strip.js';
import { NewDiskForm } from './new-disk-form.js';
import { messageOf } from './notice.js';
import { currentState, element, setText } from './page.js';

/** Where the focus goes when something has been done: a control of a row, if both are there then. */
interface FocusTarget {
  readonly disk: string;
  readonly control: string;
}

export class DisksDialog {
  readonly #dialog = element('disks-dialog', HTMLDialogElement);
  readonly #list = element('disk-list', HTMLUListElement);
  readonly #form: NewDiskForm;
  #rows: DiskRow[] = [];
  #isBusy = false;

  constructor(
    private readonly actions: DiskActions,
    private readonly strip: JobStrip,
  ) {
    this.#form = new NewDiskForm((name, passphrase) => this.#make(name, passphrase));
    element('disks-close', HTMLButtonElement).addEventListener('click', () => this.#dialog.close());
    this.#dialog.addEventListener('close', () => {
      strip.showIn(document.body);
      this.#form.clear();
    });
  }

  async open(): Promise<void> {
    setText('disks-problem', '');
    this.strip.showIn(this.#dialog);
    if (!this.#dialog.open) this.#dialog.showModal();
    await this.#attempt(() => Promise.resolve());
  }

  /** Starting something leaves the dialog: what comes of it is on the page. */
  async #start(name: string, passphrase?: string): Promise<void> {
    this.#dialog.close();
    await this.actions.start(name, passphrase).catch((error: unknown) => {
      // What ended a boot has a panel of its own.
      if (currentState() === 'error' || currentState() === 'locked') return;
      setText('disks-problem', words(error));
      void this.open();
    });
  }

  async #make(name: string, passphrase: string | undefined): Promise<void> {
    await this.actions.make(name, passphrase);
    await this.#start(name, passphrase);
  }

  async #duplicate({ name }: DemoDisk): Promise<void> {
    const newName = freeName(`${name} copy`, this.#names());
    const copy = () =>
      this.strip.run(`Copying “${name}” to “${newName}”`, (options) => this.actions.duplicate(name, newName, options));
    await this.#attempt(copy, [
      { disk: newName, control: 'rename' },
      { disk: name, control: 'duplicate' },
    ]);
  }

  async #delete({ name }: DemoDisk): Promise<void> {
    const index = this.#rows.findIndex(({ disk }) => disk.name === name);
    const neighbours = [this.#rows[index], this.#rows[index + 1], this.#rows[index - 1]];
    const targets = neighbours.flatMap((row) => (row ? [{ disk: row.disk.name, control: 'duplicate' }] : []));
    await this.#attempt(() => this.actions.delete(name), targets);
  }

  /** Does something, says what is wrong if it does not work, and lists what there is then. */
  async #attempt(work: () => Promise<void>, focus: readonly FocusTarget[] = []): Promise<void> {
    if (this.#isBusy) return;
    this.#setBusy(true);
    try {
      await work();
      setText('disks-problem', '');
    } catch (error) {
      if (!isQcow2Error(error, 'ABORTED')) setText('disks-problem', words(error));
    } finally {
      await this.#refresh().catch((error: unknown) => setText('disks-problem', words(error)));
      this.#setBusy(false);
      if (focus.length > 0) this.#focus(focus);
    }
  }

  #setBusy(isBusy: boolean): void {
    this.#isBusy = isBusy;
    this.#dialog.setAttribute('aria-busy', String(isBusy));
    element('disks-parts', HTMLFieldSetElement).disabled = isBusy;
  }

  async #refresh(): Promise<void> {
    const disks = await this.actions.list();
    this.#rows = disks.map((disk) => this.#row(disk));
    this.#list.replaceChildren(...this.#rows.map(({ root }) => root));
    element('disks-none', HTMLElement).hidden = disks.length > 0;
    this.#form.setTaken(this.#names());
  }

  #row(disk: DemoDisk): DiskRow {
    const { name } = disk;
    return new DiskRow(disk, {
      onStart: () => void this.#start(name),
      onDuplicate: () => void this.#duplicate(disk),
      onRename: (newName) =>
        void this.#attempt(
          () => this.actions.rename(name, newName),
          [
            { disk: newName, control: 'rename' },
            { disk: name, control: 'rename' },
          ],
        ),
      onDelete: () => void this.#delete(disk),
    });
  }

  /** On the first of `targets` that is there, else on what closes the dialog. */
  #focus(targets: readonly FocusTarget[]): void {
    const controls = targets.map(({ disk, control }) =>
      this.#rows.find((row) => row.disk.name === disk)?.control(control),
    );
    (controls.find((control) => control) ?? element('disks-close', HTMLButtonElement)).focus();
  }

  #names(): string[] {
    return this.#rows.map(({ disk }) => disk.name);
  }
}

function words(error: unknown): string {
  if (isQcow2Error(error, 'NO_SPACE')) {
    return 'There is no room for it in this browser’s storage, and nothing has changed. Delete a disk, or free some space, then try again.';
  }
  return isQcow2Error(error, 'BAD_ARGUMENT') || isQcow2Error(error, 'IN_USE')
    ? sentence(error.message)
    : messageOf(error);
}

function sentence(message: string): string {
  return `${message.slice(0, 1).toUpperCase()}${message.slice(1)}.`;
}
