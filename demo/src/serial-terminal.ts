/** The serial console: xterm.js on the guest's first serial port. */
import { FitAddon } from '@xterm/addon-fit';
import { Terminal, type IBufferCell, type IBufferLine } from '@xterm/xterm';
import { pictureOfText, TEXT_LINES, type ColouredLine } from './thumbnail.js';

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

/** The colours that programs choose by number. */
const PALETTE = [
  THEME.black,
  THEME.red,
  THEME.green,
  THEME.yellow,
  THEME.blue,
  THEME.magenta,
  THEME.cyan,
  THEME.white,
] as const;

export class SerialTerminal {
  readonly #terminal: Terminal;
  #pending: number[] = [];
  #timer: ReturnType<typeof setTimeout> | null = null;
  #replaying = false;

  /** @param onInput what the visitor types, as the guest is to get it. */
  constructor(container: HTMLElement, onInput: (text: string) => void) {
    this.#terminal = new Terminal({
      fontFamily: getComputedStyle(container).getPropertyValue('--mono') || 'monospace',
      fontSize: window.innerWidth < 560 ? 12 : 14,
      scrollback: 5000,
      cursorBlink: !matchMedia('(prefers-reduced-motion: reduce)').matches,
      screenReaderMode: true,
      theme: THEME,
    });
    const fit = new FitAddon();
    this.#terminal.loadAddon(fit);
    this.#terminal.open(container);
    fit.fit();
    new ResizeObserver(() => fit.fit()).observe(container);
    // A terminal answers some of what is printed; the guest got those answers when it printed them.
    this.#terminal.onData((text) => this.#replaying || onInput(text));
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

  /** Shows `text` as if the guest had printed it just now, in place of what there is. */
  async replay(text: string): Promise<void> {
    this.clear();
    this.#replaying = true;
    await this.#write(text);
    this.#replaying = false;
  }

  /** Calls `listener` when the visitor presses a key here. */
  onKey(listener: () => void): void {
    this.#terminal.onKey(listener);
  }

  focus(): void {
    this.#terminal.focus();
  }

  /** A small picture of the last lines. */
  async picture(): Promise<Uint8Array> {
    this.#flush();
    await this.#write('');
    const { active } = this.#terminal.buffer;
    const lines: ColouredLine[] = [];
    // Up to the cursor's line, or what is printed below it.
    for (let row = active.baseY + this.#terminal.rows - 1; row >= 0 && lines.length < TEXT_LINES; row--) {
      const line = active.getLine(row);
      if (line && (lines.length > 0 || row <= active.baseY + active.cursorY || line.translateToString(true) !== ''))
        lines.unshift(colouredLine(line));
    }
    return pictureOfText(lines, THEME.background, this.#terminal.options.fontFamily ?? 'monospace');
  }

  /** Resolves when it is on the screen. */
  #write(text: string): Promise<void> {
    return new Promise((resolve) => this.#terminal.write(text, resolve));
  }

  #flush(): void {
    this.#timer = null;
    const bytes = Uint8Array.from(this.#pending);
    this.#pending = [];
    this.#terminal.write(bytes);
  }
}

function colouredLine(line: IBufferLine): ColouredLine {
  const runs: { text: string; colour: string }[] = [];
  for (let column = 0; column < line.length; column++) {
    const cell = line.getCell(column);
    // A wide character is followed by a cell of width 0.
    if (!cell || cell.getWidth() === 0) continue;
    const colour = colourOf(cell);
    const text = cell.getChars() || ' ';
    const last = runs.at(-1);
    if (last?.colour === colour) last.text += text;
    else runs.push({ text, colour });
  }
  return runs;
}

/** Bright colours are their plain ones here, and the 240 others are plain text. */
function colourOf(cell: IBufferCell): string {
  const number = cell.getFgColor();
  if (!cell.isFgPalette() || number >= 2 * PALETTE.length) return THEME.foreground;
  return PALETTE[number % PALETTE.length] ?? THEME.foreground;
}
