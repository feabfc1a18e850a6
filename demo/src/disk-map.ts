/**
 * The disk as a map: each cell is an equal part of it, left to right and down. A cell flashes when the guest reads or
 * writes there and keeps a trace of it until the next boot.
 */

const COLUMNS = 64;
const ROWS = 16;
const CELLS = COLUMNS * ROWS;
const FADE_MILLISECONDS = 900;
const FRAME_MILLISECONDS = 50;

const READ: Rgb = [88, 196, 182];
const WRITE: Rgb = [242, 169, 59];
const READ_BEFORE: Rgb = [56, 70, 72];
const WRITTEN_BEFORE: Rgb = [112, 82, 40];
const UNTOUCHED: Rgb = [22, 27, 29];

type Rgb = readonly [red: number, green: number, blue: number];

export class DiskMap {
  readonly #context: CanvasRenderingContext2D;
  readonly #readAt = new Float64Array(CELLS).fill(-Infinity);
  readonly #writtenAt = new Float64Array(CELLS).fill(-Infinity);
  #bytesPerCell = 1;
  #timer: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly canvas: HTMLCanvasElement) {
    const context = canvas.getContext('2d');
    if (!context) throw new Error('this browser has no 2D canvas');
    this.#context = context;
  }

  /** Forgets everything and shows a disk of `size` bytes. */
  start(size: number): void {
    this.#bytesPerCell = Math.max(1, Math.ceil(size / CELLS));
    this.#readAt.fill(-Infinity);
    this.#writtenAt.fill(-Infinity);
    this.#draw();
  }

  note(kind: 'read' | 'write', offset: number, length: number): void {
    const times = kind === 'read' ? this.#readAt : this.#writtenAt;
    const first = Math.floor(offset / this.#bytesPerCell);
    const last = Math.floor((offset + Math.max(1, length) - 1) / this.#bytesPerCell);
    times.fill(performance.now(), first, last + 1);
    if (this.#timer === null) this.#timer = setTimeout(() => this.#draw(), FRAME_MILLISECONDS);
  }

  #draw(): void {
    this.#timer = null;
    const now = performance.now();
    const width = this.canvas.width / COLUMNS;
    const height = this.canvas.height / ROWS;
    let isFading = false;
    for (let cell = 0; cell < CELLS; cell++) {
      const read = this.#readAt[cell]!;
      const written = this.#writtenAt[cell]!;
      const glow = Math.max(0, 1 - (now - Math.max(read, written)) / FADE_MILLISECONDS);
      isFading ||= glow > 0;
      const rest = written > -Infinity ? WRITTEN_BEFORE : read > -Infinity ? READ_BEFORE : UNTOUCHED;
      this.#context.fillStyle = mix(rest, written >= read ? WRITE : READ, glow);
      const [x, y] = [(cell % COLUMNS) * width, Math.floor(cell / COLUMNS) * height];
      this.#context.fillRect(x + 1, y + 1, width - 2, height - 2);
    }
    if (isFading) this.#timer = setTimeout(() => this.#draw(), FRAME_MILLISECONDS);
  }
}

function mix(from: Rgb, to: Rgb, share: number): string {
  const channel = (index: 0 | 1 | 2) => Math.round(from[index] + (to[index] - from[index]) * share);
  return `rgb(${channel(0)} ${channel(1)} ${channel(2)})`;
}
