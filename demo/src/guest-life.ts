/**
 * A disk and a machine on it, from the opening of one to the end of the other, and the state that the page shows of them.
 *
 *   loading -> booting -> ready                 the guest powers off: stopped
 *      |    \-> error
 *      \-> locked -> loading ...
 *
 *   booting or ready -> saving -> as before     booting, ready or stopped -> restoring -> as the snapshot was
 *                  \-> protecting -> as before
 *
 * Whoever calls sees to it that one thing happens at a time (`session.ts`).
 */
import { isQcow2Error, Qcow2Error, type OpfsDisk } from 'qcow2-wasm/opfs';
import type { MachineSnapshot } from 'qcow2-wasm/v86';
import { noticeOfOtherBase } from './base-notice.js';
import { BootProgress } from './boot-progress.js';
import { storeCheckpointChoice } from './checkpoint-choice.js';
import { putIntoAddress, noteUse } from './disk-choice.js';
import { openDiskForTab, type Opening } from './disk-for-tab.js';
import { fileNameOf } from './disk-names.js';
import { DiskOfTab } from './disk-of-tab.js';
import { showDiskFacts, showDiskName, showProtection } from './drive-label.js';
import { GuestMachine, type MachineEvents } from './guest-machine.js';
import { GuestSnapshots } from './guest-snapshots.js';
import { hideNotice, showFatal, showFault, showNotice, showPoweredOff, showSnapshotFailure } from './notice.js';
import { currentState, setState, showProgress, type DemoState } from './page.js';
import { forgetRoomNotice, showRoomFault } from './room-notice.js';
import type { SessionView } from './session-view.js';
import { openStoredDisk } from './stored-disk.js';
import { showDiskGone, showInUse } from './tab-notice.js';

export interface LifeOptions {
  /** Whether the page makes writes stable after a time, besides the guest itself. */
  readonly flushTimers: boolean;
  /** For the visitor's choice after a power-off. */
  readonly restart: () => void;
  /** For the visitor's choice after what ended everything. */
  readonly reset: () => void;
  /** For the visitor's choice where two tabs want one disk. */
  readonly open: (opening: Opening) => void;
  /** Another tab wants `disk`, which may not be that of the machine any more. */
  readonly letGo: (disk: OpfsDisk, givenUp: AbortSignal) => Promise<void>;
}

export interface BootOptions {
  /** Opens the stored disk, or protects a fresh one. */
  readonly passphrase?: string | undefined;
  /** What is done to the stored disk while nobody has it open. */
  readonly prepare?: () => Promise<unknown>;
  /** Whether to offer the newest snapshot meanwhile. */
  readonly offersResume?: boolean;
  /** How the tab comes by its disk. */
  readonly opening?: Opening;
}

export class GuestLife {
  readonly #which = new DiskOfTab();
  #disk: OpfsDisk | null = null;
  #machine: GuestMachine | null = null;
  #snapshots: GuestSnapshots | null = null;
  #progress: BootProgress | null = null;

  constructor(
    private readonly view: SessionView,
    private readonly options: LifeOptions,
  ) {}

  /** As in `DiskOfTab`. */
  get diskName(): string {
    return this.#which.name;
  }

  /** As in `DiskOfTab`. */
  get identity(): object {
    return this.#which.identity;
  }

  /** Whether the disk is one that nobody keeps, and that has no file. */
  get isThrownAway(): boolean {
    return this.#which.isThrownAway;
  }

  /** The next disk to be opened is the one of this name; on the next visit of this tab, too. */
  chooseDisk(name: string): void {
    this.#which.choose(name);
    putIntoAddress(name);
    showDiskName(name);
  }

  /** The disk is the one of this name now; on the next visit of this tab, too. */
  renameDisk(name: string): void {
    this.#which.rename(name);
    putIntoAddress(name);
    showDiskName(name);
  }

  /** Null while none is open. */
  get disk(): OpfsDisk | null {
    return this.#disk;
  }

  /** Null while there is none. */
  get machine(): GuestMachine | null {
    return this.#machine;
  }

  /** Of the machine; null while there is none. */
  get snapshots(): GuestSnapshots | null {
    return this.#snapshots;
  }

