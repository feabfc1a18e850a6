/**
 * The demo's life: a disk, a machine on it, and what replaces one by another. One change at a time; an export is one, too,
 * and so is whatever is done with a snapshot. Checkpoints are taken only while nothing else happens.
 *
 *   start -> loading -> booting -> ready        openImage, reset: stopped -> loading -> ...
 *            |    \-> error                      the guest powers off: stopped
 *            \-> locked -> unlock: loading ...
 *
 *   booting or ready -> saving -> as before     booting, ready or stopped -> restoring -> as the snapshot was
 *                  \-> protecting -> as before
 */
import {
  isQcow2Error,
  Qcow2Error,
  type BaseStatus,
  type BootProfile,
  type JobOptions,
  type OpfsDisk,
} from 'qcow2-wasm/opfs';
import type { DiskFault, MachineSnapshot } from 'qcow2-wasm/v86';
import { BootProgress } from './boot-progress.js';
import { storeCheckpointChoice, type CheckpointSeconds } from './checkpoint-choice.js';
import { letGoOfDisk, openDiskForTab, type Opening } from './disk-for-tab.js';
import type { DiskMap } from './disk-map.js';
import { showCounters, showDiskFacts, showProtection, type DemoStats } from './drive-label.js';
import type { GuestConsole } from './guest-console.js';
import { GuestMachine, type MachineEvents } from './guest-machine.js';
import { GuestSnapshots, type SnapshotRef } from './guest-snapshots.js';
import { passphraseOfStagedImage, type PassphraseAsker } from './image-passphrase.js';
import { adviceForFault, hideNotice, showFatal, showNotice, showSnapshotFailure } from './notice.js';
import { currentState, progressText, setState, showProgress, type DemoState } from './page.js';
import { showBase } from './offline-controls.js';
import type { ResumeOffer } from './resume-offer.js';
import { forgetRoomNotice, showRoomFault } from './room-notice.js';
import type { SnapshotPanel } from './snapshot-panel.js';
import {
  changePassphraseOf,
  commitStagedImage,
  deleteStoredDisk,
  openStoredDisk,
  stageImage,
  stageProtectedCopy,
} from './stored-disk.js';
import { showDiskGone, showInUse } from './tab-notice.js';
import type { UnlockPrompt } from './unlock-prompt.js';

const REFRESH_MILLISECONDS = 250;

type FetchProgress = Parameters<NonNullable<JobOptions['onProgress']>>[0];

export interface SessionOptions {
  /** Whether the page makes writes stable after a time, besides the guest itself. True unless told. */
  readonly flushTimers?: boolean;
}

export interface SessionView {
  readonly console: GuestConsole;
  readonly map: DiskMap;
  readonly snapshots: SnapshotPanel;
  readonly offer: ResumeOffer;
  readonly unlock: UnlockPrompt;
}

interface BootOptions {
  /** Opens the stored disk, or protects a fresh one. */
  readonly passphrase?: string | undefined;
  /** What is done to the stored disk while nobody has it open. */
  readonly prepare?: () => Promise<void>;
  /** Whether to offer the newest snapshot meanwhile. */
  readonly offersResume?: boolean;
  /** How the tab comes by its disk. */
  readonly opening?: Opening;
}

export class Session {
  readonly #view: SessionView;
  readonly #flushTimers: boolean;
  #disk: OpfsDisk | null = null;
  #machine: GuestMachine | null = null;
  #snapshots: GuestSnapshots | null = null;
  #progress: BootProgress | null = null;
  #change: Promise<void> = Promise.resolve();

  constructor(view: SessionView, { flushTimers = true }: SessionOptions = {}) {
    this.#view = view;
    this.#flushTimers = flushTimers;
    setInterval(() => void this.#refresh(), REFRESH_MILLISECONDS);
  }

  /** Opens the stored disk, or what else `opening` says, and boots from it. What goes wrong is shown, not thrown. */
  start(opening: Opening = 'wait'): Promise<void> {
    return this.#exclusive(() => this.#boot({ offersResume: true, opening })).catch(() => undefined);
  }

  send(text: string): void {
    this.#view.console.use('serial');
    this.#machine?.send(text);
  }

  /** The guest has printed its mark. */
  noteReady(): void {
    if (currentState() === 'booting') setState('ready');
    this.#progress?.finish(this.#machine?.disk.activity.readBytes ?? 0);
    this.#progress = null;
  }

  /** What the guest has written so far is stable when it resolves. */
  async flush(): Promise<void> {
    await this.#running().attachment.flush();
  }

  /** The disk as one standalone qcow2. The guest stands still meanwhile: a write of it would have to wait for the end. */
  exportDisk(onProgress?: (fraction: number) => void): Promise<Blob> {
    return this.#exclusive(async () => {
      const [machine, disk] = [this.#running(), this.#disk!];
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
    return this.#exclusive(async () => {
      const line = progressText();
      const { encryption } = await stageImage(image, (fraction) =>
        showProgress(`Taking the image in: ${Math.round(100 * fraction)} %`, fraction),
      ).finally(() => showProgress(line, 1));
      const passphrase = encryption === null ? undefined : await passphraseOfStagedImage(ask);
      await this.#shutDown();
      await this.#boot({ prepare: commitStagedImage, offersResume: true, passphrase });
    });
  }

