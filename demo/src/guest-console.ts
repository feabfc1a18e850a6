/**
 * What the guest says and shows: the text of its serial port, whether it has said that it is ready, and pictures of both
 * screens for its snapshots.
 */
import { notesOf, packPicture, type PageNotes } from './picture-file.js';
import type { SerialTerminal } from './serial-terminal.js';
import type { VgaScreen } from './vga-screen.js';

const READY_MARK = 'GUEST-READY';
const LINE_FEED = 0x0a;

/** The guest stands still while its picture is made, and a page that nobody sees may take any time to draw one. */
const CAPTURE_MILLISECONDS = 1000;

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

  /** What a snapshot of now is to take along: where no picture can be had in time, the notes alone; null where not even those can. */
  async capture({ halted }: Pick<PageNotes, 'halted'>): Promise<Uint8Array | null> {
    const doWithout = (error: unknown): null => {
      console.warn('the snapshot gets no picture', error);
      return null;
    };
    const image = await inTime(this.#picture(), CAPTURE_MILLISECONDS).catch(doWithout);
    return packPicture(image, { ready: this.#ready, halted, serial: this.#output }).catch(doWithout);
  }

  /**
   * Shows the serial console as it was when `picture` was captured; resolves with the notes in it. A guest of somebody
   * else's snapshot, which has none, is taken to be ready.
   */
  async replay(picture: Uint8Array | null): Promise<PageNotes | null> {
    const notes = picture && (await notesOf(picture));
    this.#begin(notes?.serial ?? '', notes?.ready ?? true);
    await this.terminal.replay(notes ? notes.serial : '\x1b[2m(restored; Enter for a prompt)\x1b[0m\r\n');
    return notes;
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

/** What `job` resolves with, or null if that takes longer than `milliseconds`. */
async function inTime<T>(job: Promise<T>, milliseconds: number): Promise<T | null> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), milliseconds);
  });
  return Promise.race([job, late]).finally(() => clearTimeout(timer));
}