  /** The machine and its disk. @throws Qcow2Error `CLOSED` while there is none. */
  running(): { readonly machine: GuestMachine; readonly disk: OpfsDisk; readonly snapshots: GuestSnapshots } {
    const [machine, disk, snapshots] = [this.#machine, this.#disk, this.#snapshots];
    if (!machine || !disk || !snapshots) throw new Qcow2Error('CLOSED', 'no guest is running');
    return { machine, disk, snapshots };
  }

  showOpening(): void {
    setState('loading');
    showProgress('Opening the disk', null);
    hideNotice();
  }

  /** Opens the disk, unless it is open, and boots from it. What goes wrong is shown, and thrown. */
  async boot({ prepare, passphrase, offersResume = false, opening }: BootOptions = {}): Promise<void> {
    try {
      this.showOpening();
      await prepare?.();
      const disk = this.#disk ?? (await this.#openDisk(passphrase, opening));
      if (offersResume) this.view.offer.open();
      await this.#powerOn(disk);
      const snapshots = await this.showSnapshots();
      if (offersResume) await this.view.offer.make(snapshots);
    } catch (error) {
      if (isQcow2Error(error, 'KEY_NEEDED')) return this.#showLocked();
      if (isQcow2Error(error, 'WRONG_PASSPHRASE')) this.#showLocked();
      else await this.fail(error);
      throw error;
    }
  }

  /** Ends machine and disk. A failing flush does not keep the disk open: what it could not save has been shown. */
  async shutDown(): Promise<void> {
    await this.endMachine();
    const disk = this.#disk;
    this.#disk = null;
    if (disk !== null) this.#which.end();
    this.view.unlock.hide();
    await disk?.close().catch((error: unknown) => console.error('the disk did not close cleanly', error));
  }

  /** Ends the machine; its disk stays open. */
  async endMachine(): Promise<void> {
    setState('stopped');
    const [machine, snapshots] = [this.#machine, this.#snapshots];
    this.#machine = null;
    this.#snapshots = null;
    this.view.offer.withdraw();
    this.view.snapshots.show(null);
    this.view.console.screen.use(null);
    showProtection(null);
    await snapshots?.stopCheckpoints().catch((error: unknown) => console.error('a checkpoint failed', error));
    await machine?.powerOff().catch((error: unknown) => console.error('the machine did not stop cleanly', error));
  }

  /**
   * Closes `old`, the disk of the machine, which stands still, has `prepare` say which disk holds the same content now, and opens that. What
   * goes wrong ends both, is shown, and thrown. A disk that is not the machine's is left alone: a machine that gets another one destroys it.
   */
  async exchangeDisk(old: OpfsDisk, prepare: () => Promise<string>, passphrase?: string): Promise<void> {
    const { machine, disk: present } = this.running();
    if (old !== present || !isFileOf(old, this.diskName)) {
      throw new Qcow2Error('IN_USE', `the machine has “${this.diskName}”, not ${old.info.path}; nothing was changed`);
    }
    try {
      await old.close();
      this.renameDisk(await prepare());
      const disk = await this.#openDisk(passphrase);
      if (disk.info.size !== old.info.size || !isFileOf(disk, this.diskName)) {
        throw new Qcow2Error(
          'BAD_IMAGE',
          `${disk.info.path} has ${disk.info.size} bytes, and is to go on for ${old.info.path}, which has ${old.info.size}`,
        );
      }
      machine.replaceDisk(disk);
      showDiskFacts(disk, machine.attachment.seam);
    } catch (error) {
      await this.fail(error);
      throw error;
    }
  }

  /** Shows `state` while `job` does something to the machine as a whole, then the state that the guest is in. */
  async whileState<T>(state: DemoState, job: () => Promise<T>): Promise<T> {
    const before = currentState();
    this.running();
    setState(state);
    let isAnotherGuest = false;
    try {
      const result = await job();
      isAnotherGuest = state === 'restoring';
      return result;
    } finally {
      // A disk or a machine that has ended meanwhile has a state of its own.
      if (currentState() === state) this.#showGuestState(isAnotherGuest || before !== 'stopped');
      await this.showSnapshots();
      this.view.snapshots.showBusy(null);
    }
  }

  /** The guest has printed its mark. */
  noteReady(): void {
    if (currentState() === 'booting') setState('ready');
    this.#progress?.finish(this.#machine?.disk.activity.readBytes ?? 0);
    this.#progress = null;
  }

  /** The guest is another one, which does not boot. */
  forgetBoot(): void {
    this.#progress = null;
  }

  showBootProgress(): void {
    if (this.#machine) this.#progress?.show(this.#machine.disk.activity.readBytes);
  }

  /** Lists the snapshots in their panel. A list that can't be had is no reason to stop a guest that runs. */
  async showSnapshots(): Promise<readonly MachineSnapshot[]> {
    const snapshots = await (this.#snapshots?.list() ?? null)?.catch((error: unknown) => {
      showSnapshotFailure('list', error);
      return [];
    });
    this.view.snapshots.show(snapshots ?? null);
    this.view.offer.check(snapshots ?? []);
    return snapshots ?? [];
  }

  async #openDisk(passphrase?: string, opening: Opening = 'wait'): Promise<OpfsDisk> {
    const disk = await openDiskForTab(opening, (takesOver) => openStoredDisk(this.diskName, passphrase, takesOver));
    disk.onTakeOver = (givenUp) => this.options.letGo(disk, givenUp);
    forgetRoomNotice();
    if (opening === 'throw-away') this.#which.throwAway();
    if (this.isThrownAway) showDiskName('thrown away');
    else noteUse(this.diskName);
    this.#disk = disk;
    void this.#watch(disk);
    this.view.unlock.hide();
    return disk;
  }

  async #powerOn(disk: OpfsDisk): Promise<void> {
    const { console: guest, map } = this.view;
    guest.clear();
    map.start(disk.info.size);
    showProgress('Building the machine', 0);
    const events: MachineEvents = {
      onSerialByte: (byte) => guest.receive(byte),
      onTransfer: (kind, offset, length) => map.note(kind, offset, length),
      onFault: (fault) => {
        if (!showRoomFault(fault)) showFault(fault);
      },
      onHalt: () => this.#halted(),
    };
    const { flushTimers } = this.options;
    const machine = await GuestMachine.create(disk, guest.screen.container, events, { flushTimers });
    this.#machine = machine;
    this.#snapshots = new GuestSnapshots(machine, guest, {
      onCheckpoint: () => void this.showSnapshots(),
      onCheckpointFailed: (error) => this.#giveUpCheckpoints(error),
    });
    guest.screen.use(machine.emulator);
    showDiskFacts(disk, machine.attachment.seam);
    const otherBase = noticeOfOtherBase(disk.info.backingFile);
    if (otherBase !== null) showNotice(otherBase);
    this.#progress = new BootProgress();
    setState('booting');
    await machine.run();
  }

  #showLocked(): void {
    setState('locked');
    showProgress('The disk waits for its passphrase', 0);
    showProtection(null, true);
    this.view.unlock.show();
  }

  /** Ends everything, and says why. */
  async fail(error: unknown): Promise<void> {
    console.error(error);
    await this.shutDown();
    setState('error');
    showProgress('', 0);
    if (isQcow2Error(error, 'IN_USE')) return showInUse(error, this.options.open);
    showFatal(error, this.options.reset);
  }

  /** The worker may end without our doing, or with it: the disk went to another tab. */
  async #watch(disk: OpfsDisk): Promise<void> {
    const error = await disk.closed;
    if (!error || this.#disk !== disk) return;
    if (!isQcow2Error(error, 'IN_USE')) return this.fail(error);
    await this.shutDown();
    showProgress('Another tab has the disk', 0);
    showDiskGone(this.options.open);
  }

  #halted(): void {
    // What is under way with a snapshot shows it at its end.
    if (currentState() !== 'ready' && currentState() !== 'booting') return;
    this.#showHalted();
    void this.#machine?.attachment.flush().catch(() => undefined);
  }

  #showHalted(): void {
    setState('stopped');
    showProgress('The guest has stopped', 0);
    showPoweredOff(this.options.restart);
  }

  /** @param tellsOfHalt whether a guest that has powered off is news to the visitor. */
  #showGuestState(tellsOfHalt: boolean): void {
    const machine = this.#machine;
    const runs = machine !== null && machine.isRunning && !machine.isHalted;
    if (machine?.isHalted && tellsOfHalt) this.#showHalted();
    else setState(!runs ? 'stopped' : this.view.console.ready ? 'ready' : 'booting');
  }

  #giveUpCheckpoints(error: unknown): void {
    // That ends the visit, and says nothing against checkpoints on the next one.
    if (isQcow2Error(error, 'WORKER_DIED') || isQcow2Error(error, 'CLOSED')) return;
    storeCheckpointChoice(null);
    this.view.snapshots.showCheckpointChoice(null);
    showSnapshotFailure('checkpoint', error);
  }
}

function isFileOf({ info }: OpfsDisk, name: string): boolean {
  return info.path.endsWith(`/${fileNameOf(name)}`);
}