  /** Throws the disk away and boots from a fresh overlay over the base, which `passphrase` protects, if there is one. */
  reset(passphrase?: string): Promise<void> {
    return this.#exclusive(async () => {
      await this.#shutDown();
      await this.#boot({ prepare: deleteStoredDisk, passphrase });
    });
  }

  /** Boots again from the same disk. */
  restart(): Promise<void> {
    return this.#exclusive(async () => {
      await this.#endMachine();
      // A disk that takes no more writes does after it was opened anew. Any other stays open, and so needs no passphrase.
      const isSound = await this.#disk?.flush().then(
        () => true,
        () => false,
      );
      if (!isSound) await this.#shutDown();
      await this.#boot();
    });
  }

  /** Opens the stored disk, which is `locked`, and boots from it. Rejects with `WRONG_PASSPHRASE`; it stays locked then. */
  unlock(passphrase: string): Promise<void> {
    return this.#exclusive(async () => {
      if (currentState() !== 'locked') throw new Qcow2Error('BAD_ARGUMENT', 'there is no locked disk to be opened');
      await this.#boot({ passphrase, offersResume: true });
    });
  }

  /**
   * Encrypts the disk, its snapshots too: a copy is made beside it, and takes its place in one step once `passphrase` has opened it.
   * The guest stands still meanwhile, and goes on.
   */
  protect(passphrase: string, onProgress?: (fraction: number) => void): Promise<void> {
    return this.#exclusive(() =>
      this.#whileState('protecting', async () => {
        const [machine, disk] = [this.#running(), this.#disk!];
        if (disk.info.encryption === 'luks') {
          throw new Qcow2Error('BAD_ARGUMENT', 'the disk is protected already; its passphrase can be changed');
        }
        const show = (fraction: number): void => {
          this.#view.snapshots.showBusy({ what: 'Protecting the disk', fraction });
          onProgress?.(fraction);
        };
        await machine.whileStopped(async () => {
          await machine.attachment.flush();
          await stageProtectedCopy(disk, passphrase, show);
          await this.#exchangeDisk(machine, disk, passphrase);
        });
      }),
    );
  }

  /** Another passphrase for a disk that has LUKS; the guest runs on. Rejects with `WRONG_PASSPHRASE` for the old one. */
  changePassphrase(passphrase: string, newPassphrase: string): Promise<void> {
    return this.#exclusive(async () => {
      this.#running();
      await changePassphraseOf(this.#disk!, passphrase, newPassphrase);
    });
  }

  /** The snapshots of the disk, oldest first. */
  async listSnapshots(): Promise<MachineSnapshot[]> {
    return this.#guestSnapshots().list();
  }

  /** Takes a snapshot of the machine as it is, in place of one of that name. The guest stands still meanwhile. */
  saveSnapshot(name: string): Promise<MachineSnapshot> {
    // Who keeps this guest has chosen it.
    this.#view.offer.withdraw();
    return this.#exclusive(() =>
      this.#whileState('saving', async () => {
        const show = (fraction: number | null): void =>
          this.#view.snapshots.showBusy({ what: `Saving “${name}”`, fraction });
        show(null);
        return this.#guestSnapshots().save(name, show);
      }),
    );
  }

  /** The machine and its disk become what they were. If that is refused, nothing has changed and the guest runs on. */
  loadSnapshot(choice: SnapshotRef, verb = 'Restored'): Promise<MachineSnapshot> {
    return this.#exclusive(() =>
      this.#whileState('restoring', async () => {
        const startedAt = performance.now();
        this.#view.offer.withdraw();
        this.#view.snapshots.showBusy({ what: 'Restoring', fraction: null });
        const snapshot = await this.#guestSnapshots().load(choice);
        this.#progress = null;
        hideNotice();
        showProgress(`${verb} in ${((performance.now() - startedAt) / 1000).toFixed(1)} s`, 1);
        return snapshot;
      }),
    );
  }

  deleteSnapshot(choice: SnapshotRef): Promise<void> {
    return this.#exclusive(async () => {
      this.#view.snapshots.showBusy({ what: 'Deleting', fraction: null });
      try {
        await this.#guestSnapshots().delete(choice);
      } finally {
        await this.#showSnapshots();
        this.#view.snapshots.showBusy(null);
      }
    });
  }

  /** From now on, on later visits too. */
  checkpointEvery(seconds: CheckpointSeconds): Promise<void> {
    storeCheckpointChoice(seconds);
    // What ends a change starts the checkpoints, as they are chosen by then.
    return this.#exclusive(() => Promise.resolve());
  }

  /** The base images on servers under the disk. */
  bases(): Promise<BaseStatus[]> {
    this.#running();
    return this.#disk!.bases();
  }

  /** What the guest has read of the base since the disk was opened. */
  bootProfile(): Promise<BootProfile> {
    this.#running();
    return this.#disk!.bootProfile();
  }

  /** Fetches the rest of the base, while the guest runs on. `signal` is the pause. */
  makeAvailableOffline(onProgress?: (progress: FetchProgress) => void, signal?: AbortSignal): Promise<void> {
    this.#running();
    return this.#disk!.makeAvailableOffline({ ...(onProgress && { onProgress }), ...(signal && { signal }) });
  }

  async stats(): Promise<DemoStats> {
    const { disk, attachment } = this.#running();
    const opened = this.#disk!;
    const { path, backingFile, encryption } = opened.info;
    return { guest: disk.activity, disk: await opened.stats(), path, backingFile, encryption, seam: attachment.seam };
  }

  #running(): GuestMachine {
    if (!this.#machine) throw new Qcow2Error('CLOSED', 'no guest is running');
    return this.#machine;
  }

  #guestSnapshots(): GuestSnapshots {
    if (!this.#snapshots) throw new Qcow2Error('CLOSED', 'no guest is running');
    return this.#snapshots;
  }

  #exclusive<T>(change: () => Promise<T>): Promise<T> {
    const done = this.#change.then(async () => {
      await this.#snapshots?.stopCheckpoints();
      return change();
    });
    const settled = (): void => this.#snapshots?.startCheckpoints();
    this.#change = done.then(settled, settled);
    return done;
  }

  /** Shows `state` while `job` does something to the machine as a whole, then the state that the guest is in. */
  async #whileState<T>(state: DemoState, job: () => Promise<T>): Promise<T> {
    const before = currentState();
    this.#running();
    setState(state);
    let isAnotherGuest = false;
    try {
      const result = await job();
      isAnotherGuest = state === 'restoring';
      return result;
    } finally {
      // A disk or a machine that has ended meanwhile has a state of its own.
      if (currentState() === state) this.#showGuestState(isAnotherGuest || before !== 'stopped');
      await this.#showSnapshots();
      this.#view.snapshots.showBusy(null);
    }
  }

  /** @param tellsOfHalt whether a guest that has powered off is news to the visitor. */
  #showGuestState(tellsOfHalt: boolean): void {
    const machine = this.#machine;
    const runs = machine !== null && machine.isRunning && !machine.isHalted;
    if (machine?.isHalted && tellsOfHalt) this.#showHalted();
    else setState(!runs ? 'stopped' : this.#view.console.ready ? 'ready' : 'booting');
  }

  /** Lists the snapshots in their panel. A list that can't be had is no reason to stop a guest that runs. */
  async #showSnapshots(): Promise<readonly MachineSnapshot[]> {
    const snapshots = await (this.#snapshots?.list() ?? null)?.catch((error: unknown) => {
      showSnapshotFailure('list', error);
      return [];
    });
    this.#view.snapshots.show(snapshots ?? null);
    this.#view.offer.check(snapshots ?? []);
    return snapshots ?? [];
  }

  #giveUpCheckpoints(error: unknown): void {
    // That ends the visit, and says nothing against checkpoints on the next one.
    if (isQcow2Error(error, 'WORKER_DIED') || isQcow2Error(error, 'CLOSED')) return;
    storeCheckpointChoice(null);
    this.#view.snapshots.showCheckpointChoice(null);
    showSnapshotFailure('checkpoint', error);
  }

  async #boot({ prepare, passphrase, offersResume = false, opening }: BootOptions = {}): Promise<void> {
    try {
      setState('loading');
      showProgress('Opening the disk', null);
      hideNotice();
      await prepare?.();
      const disk = this.#disk ?? (await this.#openDisk(passphrase, opening));
      if (offersResume) this.#view.offer.open();
      await this.#powerOn(disk);
      const snapshots = await this.#showSnapshots();
      if (offersResume) await this.#view.offer.make(snapshots);
    } catch (error) {
      if (isQcow2Error(error, 'KEY_NEEDED')) return this.#showLocked();
      if (isQcow2Error(error, 'WRONG_PASSPHRASE')) this.#showLocked();
      else await this.#fail(error);
      throw error;
    }
  }

  async #openDisk(passphrase?: string, opening: Opening = 'wait'): Promise<OpfsDisk> {
    const disk = await openDiskForTab(opening, (takesOver) => openStoredDisk(passphrase, takesOver));
    disk.onTakeOver = (givenUp) => this.#exclusive(() => letGoOfDisk(givenUp, () => this.#endMachine()));
    forgetRoomNotice();
    this.#disk = disk;
    void this.#watch(disk);
    this.#view.unlock.hide();
    return disk;
  }

  #showLocked(): void {
    setState('locked');
    showProgress('The disk waits for its passphrase', 0);
    showProtection(null, true);
    this.#view.unlock.show();
  }

  /** The copy that was taken in becomes the disk of the machine, which stands still. */
  async #exchangeDisk(machine: GuestMachine, old: OpfsDisk, passphrase: string): Promise<void> {
    try {
      await old.close();
      await commitStagedImage();
      const disk = await this.#openDisk(passphrase);
      machine.replaceDisk(disk);
      showDiskFacts(disk, machine.attachment.seam);
    } catch (error) {
      await this.#fail(error);
      throw error;
    }
  }

  async #powerOn(disk: OpfsDisk): Promise<void> {
    const { console: guest, map } = this.#view;
    guest.clear();
    map.start(disk.info.size);
    showProgress('Building the machine', 0);
    const events: MachineEvents = {
      onSerialByte: (byte) => guest.receive(byte),
      onTransfer: (kind, offset, length) => map.note(kind, offset, length),
      onFault: (fault) => this.#showFault(fault),
      onHalt: () => this.#halted(),
    };
    const { container } = guest.screen;
    const machine = await GuestMachine.create(disk, container, events, { flushTimers: this.#flushTimers });
    this.#machine = machine;
    this.#snapshots = new GuestSnapshots(machine, guest, {
      onCheckpoint: () => void this.#showSnapshots(),
      onCheckpointFailed: (error) => this.#giveUpCheckpoints(error),
    });
    guest.screen.use(machine.emulator);
    showDiskFacts(disk, machine.attachment.seam);
    this.#progress = new BootProgress();
    setState('booting');
    await machine.run();
  }

  /** Ends machine and disk. A failing flush does not keep the disk open: what it could not save is shown by `#showFault`. */
  async #shutDown(): Promise<void> {
    await this.#endMachine();
    const disk = this.#disk;
    this.#disk = null;
    this.#view.unlock.hide();
    await disk?.close().catch((error: unknown) => console.error('the disk did not close cleanly', error));
  }

  async #endMachine(): Promise<void> {
    setState('stopped');
    const [machine, snapshots] = [this.#machine, this.#snapshots];
    this.#machine = null;
    this.#snapshots = null;
    this.#view.offer.withdraw();
    this.#view.snapshots.show(null);
    this.#view.console.screen.use(null);
    showProtection(null);
    await snapshots?.stopCheckpoints().catch((error: unknown) => console.error('a checkpoint failed', error));
    await machine?.powerOff().catch((error: unknown) => console.error('the machine did not stop cleanly', error));
  }

  async #fail(error: unknown): Promise<void> {
    console.error(error);
    await this.#shutDown();
    setState('error');
    showProgress('', 0);
    if (isQcow2Error(error, 'IN_USE')) return showInUse(error, (opening) => void this.start(opening));
    showFatal(error, () => void this.reset().catch(() => undefined));
  }

  /** The worker may end without our doing, or with it: the disk went to another tab. */
  async #watch(disk: OpfsDisk): Promise<void> {
    const error = await disk.closed;
    if (!error || this.#disk !== disk) return;
    if (!isQcow2Error(error, 'IN_USE')) return this.#fail(error);
    await this.#shutDown();
    showProgress('Another tab has the disk', 0);
    showDiskGone((opening) => void this.start(opening));
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
    const restart = { label: 'Start it again', run: () => void this.restart().catch(() => undefined) };
    showNotice({
      title: 'The guest has powered off',
      advice: 'Its disk is safe: everything it wrote is in the file.',
      actions: [restart],
      calm: true,
    });
  }

  #showFault(fault: DiskFault): void {
    if (showRoomFault(fault)) return;
    const { operation, error } = fault;
    // The end of the worker has a panel of its own.
    if (error.code === 'WORKER_DIED' || error.code === 'CLOSED') return;
    showNotice({
      title: `The disk could not carry out a ${operation}`,
      what: `${error.code}: ${error.message}`,
      advice: adviceForFault(error.code),
    });
  }

  async #refresh(): Promise<void> {
    if (document.visibilityState === 'hidden' || !this.#machine) return;
    this.#progress?.show(this.#machine.disk.activity.readBytes);
    // The disk may close while it is asked; the next refresh finds none.
    const stats = await this.stats().catch(() => null);
    if (stats) showCounters(stats);
    const bases = await this.bases().catch(() => null);
    if (bases) showBase(bases[0]);
  }
}
