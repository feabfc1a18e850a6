/**
 * The snapshots of one machine as the page has them: each takes a picture and the text of the serial console along, and a
 * restore shows them again. One call at a time (`session.ts` sees to it), and checkpoints only between two calls.
 */
import { isQcow2Error, type Checkpoints, type MachineSnapshot } from 'qcow2-wasm/v86';
import { CHECKPOINTS_KEPT, checkpointChoice } from './checkpoint-choice.js';
import type { GuestConsole } from './guest-console.js';
import type { GuestMachine } from './guest-machine.js';

export interface SnapshotEvents {
  /** A checkpoint was taken, and maybe an old one deleted. */
  readonly onCheckpoint: () => void;
  /** One could not be taken; there will be no more before `startCheckpoints`. */
  readonly onCheckpointFailed: (error: unknown) => void;
}

export class GuestSnapshots {
  #checkpoints: Checkpoints | null = null;

  constructor(
    private readonly machine: GuestMachine,
    private readonly console: GuestConsole,
    private readonly events: SnapshotEvents,
  ) {}

  /** Oldest first. */
  list(): Promise<MachineSnapshot[]> {
    return this.machine.attachment.listSnapshots();
  }

  /** @param onProgress from 0 to 1. Rejects with a `Qcow2Error`; the guest runs on either way. */
  save(name: string, onProgress: (fraction: number) => void): Promise<MachineSnapshot> {
    return this.machine.attachment.saveSnapshot(name, {
      picture: () => this.console.capture(),
      onProgress: ({ done, total }) => onProgress(total > 0 ? done / total : 1),
    });
  }

  /**
   * The guest goes on from there. Rejects with a `Qcow2Error`, and the guest of before runs on; but after `V86_SEAM` the
   * machine stands still, because disk and memory are of two moments.
   */
  async load(idOrName: string): Promise<MachineSnapshot> {
    const { attachment, emulator } = this.machine;
    // A guest that boots would only take the time that reading the state needs.
    await attachment.quiesce();
    let goesOn = true;
    try {
      const snapshot = await attachment.loadSnapshot(idOrName);
      // Before the first instruction: what the guest prints then belongs below what it had printed.
      await this.console.replay(snapshot.picture);
      return snapshot;
    } catch (error) {
      goesOn = !isQcow2Error(error, 'V86_SEAM');
      throw error;
    } finally {
      if (goesOn) await emulator.run();
    }
  }

  delete(idOrName: string): Promise<void> {
    return this.machine.attachment.deleteSnapshot(idOrName);
  }

  /** Takes checkpoints as the visitor chose. */
  startCheckpoints(): void {
    const seconds = checkpointChoice();
    if (seconds === null || this.#checkpoints) return;
    this.#checkpoints = this.machine.attachment.checkpoint({
      seconds,
      keep: CHECKPOINTS_KEPT,
      picture: () => this.console.capture(),
      onCheckpoint: this.events.onCheckpoint,
      onError: (error) => {
        void this.stopCheckpoints();
        this.events.onCheckpointFailed(error);
      },
    });
  }

  /** Resolves when none is under way any more. */
  async stopCheckpoints(): Promise<void> {
    const checkpoints = this.#checkpoints;
    this.#checkpoints = null;
    await checkpoints?.stop();
  }
}
