/**
 * The strip that tells of a long copy: what is done, how far it is, and the button that ends it. One at a time. It lies over the page,
 * or at the foot of the dialog that is open, so that nothing moves when it comes and goes, and it can be reached either way.
 */
import { Qcow2Error } from 'qcow2-wasm/opfs';
import type { CopyOptions } from './disk-copies.js';
import { element, setText } from './page.js';

export class JobStrip {
  readonly #strip = element('job', HTMLElement);
  readonly #bar = element('job-progress', HTMLProgressElement);
  #running: { readonly what: string; readonly end: AbortController } | null = null;

  constructor() {
    element('job-cancel', HTMLButtonElement).addEventListener('click', () => this.#running?.end.abort());
  }

  /** Shows `what` while `job` runs. Rejects as it does, and with `IN_USE` while another one runs. */
  async run<T>(what: string, job: (options: Required<CopyOptions>) => Promise<T>): Promise<T> {
    if (this.#running) throw new Qcow2Error('IN_USE', `“${this.#running.what}” is still under way: cancel it, or wait`);
    const end = new AbortController();
    this.#running = { what, end };
    setText('job-text', what);
    this.#bar.removeAttribute('value');
    this.#strip.hidden = false;
    try {
      return await job({ onProgress: (fraction) => (this.#bar.value = fraction), signal: end.signal });
    } finally {
      this.#running = null;
      this.#strip.hidden = true;
      setText('job-text', '');
    }
  }

  /** @param place the page's body, or the modal dialog that is open: what lies behind one can't be reached. */
  showIn(place: HTMLElement): void {
    place.append(this.#strip);
  }
}
