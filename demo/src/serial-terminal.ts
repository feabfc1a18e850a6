/** The serial console: xterm.js on the guest's first serial port. */
import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';

const FLUSH_MILLISECONDS = 16;

const THEME = {
  background: '#0b0e0f',
  foreground: '#d9d5ca',
  cursor: '#f2a93b',
  cursorAccent: '#0b0e0f',
  selectionBackground: '#3a4446',
  black: '#171b1d',
  red: '#ff8f7d',
  green: '#7bd39c',
  yellow: '#f2a93b',
  blue: '#7fb4e6',
  magenta: '#cf9be0',
  cyan: '#58c4b6',
  white: '#d9d5ca',
};

export class SerialTerminal {
  readonly #terminal: Terminal;
  #pending: number[] = [];
  #timer: ReturnType<typeof setTimeout> | null = null;

  /** @param onInput what the visitor types, as the guest is to get it. */
  constructor(container: HTMLElement, onInput: (text: string) => void) {
    this.#terminal = new Terminal({
      fontFamily: getComputedStyle(container).getPropertyValue('--mono') || 'monospace',
      fontSize: window.innerWidth < 560 ? 12 : 14,
      scrollback: 5000,
      cursorBlink: true,
      screenReaderMode: true,
      theme: THEME,
    });
    const fit = new FitAddon();
    this.#terminal.loadAddon(fit);
    this.#terminal.open(container);
    fit.fit();
    new ResizeObserver(() => fit.fit()).observe(container);
    this.#terminal.onData(onInput);
    this.#terminal.textarea?.setAttribute('aria-label', 'Serial console input');
  }

  /** Bytes come one by one; the terminal gets them in batches. */
  writeByte(byte: number): void {
    this.#pending.push(byte);
    if (this.#timer === null) this.#timer = setTimeout(() => this.#flush(), FLUSH_MILLISECONDS);
  }

  clear(): void {
    this.#flush();
    this.#terminal.reset();
  }

  focus(): void {
    this.#terminal.focus();
  }

  #flush(): void {
    this.#timer = null;
    const bytes = Uint8Array.from(this.#pending);
    this.#pending = [];
    this.#terminal.write(bytes);
  }
}
