/** What is done with the disk as a whole, each in its turn: another one in its place, its protection, a copy of it. */
import { Qcow2Error, type ExportOptions, type OpfsDisk, type SaveTarget } from 'qcow2-wasm/opfs';
import { exportNext } from './backup-series.js';
import { diskOfAddress, lastUsed } from './disk-choice.js';
import type { Opening } from './disk-for-tab.js';
import { missingDisk } from './disk-ledger.js';
import { FIRST_DISK, fileNameOf, isSameName } from './disk-names.js';
import { duplicateClosedDisk, jobOptions, keepCopy, type CopyOptions } from './disk-copies.js';
import { clearUnusedBases, deleteDisk, diskNames, listDisks, renameDisk, requireFree } from './disk-shelf.js';
import type { GuestLife } from './guest-life.js';
import { showMissingDisk, showRefusedReset } from './notice.js';
import type { NoticeAction } from './notice-parts.js';
import { currentState, setState, showProgress } from './page.js';
import type { SessionView } from './session-view.js';
import {
  changePassphraseOf,
  commitStagedImage,
  oneAtTheDoor,
  stageFreshDisk,
  stageProtectedCopy,
} from './stored-disk.js';
import type { Turns } from './turns.js';

export interface DiskExport extends CopyOptions {
  /** Everything, or only what lies over the base image, whose name and version it records. Default `disk`. */
  readonly content?: 'disk' | 'overlay';
  /** Whether the snapshots come along; never in an overlay. True unless told. */
  readonly snapshots?: boolean;
  readonly compress?: boolean;
}

export interface IncrementDownload extends CopyOptions {
  /** Resolves when it is where it is to be. */
  readonly deliver: (increment: Blob) => Promise<void>;
}

export class DiskWork {
  constructor(
    private readonly life: GuestLife,
    private readonly turns: Turns,
    private readonly view: SessionView,
  ) {}

  /** Opens the disk that this visit is for, as `opening` says, and boots from it. What goes wrong is shown, not thrown. */
  start(opening: Opening): Promise<void> {
    // At once, so that a choice is seen to be taken.
    this.life.showOpening();
    const started = this.turns.take(async () => {
      if (opening === 'throw-away') return this.life.boot({ opening });
      const names = await diskNames();
      const wanted = diskOfAddress();
      const name = wanted === null ? lastUsed(names) : (names.find((there) => isSameName(there, wanted)) ?? wanted);
      this.life.nameDisk(name);
      // A disk is made for who has none yet. Any other one that is not there was renamed or deleted, and is missed.
      const isMissing = !names.includes(name) && (name !== FIRST_DISK || names.length > 0);
      if (isMissing) this.#tellMissing(name, names);
      else await this.life.boot({ offersResume: true, opening });
    });
    return started.catch(() => undefined);
  }

