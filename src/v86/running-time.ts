/** How long a machine has run: the time between its starts and stops, over all its lives in snapshots. Milliseconds. */
import type { V86Emulator } from './v86-types.js';

export class RunningTime {
  readonly #emulator: V86Emulator;
  /** What the machine had run when it came here from a snapshot, less what had run here by then. */
  #offset = 0;
  #elapsed = 0;
  #startedAt: number | null = null;

  constructor(emulator: V86Emulator) {
    this.#emulator = emulator;
    emulator.add_listener('emulator-started', this.#start);
    emulator.add_listener('emulator-stopped', this.#stop);
    if (emulator.is_running()) this.#start();
  }

  /** Since this object was made: it never jumps. */
  get here(): number {
    return this.#elapsed + (this.#startedAt === null ? 0 : performance.now() - this.#startedAt);
  }

  /** Since the machine first ran. */
  get total(): number {
    return this.here + this.#offset;
  }

  /** The machine goes on from a snapshot that was made at `total`. */
  goOnFrom(total: number): void {
    this.#offset = total - this.here;
  }

  dispose(): void {
    this.#emulator.remove_listener('emulator-started', this.#start);
    this.#emulator.remove_listener('emulator-stopped', this.#stop);
  }

  readonly #start = (): void => {
    this.#startedAt ??= performance.now();
  };

  readonly #stop = (): void => {
    this.#elapsed = this.here;
    this.#startedAt = null;
  };
}
