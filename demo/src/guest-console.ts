/**
 * What the guest says and shows: the text of its serial port, whether it has said that it is ready, and pictures of both
 * screens for its snapshots.
 */
import { notesOf, packPicture } from './picture-file.js';
import type { SerialTerminal } from './serial-terminal.js';
import type { VgaScreen } from './vga-screen.js';

const READY_MARK = 'GUEST-READY';
const LINE_FEED = 0x0a;

export class GuestConsole {
  #output = '';
  #decoder = new TextDecoder();
  #ready = false;
  #lastUsed: 'serial' | 'screen' = 'serial';

  constructor(
    readonly terminal: SerialTerminal,
    readonly screen: VgaScreen,
    private readonly onReady: () => void,
  ) {}

  /** Everything the guest printed on its serial port since this boot; after a restore, what came back and all since. */
  get output(): string {
    return this.#output;
  }

  /** Whether the guest has printed its mark. */
  get ready(): boolean {
    return this.#ready;
  }

  /** Which of the two the visitor types on from here on. */
  use(console: 'serial' | 'screen'): void {
    this.#lastUsed = console;
  }

  /** Empties both for the next machine. */
  clear(): void {
    this.terminal.clear();
    this.screen.clear();
    this.#begin('', false);
  }

  receive(byte: number): void {
    this.terminal.writeByte(byte);
    this.#output += this.#decoder.decode(Uint8Array.of(byte), { stream: true });
    // Looked for where a line ends: not again for every byte.
    if (byte !== LINE_FEED || this.#ready || !this.#output.includes(READY_MARK)) return;
    this.#ready = true;
    this.onReady();
  }

  /** What a snapshot of now is to take along; null where no picture can be had, which is no reason to take none. */
  async capture(): Promise<Uint8Array | null> {
    try {
      const image = await this.#picture();
      return image && (await packPicture(image, { ready: this.#ready, serial: this.#output }));
    } catch (error) {
      console.warn('the snapshot gets no picture', error);
      return null;
    }
  }

  /** Shows the serial console as it was when `picture` was captured. A guest of somebody else's snapshot is taken to be ready. */
  async replay(picture: Uint8Array | null): Promise<void> {
    const notes = picture && (await notesOf(picture));
    this.#begin(notes?.serial ?? '', notes?.ready ?? true);
    await this.terminal.replay(notes ? notes.serial : '\x1b[2m(restored; Enter for a prompt)\x1b[0m\r\n');
  }

  #begin(output: string, ready: boolean): void {
    this.#output = output;
    this.#ready = ready;
    this.#decoder = new TextDecoder();
  }

  /** Of the screen when it draws or was used last, or the serial port is silent; else of the serial console. */
  #picture(): Promise<Uint8Array | null> {
    const showsScreen = this.screen.isGraphical || this.#lastUsed === 'screen' || this.#output === '';
    return showsScreen ? this.screen.picture() : this.terminal.picture();
  }
}
