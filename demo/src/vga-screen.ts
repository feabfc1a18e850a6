/** The VGA screen: scaled to the width there is, and the keyboard's owner while it has the focus. */
import type { V86 } from 'v86';
import { pictureOfScreen } from './thumbnail.js';

const MODIFIERS: ReadonlySet<string> = new Set(['Alt', 'AltGraph', 'CapsLock', 'Control', 'Meta', 'Shift']);

export class VgaScreen {
  #emulator: V86 | null = null;

  /** @param onUse called when the visitor comes to type here. */
  constructor(
    readonly container: HTMLElement,
    private readonly frame: HTMLElement,
    onUse: () => void,
  ) {
    container.addEventListener('focus', () => this.#emulator?.keyboard_set_enabled(true));
    container.addEventListener('focus', onUse);
    container.addEventListener('blur', () => this.#emulator?.keyboard_set_enabled(false));
    container.addEventListener('click', () => container.focus());
    // In the capture phase, before the emulator takes the key.
    window.addEventListener(
      'keydown',
      (event) => {
        if (event.key === 'Escape' && event.shiftKey && document.activeElement === container) {
          event.stopImmediatePropagation();
          container.blur();
        }
      },
      { capture: true },
    );
    new ResizeObserver(() => this.#scale()).observe(container);
    new ResizeObserver(() => this.#scale()).observe(frame);
  }

  /** Calls `listener` when the visitor presses a key here; one that only changes others is none. */
  onKey(listener: () => void): void {
    this.container.addEventListener('keydown', ({ key }) => MODIFIERS.has(key) || listener());
  }

  /** The keys go to this machine's keyboard from here on; null for none. */
  use(emulator: V86 | null): void {
    this.#emulator = emulator;
    if (document.activeElement === this.container) emulator?.keyboard_set_enabled(true);
  }

  /** Whether the guest draws, instead of writing text. */
  get isGraphical(): boolean {
    return this.container.querySelector('canvas')?.style.display === 'block';
  }

  /** A small picture of what is on it, or null without a machine. */
  async picture(): Promise<Uint8Array | null> {
    return this.#emulator && pictureOfScreen(this.#emulator);
  }

  /** Empties the screen for the next machine: v86 leaves the last picture behind. */
  clear(): void {
    const text = document.createElement('div');
    text.className = 'text';
    const canvas = document.createElement('canvas');
    // v86 shows one of the two, whichever the guest's mode asks for.
    canvas.style.display = 'none';
    this.container.replaceChildren(text, canvas);
  }

  #scale(): void {
    const { offsetWidth: width, offsetHeight: height } = this.container;
    if (width === 0) return;
    const scale = Math.min(1.25, this.frame.clientWidth / width);
    this.container.style.transform = scale === 1 ? '' : `scale(${scale})`;
    this.frame.style.height = `${Math.ceil(height * scale)}px`;
  }
}
