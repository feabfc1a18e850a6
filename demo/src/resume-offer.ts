/** The offer to go on from the newest snapshot, made while the guest boots. It lies over the console and moves nothing. */
import type { MachineSnapshot } from 'qcow2-wasm/v86';
import { element, setText } from './page.js';
import { notesOf } from './picture-file.js';
import { showPicture } from './snapshot-picture.js';
import { age } from './time-words.js';

export class ResumeOffer {
  readonly #panel = element('resume', HTMLElement);
  readonly #image = element('resume-picture', HTMLImageElement);
  #snapshot: MachineSnapshot | null = null;
  /** From a boot's start until the visitor has chosen: what comes too late to be offered is not. */
  #isOpen = false;

  /** @param onResume called with the snapshot that the visitor takes. */
  constructor(onResume: (snapshot: MachineSnapshot) => void) {
    element('resume-load', HTMLButtonElement).addEventListener('click', () => {
      const snapshot = this.#snapshot;
      this.withdraw();
      if (snapshot) onResume(snapshot);
    });
    element('resume-dismiss', HTMLButtonElement).addEventListener('click', () => this.withdraw());
  }

  /** A guest is about to boot: from here on the visitor may choose it by typing. */
  open(): void {
    this.#isOpen = true;
  }

  /**
   * Offers the newest of `snapshots` (oldest first) that this machine can load and whose guest had not powered off, if
   * there is one and the visitor has not chosen meanwhile.
   */
  async make(snapshots: readonly MachineSnapshot[]): Promise<void> {
    const newest = await newestToResume(snapshots);
    if (!newest || !this.#isOpen) return;
    this.#snapshot = newest;
    setText('resume-what', `“${newest.name}”, ${age(newest.date)}`);
    showPicture(this.#image, newest.picture);
    this.#panel.hidden = false;
  }

  /** These are the snapshots there are now: an offer of another is withdrawn. An id may be given again. */
  check(snapshots: readonly MachineSnapshot[]): void {
    const offered = this.#snapshot;
    if (!offered) return;
    const isThere = ({ id, date }: MachineSnapshot) => id === offered.id && date.getTime() === offered.date.getTime();
    if (!snapshots.some(isThere)) this.withdraw();
  }

  withdraw(): void {
    this.#isOpen = false;
    this.#panel.hidden = true;
    this.#snapshot = null;
    showPicture(this.#image, null);
  }
}

async function newestToResume(snapshots: readonly MachineSnapshot[]): Promise<MachineSnapshot | null> {
  for (const snapshot of snapshots.toReversed()) {
    if (snapshot.loadable !== null) continue;
    const notes = snapshot.picture && (await notesOf(snapshot.picture));
    if (!notes?.halted) return snapshot;
  }
  return null;
}
