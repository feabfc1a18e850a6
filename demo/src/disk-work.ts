/** What is done with the disk as a whole, each in its turn: another one in its place, its protection, a copy of it. */
import { Qcow2Error } from 'qcow2-wasm/opfs';
import type { GuestLife } from './guest-life.js';
import { passphraseOfStagedImage, type PassphraseAsker } from './image-passphrase.js';
import { showRefusedReset } from './notice.js';
import { currentState, progressText, showProgress } from './page.js';
import type { SessionView } from './session-view.js';
import {
  changePassphraseOf,
  commitFreshDisk,
  commitStagedImage,
  stageFreshDisk,
  stageImage,
  stageProtectedCopy,
} from './stored-disk.js';
import type { Turns } from './turns.js';

export class DiskWork {
  constructor(
    private readonly life: GuestLife,
    private readonly turns: Turns,
    private readonly view: SessionView,
  ) {}

  /** Opens the stored disk and boots from it. What goes wrong is shown, not thrown. */
  start(): Promise<void> {
    return this.turns.take(() => this.life.boot({ offersResume: true })).catch(() => undefined);
  }

  /** The disk as one standalone qcow2. The guest stands still meanwhile: a write of it would have to wait for the end. */
  export(onProgress?: (fraction: number) => void): Promise<Blob> {
    return this.turns.take(async () => {
      const { machine, disk } = this.life.running();
      return machine.whileStopped(() =>
        disk.exportImage({ onProgress: ({ done, total }) => onProgress?.(total > 0 ? done / total : 1) }),
      );
    });
  }

  /**
   * Makes `image` the disk and boots from it. If it is refused, or nobody has its passphrase (`ABORTED`), nothing has changed
   * and the guest runs on.
   */
  openImage(image: Blob, ask: PassphraseAsker): Promise<void> {
    return this.turns.take(async () => {
      const line = progressText();
      const { encryption } = await stageImage(image, (fraction) =>
        showProgress(`Taking the image in: ${Math.round(100 * fraction)} %`, fraction),
      ).finally(() => showProgress(line, 1));
      const passphrase = encryption === null ? undefined : await passphraseOfStagedImage(ask);
      await this.life.shutDown();
      await this.life.boot({ prepare: commitStagedImage, offersResume: true, passphrase });
    });
  }

  /**
   * Throws the disk away and boots from a fresh overlay over the base, which `passphrase` protects, if there is one. The fresh one is made first:
   * if it can't be, nothing has changed and the guest runs on.
   */
  reset(passphrase?: string): Promise<void> {
    return this.turns.take(async () => {
      await stageFreshDisk(passphrase).catch((error: unknown) => {
        showRefusedReset(error);
        throw error;
      });
      await this.life.shutDown();
      await this.life.boot({ prepare: commitFreshDisk, passphrase });
    });
  }

  /** Boots again from the same disk. */
  restart(): Promise<void> {
    return this.turns.take(async () => {
      await this.life.endMachine();
      // A disk that takes no more writes does after it was opened anew. Any other stays open, and so needs no passphrase.
      const isSound = await this.life.disk?.flush().then(
        () => true,
        () => false,
      );
      if (!isSound) await this.life.shutDown();
      await this.life.boot();
    });
  }

  /** Opens the stored disk, which is `locked`, and boots from it. Rejects with `WRONG_PASSPHRASE`; it stays locked then. */
  unlock(passphrase: string): Promise<void> {
    return this.turns.take(async () => {
      if (currentState() !== 'locked') throw new Qcow2Error('BAD_ARGUMENT', 'there is no locked disk to be opened');
      await this.life.boot({ passphrase, offersResume: true });
    });
  }

  /**
   * Encrypts the disk, its snapshots too: a copy is made beside it, and takes its place in one step once `passphrase` has opened it.
   * The guest stands still meanwhile, and goes on.
   */
  protect(passphrase: string, onProgress?: (fraction: number) => void): Promise<void> {
    return this.turns.take(() =>
      this.life.whileState('protecting', async () => {
        const { machine, disk } = this.life.running();
        if (disk.info.encryption === 'luks') {
          throw new Qcow2Error('BAD_ARGUMENT', 'the disk is protected already; its passphrase can be changed');
        }
        const show = (fraction: number): void => {
          this.view.snapshots.showBusy({ what: 'Protecting the disk', fraction });
          onProgress?.(fraction);
        };
        await machine.whileStopped(async () => {
          await machine.attachment.flush();
          await stageProtectedCopy(disk, passphrase, show);
          await this.life.exchangeDisk(commitStagedImage, passphrase);
        });
      }),
    );
  }

  /** Another passphrase for a disk that has LUKS; the guest runs on. Rejects with `WRONG_PASSPHRASE` for the old one. */
  changePassphrase(passphrase: string, newPassphrase: string): Promise<void> {
    return this.turns.take(() => changePassphraseOf(this.life.running().disk, passphrase, newPassphrase));
  }
}
