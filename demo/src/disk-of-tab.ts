/**
 * Which disk this tab has to do with: what it is called, and whether it is still the same one.
 *
 * The identity is one object for as long as the tab has one disk, under whatever names and in whatever file. It is another one as soon as that
 * disk is closed for good or another one is chosen, also where that has the same name: what was asked of the first is not done to the second.
 */
import { FIRST_DISK } from './disk-names.js';

/** What the disk that is thrown away is called here; no stored one is. */
const THROWN_AWAY = '';

export class DiskOfTab {
  #name = FIRST_DISK;
  #identity: object = {};
  #isChosen = false;

  /** Of the disk that is open, or is opened next; that of no disk where it is thrown away. */
  get name(): string {
    return this.#name;
  }

  get identity(): object {
    return this.#identity;
  }

  get isThrownAway(): boolean {
    return this.#name === THROWN_AWAY;
  }

  /** The next disk to be opened is the one of this name. What was asked before the first choice of a visit is meant for that. */
  choose(name: string): void {
    if (this.#isChosen && name !== this.#name) this.end();
    this.#isChosen = true;
    this.#name = name;
  }

  /** The disk to be opened next is one that nobody keeps. */
  throwAway(): void {
    this.choose(THROWN_AWAY);
  }

  /** The same disk has this name now. */
  rename(name: string): void {
    this.#name = name;
  }

  /** The disk is closed for good; whatever is opened next, be it from the same file, is another one. */
  end(): void {
    this.#identity = {};
  }
}