  #tellMissing(name: string, names: readonly string[]): void {
    setState('error');
    showProgress('', 0);
    const go = (start: () => Promise<void>) => (): void => void start().catch(() => undefined);
    const make: NoticeAction = { label: `Make “${name}”`, run: go(() => this.reset()) };
    const other = lastUsed(names);
    const instead: NoticeAction = { label: `Start “${other}”`, run: go(() => this.startDisk(other)) };
    const cleared = missingDisk(fileNameOf(name));
    showMissingDisk({ name, cleared }, names.length > 0 ? [instead, make] : [make]);
  }

  /**
   * Boots from another disk; the one there is is closed. A disk that is protected leaves the page `locked`, unless there is `passphrase`.
   * Rejects with `NOT_FOUND`, and with `IN_USE` for one that is open in another tab; the guest runs on then.
   */
  startDisk(name: string, passphrase?: string): Promise<void> {
    return this.turns.take(async () => {
      const isRunning = name === this.life.diskName && this.life.machine !== null;
      if (isRunning) return;
      const found = (await listDisks()).find((disk) => disk.name === name);
      if (!found) throw new Qcow2Error('NOT_FOUND', `there is no disk “${name}”`);
      const isOwn = name === this.life.diskName && this.life.disk !== null;
      if (found.isOpen && !isOwn) throw new Qcow2Error('IN_USE', `the disk “${name}” is in use in another tab`);
      await this.life.shutDown();
      this.life.nameDisk(name);
      await this.life.boot({ passphrase, offersResume: true });
    });
  }

  /**
   * Another name for a disk. The guest on it stands still for a moment, while the file is closed. Rejects with `BAD_ARGUMENT` if the name is
   * taken, and for a disk that is protected and open: only its passphrase would open it again.
   */
  rename(name: string, newName: string): Promise<void> {
    // Another disk waits for nothing that is done with this one.
    if (name !== this.life.diskName) return renameDisk(name, newName);
    return this.turns.take(async () => {
      if (this.life.disk !== null) return this.#renameOpen(name, newName);
      await renameDisk(name, newName);
      this.life.nameDisk(newName);
    });
  }

  /**
   * A copy of a disk under a new name, with all that is in it. Of the one that runs the guest stands still while its file is copied, and
   * goes on while the copy is put in its place.
   */
  async duplicate(name: string, newName: string, options: CopyOptions = {}): Promise<void> {
    if (name !== this.life.diskName || this.life.disk === null) return duplicateClosedDisk(name, newName, options);
    const { onProgress, signal } = options;
    await requireFree(newName);
    const file = await this.turns.take(() =>
      this.#fileOfDisk({ signal, onProgress: (part) => onProgress?.(part / 2) }),
    );
    await keepCopy(file, newName, { signal, onProgress: (part) => onProgress?.((1 + part) / 2) });
  }

  async #fileOfDisk(options: CopyOptions): Promise<Blob> {
    const { machine, disk } = this.life.running();
    return machine.whileStopped(async () => {
      await machine.attachment.flush();
      return disk.exportFile(jobOptions(options));
    });
  }

  /** Rejects with `IN_USE` for a disk that is open, here or in another tab. */
  delete(name: string): Promise<void> {
    if (name !== this.life.diskName) return deleteDisk(name);
    return this.turns.take(async () => {
      if (this.life.disk !== null) {
        throw new Qcow2Error(
          'IN_USE',
          `the disk “${name}” is open: start another one before it is deleted, or reset it`,
        );
      }
      await deleteDisk(name);
      // Who has forgotten a passphrase, say, goes on with another disk.
      await this.#startLastUsed();
    });
  }

  async #startLastUsed(): Promise<void> {
    await this.life.shutDown();
    this.life.nameDisk(lastUsed(await diskNames()));
    await this.life.boot({ offersResume: true });
  }

  async #renameOpen(name: string, newName: string): Promise<void> {
    const { machine, disk } = this.life.running();
    if (disk.info.encryption !== null) {
      throw new Qcow2Error(
        'BAD_ARGUMENT',
        'a protected disk can be renamed while it is closed: start another one first, then rename it',
      );
    }
    await requireFree(newName, name);
    let failure: unknown = null;
    const renameClosed = async (): Promise<string> => {
      try {
        await renameDisk(name, newName);
        return newName;
      } catch (error) {
        failure = error;
        return name;
      }
    };
    await machine.whileStopped(() => this.life.exchangeDisk(renameClosed));
    if (failure !== null) throw failure;
  }

  /** The disk as a qcow2, as it is now. The guest runs on. */
  export(options: DiskExport = {}): Promise<Blob> {
    return this.turns.take(async () => (await this.#flushed()).exportImage(exportOptions(options)));
  }

  /** The same, streamed into `target`. A target that is a file is as it was if it fails. */
  save(target: SaveTarget, options: DiskExport = {}): Promise<void> {
    return this.turns.take(async () => (await this.#flushed()).saveTo(target, exportOptions(options)));
  }

  /** The next of a series of backups. The guest stands still while it is put together, and goes on while it is delivered. */
  async continueBackups(fileName: string, { deliver, ...options }: IncrementDownload): Promise<void> {
    const { name, disk } = { name: this.life.diskName, disk: this.life.running().disk };
    const increment = await this.turns.take(async () => {
      const { machine, disk: open } = this.life.running();
      if (open !== disk) throw new Qcow2Error('IN_USE', 'another disk was started meanwhile; nothing was downloaded');
      return machine.whileStopped(async () => {
        await machine.attachment.flush();
        return exportNext(disk, name, jobOptions(options));
      });
    });
    await deliver(increment.blob);
    await increment.arrived(fileName);
  }

  async #flushed(): Promise<OpfsDisk> {
    const { machine, disk } = this.life.running();
    await machine.attachment.flush();
    return disk;
  }

  /**
   * Throws the disk away and boots from a fresh overlay over the base, which `passphrase` protects, if there is one. The fresh one is made first:
   * if it can't be, nothing has changed and the guest runs on.
   */
  reset(passphrase?: string): Promise<void> {
    return oneAtTheDoor(() => this.turns.take(() => this.#reset(passphrase)));
  }

  async #reset(passphrase?: string): Promise<void> {
    if (this.life.isThrownAway) {
      await this.life.shutDown();
      return this.life.boot({ opening: 'throw-away' });
    }
    await stageFreshDisk(passphrase).catch((error: unknown) => {
      showRefusedReset(error);
      throw error;
    });
    await this.life.shutDown();
    await this.life.boot({ prepare: () => commitStagedImage(this.life.diskName), passphrase });
    await clearUnusedBases();
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
      await this.life.boot({ opening: this.life.isThrownAway ? 'throw-away' : 'wait' });
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
    // An image on its way in goes first: the guest does not stand still for it.
    return oneAtTheDoor(() => this.turns.take(() => this.#protect(passphrase, onProgress)));
  }

  #protect(passphrase: string, onProgress?: (fraction: number) => void): Promise<void> {
    return this.life.whileState('protecting', async () => {
      const { machine, disk } = this.life.running();
      if (this.life.isThrownAway)
        throw new Qcow2Error('BAD_ARGUMENT', 'a disk that is thrown away has nothing to protect');
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
        await this.life.exchangeDisk(() => commitStagedImage(this.life.diskName), passphrase);
      });
    });
  }

  /** Another passphrase for a disk that has LUKS; the guest runs on. Rejects with `WRONG_PASSPHRASE` for the old one. */
  changePassphrase(passphrase: string, newPassphrase: string): Promise<void> {
    return this.turns.take(() => changePassphraseOf(this.life.running().disk, passphrase, newPassphrase));
  }
}

function exportOptions({ content = 'disk', snapshots = true, compress = false, ...job }: DiskExport): ExportOptions {
  // An overlay records which version of the base it stands on, so that it can come back.
  return { content, compress, ...(content === 'disk' && { snapshots }), ...jobOptions(job) };
}
