/** The offer to go on from the newest snapshot, made while the guest boots. It lies over the console and moves nothing. */
import type { MachineSnapshot } from 'qcow2-wasm/v86';
import { element, setText } from './page.js';
import { showPicture } from './snapshot-picture.js';
import { age } from './time-words.js';

export class ResumeOffer {
  readonly #panel = element('resume', HTMLElement);
  readonly #image = element('resume-picture', HTMLImageElement);
  #snapshot: MachineSnapshot | null = null;

  /** @param onResume called with the snapshot that the visitor takes. */
  constructor(onResume: (snapshot: MachineSnapshot) => void) {
    element('resume-load', HTMLButtonElement).addEventListener('click', () => {
      const snapshot = this.#snapshot;
      this.withdraw();
      if (snapshot) onResume(snapshot);
    });
    element('resume-dismiss', HTMLButtonElement).addEventListener('click', () => this.withdraw());
  }

  /** Offers the newest of `snapshots` (oldest first) that this machine can load, if there is one. */
  make(snapshots: readonly MachineSnapshot[]): void {
    const newest = snapshots.findLast(({ loadable }) => loadable === null);
    if (!newest) return;
    this.#snapshot = newest;
    setText('resume-what', `“${newest.name}”, ${age(newest.date)}`);
    showPicture(this.#image, newest.picture);
    this.#panel.hidden = false;
  }

  /** These are the snapshots there are now: an offer of another is withdrawn. */
  check(snapshots: readonly MachineSnapshot[]): void {
    if (!snapshots.some(({ id }) => id === this.#snapshot?.id)) this.withdraw();
  }

  withdraw(): void {
    this.#panel.hidden = true;
    this.#snapshot = null;
    showPicture(this.#image, null);
  }
}
