/** What is done with the snapshots of the guest that runs, each in its turn. */
import { Qcow2Error } from 'qcow2-wasm/opfs';
import type { MachineSnapshot } from 'qcow2-wasm/v86';
import { storeCheckpointChoice, type CheckpointSeconds } from './checkpoint-choice.js';
import type { DiskTurns } from './disk-turns.js';
import type { GuestLife } from './guest-life.js';
import type { GuestSnapshots, SnapshotRef } from './guest-snapshots.js';
import { hideNotice } from './notice.js';
import { showProgress } from './page.js';
import type { SessionView } from './session-view.js';

export class SnapshotWork {
  constructor(
    private readonly life: GuestLife,
    private readonly turns: DiskTurns,
    private readonly view: SessionView,
  ) {}

  /** Oldest first. */
  async list(): Promise<MachineSnapshot[]> {
    return this.#snapshots().list();
  }

  /** Takes a snapshot of the machine as it is, in place of one of that name. The guest stands still meanwhile. */
  save(name: string): Promise<MachineSnapshot> {
    // Who keeps this guest has chosen it.
    this.view.offer.withdraw();
    return this.turns.ofThis(() =>
      this.life.whileState('saving', async () => {
        const show = (fraction: number | null): void =>
          this.view.snapshots.showBusy({ what: `Saving “${name}”`, fraction });
        show(null);
        return this.#snapshots().save(name, show);
      }),
    );
  }

  /** The machine and its disk become what they were. If that is refused, nothing has changed and the guest runs on. */
  load(choice: SnapshotRef, verb: string): Promise<MachineSnapshot> {
    return this.turns.ofThis(() =>
      this.life.whileState('restoring', async () => {
        const startedAt = performance.now();
        this.view.offer.withdraw();
        this.view.snapshots.showBusy({ what: 'Restoring', fraction: null });
        const snapshot = await this.#snapshots().load(choice);
        this.life.forgetBoot();
        hideNotice();
        showProgress(`${verb} in ${((performance.now() - startedAt) / 1000).toFixed(1)} s`, 1);
        return snapshot;
      }),
    );
  }

  delete(choice: SnapshotRef): Promise<void> {
    return this.turns.ofThis(async () => {
      this.view.snapshots.showBusy({ what: 'Deleting', fraction: null });
      try {
        await this.#snapshots().delete(choice);
      } finally {
        await this.life.showSnapshots();
        this.view.snapshots.showBusy(null);
      }
    });
  }

  /** From now on, on later visits too. */
  checkpointEvery(seconds: CheckpointSeconds): Promise<void> {
    storeCheckpointChoice(seconds);
    // What ends a change starts the checkpoints, as they are chosen by then.
    return this.turns.ofAny(() => Promise.resolve());
  }

  #snapshots(): GuestSnapshots {
    const { snapshots } = this.life;
    if (!snapshots) throw new Qcow2Error('CLOSED', 'no guest is running');
    return snapshots;
  }
}
