/**
 * The snapshots of one machine as the page has them: each takes a picture and the text of the serial console along, and a
 * restore shows them again. One call at a time (`session.ts` sees to it), and checkpoints only between two calls.
 */
import { isQcow2Error, Qcow2Error, type Checkpoints, type MachineSnapshot } from 'qcow2-wasm/v86';
import { CHECKPOINTS_KEPT, checkpointChoice } from './checkpoint-choice.js';
import type { GuestConsole } from './guest-console.js';
import type { GuestMachine } from './guest-machine.js';

/** One snapshot: by its id; or by a name, of several the newest, and by an id only where no snapshot has that name. */
export type SnapshotRef = string | { readonly id: string };

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
      picture: () => this.#capture(),
      onProgress: ({ done, total }) => onProgress(total > 0 ? done / total : 1),
    });
  }

  /**
   * The guest goes on from there. Rejects with a `Qcow2Error`, and the guest of before runs on if it ran; but after
   * `V86_SEAM` the machine stands still until another snapshot is loaded, because disk and memory are of two moments.
   */
  async load(choice: SnapshotRef): Promise<MachineSnapshot> {
    const { attachment } = this.machine;
    const key = await this.#keyOf(choice);
    let goesOn = this.machine.isRunning;
    // A guest that boots would only take the time that reading the state needs.
    await attachment.quiesce();
    try {
      const snapshot = await attachment.loadSnapshot(key);
      goesOn = true;
      // Before the first instruction: what the guest prints then belongs below what it had printed.
      const notes = await this.console.replay(snapshot.picture);
      this.machine.noteRestored(notes?.halted ?? false);
      return snapshot;
    } catch (error) {
      if (isQcow2Error(error, 'V86_SEAM')) goesOn = false;
      throw error;
    } finally {
      if (goesOn) await this.machine.run();
    }
  }

  /** Rejects with a `Qcow2Error`; the guest runs on either way. */
  async delete(choice: SnapshotRef): Promise<void> {
    await this.machine.attachment.deleteSnapshot(await this.#keyOf(choice));
  }

  async #keyOf(choice: SnapshotRef): Promise<{ readonly id: string }> {
    if (typeof choice !== 'string') return choice;
    const snapshots = await this.list();
    const found = snapshots.findLast(({ name }) => name === choice) ?? snapshots.find(({ id }) => id === choice);
    if (!found) throw new Qcow2Error('NOT_FOUND', `no snapshot has the name or the id "${choice}"`);
    return { id: found.id };
  }

  #capture(): Promise<Uint8Array | null> {
    return this.console.capture({ halted: this.machine.isHalted });
  }

  /** Takes checkpoints as the visitor chose. */
  startCheckpoints(): void {
    const seconds = checkpointChoice();
    if (seconds === null || this.#checkpoints) return;
    this.#checkpoints = this.machine.attachment.checkpoint({
      seconds,
      keep: CHECKPOINTS_KEPT,
      picture: () => this.#capture(),
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
