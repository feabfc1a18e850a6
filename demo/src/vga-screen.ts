/** The VGA screen: scaled to the width there is, and the keyboard's owner while it has the focus. */
import type { V86 } from 'v86';

export class VgaScreen {
  #emulator: V86 | null = null;

  constructor(
    readonly container: HTMLElement,
    private readonly frame: HTMLElement,
  ) {
    container.addEventListener('focus', () => this.#emulator?.keyboard_set_enabled(true));
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

  /** The keys go to this machine's keyboard from here on; null for none. */
  use(emulator: V86 | null): void {
    this.#emulator = emulator;
    if (document.activeElement === this.container) emulator?.keyboard_set_enabled(true);
  }

  /** Empties the screen for the next machine: v86 leaves the last picture behind. */
  clear(): void {
    const text = document.createElement('div');
    text.className = 'text';
    const canvas = document.createElement('canvas');
    canvas.hidden = true;
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
