/**
 * What is done with the disk as a whole, each in its turn: another one in its place, another name, its protection. What is done with the
 * disk that is there is done with the one that was there when it was asked for, whatever it is called by then, or else refused with `IN_USE`.
 */
import { Qcow2Error } from 'qcow2-wasm/opfs';
import { diskOfAddress, lastUsed } from './disk-choice.js';
import type { Opening } from './disk-for-tab.js';
import { missingDisk, type Ledger } from './disk-ledger.js';
import { FIRST_DISK, fileNameOf, isSameName } from './disk-names.js';
import { clearUnusedBases, deleteDisk, diskNames, listDisks, makeDisk, renameDisk, requireFree } from './disk-shelf.js';
import type { DiskTurns } from './disk-turns.js';
import { oneAtTheDoor } from './door.js';
import type { GuestLife } from './guest-life.js';
import { showMissingDisk, showRefusedReset, showUnmadeDisk } from './notice.js';
import type { NoticeAction } from './notice-parts.js';
import { currentState, setState, showProgress } from './page.js';
import type { SessionView } from './session-view.js';
import { changePassphraseOf, commitStagedImage, stageFreshDisk, stageProtectedCopy } from './stored-disk.js';

export interface WorkContext {
  readonly view: SessionView;
  /** The disks that were here before this visit. */
  readonly seenBefore: Ledger;
}

export class DiskWork {
  /** The identity of a disk that was not there when it was to be started. */
  #missed: object | null = null;

  constructor(
    private readonly life: GuestLife,
    private readonly turns: DiskTurns,
    private readonly context: WorkContext,
  ) {}

  /** Opens the disk that this visit is for, as `opening` says, and boots from it. What goes wrong is shown, not thrown. */
  start(opening: Opening): Promise<void> {
    // At once, so that a choice is seen to be taken.
    this.life.showOpening();
    const started = this.turns.ofAny(async () => {
      if (opening === 'throw-away') return this.life.boot({ opening });
      const names = await diskNames().catch(async (error: unknown) => {
        await this.life.fail(error);
        throw error;
      });
      const wanted = diskOfAddress();
      const name = wanted === null ? lastUsed(names) : (names.find((there) => isSameName(there, wanted)) ?? wanted);
      this.life.chooseDisk(name);
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
    const make: NoticeAction = { label: `Make “${name}”`, run: go(() => this.#make(name)) };
    this.#missed = this.life.identity;
    const other = lastUsed(names);
    const instead: NoticeAction = { label: `Start “${other}”`, run: go(() => this.startDisk(other)) };
    const cleared = missingDisk(this.context.seenBefore, fileNameOf(name));
    showMissingDisk({ name, cleared }, names.length > 0 ? [instead, make] : [make]);
  }

  /** Makes the disk that is missed, and starts it. Another tab may have made it meanwhile: that one is left alone. */
  async #make(name: string, passphrase?: string): Promise<void> {
    await makeDisk(name, passphrase).catch((error: unknown) => {
      showUnmadeDisk(name, error);
      throw error;
    });
    await this.startDisk(name, passphrase);
  }

  /**
   * Boots from another disk; the one there is is closed. A disk that is protected leaves the page `locked`, unless there is `passphrase`.
   * Rejects with `NOT_FOUND`, and with `IN_USE` for one that is open in another tab; the guest runs on then.
   */
  startDisk(name: string, passphrase?: string): Promise<void> {
    return this.turns.ofAny(async () => {
      const isRunning = name === this.life.diskName && this.life.machine !== null;
      if (isRunning) return;
      const found = (await listDisks()).find((disk) => disk.name === name);
      if (!found) throw new Qcow2Error('NOT_FOUND', `there is no disk “${name}”`);
      const isOwn = name === this.life.diskName && this.life.disk !== null;
      if (found.isOpen && !isOwn) throw new Qcow2Error('IN_USE', `the disk “${name}” is in use in another tab`);
      await this.life.shutDown();
      this.life.chooseDisk(name);
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
    return this.turns.ofThis(async () => {
      if (this.life.disk !== null) return this.#renameOpen(newName);
      await renameDisk(this.life.diskName, newName);
      this.life.renameDisk(newName);
    });
  }

  /** Rejects with `IN_USE` for a disk that is open, here or in another tab. */
  delete(name: string): Promise<void> {
    if (name !== this.life.diskName) return deleteDisk(name);
    return this.turns.ofThis(async () => {
      const present = this.life.diskName;
      if (this.life.disk !== null) {
        throw new Qcow2Error(
          'IN_USE',
          `the disk “${present}” is open: start another one before it is deleted, or reset it`,
        );
      }
      await deleteDisk(present);
      // Who has forgotten a passphrase, say, goes on with another disk.
      await this.#startLastUsed();
    });
  }

  async #startLastUsed(): Promise<void> {
    await this.life.shutDown();
    this.life.chooseDisk(lastUsed(await diskNames()));
    await this.life.boot({ offersResume: true });
  }

  async #renameOpen(newName: string): Promise<void> {
    const { machine, disk } = this.life.running();
    const name = this.life.diskName;
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
    await machine.whileStopped(() => this.life.exchangeDisk(disk, renameClosed));
    if (failure !== null) throw failure;
  }

  /**
   * Throws the disk away and boots from a fresh overlay over the base, which `passphrase` protects, if there is one. The fresh one is made first:
   * if it can't be, nothing has changed and the guest runs on. One that the page misses is made, and takes no other's place.
   */
  reset(passphrase?: string): Promise<void> {
    if (this.life.disk === null && this.#missed === this.life.identity)
      return this.#make(this.life.diskName, passphrase);
    const inItsTurn = this.turns.bind();
    let isBegun = false;
    const begin = (): Promise<void> => {
      isBegun = true;
      return this.#reset(passphrase);
    };
    // Nothing comes in for a disk in memory.
    const done = this.life.isThrownAway ? inItsTurn(begin) : oneAtTheDoor(() => inItsTurn(begin));
    return done.catch((error: unknown) => {
      // What fails later shows itself.
      if (!isBegun) showRefusedReset(error);
      throw error;
    });
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
    return this.turns.ofThis(async () => {
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
    return this.turns.ofThis(async () => {
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
    const inItsTurn = this.turns.bind();
    return oneAtTheDoor(() => inItsTurn(() => this.#protect(passphrase, onProgress)));
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
        this.context.view.snapshots.showBusy({ what: 'Protecting the disk', fraction });
        onProgress?.(fraction);
      };
      await machine.whileStopped(async () => {
        await machine.attachment.flush();
        await stageProtectedCopy(disk, passphrase, show);
        await this.life.exchangeDisk(disk, () => commitStagedImage(this.life.diskName), passphrase);
      });
    });
  }

  /** Another passphrase for a disk that has LUKS; the guest runs on. Rejects with `WRONG_PASSPHRASE` for the old one. */
  changePassphrase(passphrase: string, newPassphrase: string): Promise<void> {
    return this.turns.ofThis(() => changePassphraseOf(this.life.running().disk, passphrase, newPassphrase));
  }
}
