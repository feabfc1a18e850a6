/**
 * The part of the page on what the site has stored in this browser: how much of what it may, what disks, snapshots and base images take, and
 * whether the browser may clear it by itself.
 *
 * Looking costs a worker and a few file headers, so it is done when something has changed, and now and then while the panel is in sight.
 */
import { keepStorage, removeBase, storageHealth, type KeptStorage, type StorageHealth } from 'qcow2-wasm/opfs';
import { usersOfBases } from './base-users.js';
import { clearedBases, noteSeen, type Ledger } from './disk-ledger.js';
import { messageOf } from './notice.js';
import { element, formatBytes, setText } from './page.js';
import { storageRows, type BaseRow, type Knowledge, type StorageRow } from './storage-rows.js';
import { directory } from './stored-disk.js';

const LOOK_MILLISECONDS = 15_000;

/** From here on the page says that room runs out. */
const NEARLY_FULL = 0.9;

const KEPT_WORDS: Record<KeptStorage, string> = {
  kept: 'The browser keeps it: it will not clear it by itself.',
  refused:
    'The browser did not promise it. It may later, once this site is used more often, or bookmarked or installed.',
  unsupported: 'This browser makes no such promise.',
};

/** Puts the panel in sight, with the focus on what can be done there. */
export function goToStorage(): void {
  const section = element('storage', HTMLElement);
  section.scrollIntoView({ block: 'nearest' });
  const keep = element('storage-keep', HTMLButtonElement);
  (keep.hidden ? section : keep).focus();
}

/** What is asked of the guest of this tab; rejects while there is none. */
export interface OpenDiskFacts {
  /** With what deleting each would free, in bytes. */
  listSnapshots(): Promise<readonly { readonly ownBytes: number }[]>;
  stats(): Promise<{ readonly path: string }>;
}

export class StoragePanel {
  readonly #open: OpenDiskFacts;
  readonly #before: Ledger;
  readonly #rows = element('storage-rows', HTMLElement);
  #looking: Promise<void> | null = null;
  #isWanted = false;
  #isInSight = false;
  #isNoting = false;
  /** What was cleared is told for the whole visit; afterwards it is here again. */
  #cleared: readonly string[] | null = null;

  /** @param before the ledger as it was before anything of this visit looked. */
  constructor(open: OpenDiskFacts, before: Ledger) {
    this.#open = open;
    this.#before = before;
    element('storage-keep', HTMLButtonElement).addEventListener('click', () => void this.#keep());
    const section = element('storage', HTMLElement);
    new IntersectionObserver(([entry]) => {
      this.#isInSight = entry?.isIntersecting === true;
      if (this.#isInSight) void this.look();
    }).observe(section);
    setInterval(() => {
      if (this.#isInSight && document.visibilityState === 'visible') void this.look();
    }, LOOK_MILLISECONDS);
    // The guest has another disk, or is another one, or has ended.
    new MutationObserver(() => void this.look()).observe(document.documentElement, { attributeFilter: ['data-state'] });
  }

  /** What is missed is known: from here on the ledger has what is seen. */
  startNoting(): Promise<void> {
    this.#isNoting = true;
    return this.look();
  }

  /** Shows what there is now. Resolves when it does; a failure is shown, too. */
  look(): Promise<void> {
    this.#isWanted = true;
    this.#looking ??= this.#lookWhileWanted().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  /** What changes during a look may be missing in it. */
  async #lookWhileWanted(): Promise<void> {
    while (this.#isWanted) {
      this.#isWanted = false;
      await this.#lookNow();
    }
  }

  async #lookNow(): Promise<void> {
    try {
      const lookedAt = Date.now();
      const health = await storageHealth({ directory });
      const users = await usersOfBases(directory);
      this.#cleared ??= clearedBases(this.#before, health.bases).map(({ identity }) => identity);
      if (this.#isNoting) noteSeen(health, lookedAt);
      this.#show(health, storageRows(health, { users, snapshots: await this.#snapshots(), cleared: this.#cleared }));
    } catch (error) {
      setText('storage-text', `can't be told: ${messageOf(error)}`);
    }
  }

  /** Those of the disk that this tab has. */
  async #snapshots(): Promise<Knowledge['snapshots']> {
    try {
      const [list, { path }] = await Promise.all([this.#open.listSnapshots(), this.#open.stats()]);
      return { disk: path.split('/').at(-1) ?? path, bytes: list.reduce((sum, { ownBytes }) => sum + ownBytes, 0) };
    } catch {
      return null;
    }
  }

  #show(health: StorageHealth, rows: readonly StorageRow[]): void {
    const { usage, quota, persisted } = health;
    const share = usage !== null && quota !== null && quota > 0 ? usage / quota : 0;
    setText('storage-text', usage === null ? '' : usedText(usage, quota));
    element('storage', HTMLElement).classList.toggle('nearly-full', share >= NEARLY_FULL);
    element('storage-full', HTMLElement).hidden = share < NEARLY_FULL;
    element('storage-keep', HTMLButtonElement).hidden = persisted !== false;
    const total = rows.reduce((sum, { bytes }) => sum + bytes, 0);
    element('storage-bar', HTMLElement).replaceChildren(...rows.map((row) => segment(row, total)));
    this.#rows.replaceChildren(...rows.map((row) => this.#line(row)));
    if (persisted === true) setText('storage-kept', KEPT_WORDS.kept);
    else if (element('storage-kept', HTMLElement).textContent === '') {
      setText('storage-kept', 'The browser may clear all of it when room is short.');
    }
  }

  #line(row: StorageRow): HTMLElement {
    const line = document.createElement('li');
    line.dataset['kind'] = row.kind;
    const name = document.createElement('span');
    name.className = 'name';
    name.textContent = row.name;
    const note = document.createElement('span');
    note.className = 'note';
    note.textContent = row.note;
    const size = document.createElement('span');
    size.className = 'size';
    size.textContent = formatBytes(row.bytes);
    line.append(name, note, size);
    if (row.kind === 'base' && row.isRemovable) line.append(this.#removeButton(row));
    return line;
  }

  #removeButton({ base, name }: BaseRow): HTMLButtonElement {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'inline';
    button.textContent = 'Remove';
    button.setAttribute('aria-label', `Remove what is kept of ${name}`);
    button.addEventListener('click', async () => {
      button.disabled = true;
      try {
        await removeBase(base);
        setText('storage-kept', `${name} was removed: ${formatBytes(base.bytes)} are free.`);
      } catch (error) {
        setText('storage-kept', messageOf(error));
      }
      await this.look();
      // What had the focus is gone.
      element('storage', HTMLElement).focus();
    });
    return button;
  }

  async #keep(): Promise<void> {
    const answer = await keepStorage();
    setText('storage-kept', KEPT_WORDS[answer]);
    await this.look();
  }
}

function usedText(usage: number, quota: number | null): string {
  return quota === null ? `${formatBytes(usage)} used` : `${formatBytes(usage)} of ${formatBytes(quota)} used`;
}

function segment({ kind, bytes }: StorageRow, total: number): HTMLElement {
  const part = document.createElement('i');
  part.dataset['kind'] = kind;
  part.style.flexGrow = String(total === 0 ? 0 : bytes / total);
  return part;
}
