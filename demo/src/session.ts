/**
 * The demo's life, as the page and scripts have it: one guest at a time and what is done with it. One change at a time; an export is
 * one, too, and so is whatever is done with a snapshot. Checkpoints are taken only while nothing else happens.
 *
 *   guest-life.ts       disk and machine, from the opening of one to the end of the other
 *   disk-turns.ts       what is asked of one disk is done to no other
 *   disk-work.ts        what is done with the disk as a whole
 *   copy-work.ts        copies of it
 *   disk-shelf.ts       the disks that no machine has
 *   disk-copies.ts      what makes a disk out of another one, or of an image from elsewhere
 *   snapshot-work.ts    what is done with snapshots
 *   session-view.ts     where it is shown
 */
import type { BaseStatus, BootProfile, DiskInfo, ImageSource, JobOptions, SaveTarget } from 'qcow2-wasm/opfs';
import type { MachineSnapshot } from 'qcow2-wasm/v86';
import type { CheckpointSeconds } from './checkpoint-choice.js';
import { CopyWork, type IncrementDownload } from './copy-work.js';
import { backupSeries, beginSeries, nextFileName, storeMarks, type BackupSeries } from './backup-series.js';
import { plainDisk, type DemoDisk } from './disk-controls.js';
import { takeInImage, type CopyOptions, type Intake } from './disk-copies.js';
import type { Ledger } from './disk-ledger.js';
import { requireName } from './disk-names.js';
import { letGoOfDisk, type Opening } from './disk-for-tab.js';
import { listDisks, makeDisk, type ListedDisk } from './disk-shelf.js';
import { DiskTurns } from './disk-turns.js';
import type { DiskExport } from './disk-export.js';
import { DiskWork } from './disk-work.js';
import { showCounters, type DemoStats } from './drive-label.js';
import { GuestLife } from './guest-life.js';
import type { SnapshotRef } from './guest-snapshots.js';
import { showBase } from './offline-controls.js';
import type { SessionView } from './session-view.js';
import { SnapshotWork } from './snapshot-work.js';
import { Turns } from './turns.js';

const REFRESH_MILLISECONDS = 250;

type FetchProgress = Parameters<NonNullable<JobOptions['onProgress']>>[0];

export interface SessionOptions {
  /** Whether the page makes writes stable after a time, besides the guest itself. True unless told. */
  readonly flushTimers?: boolean;
  /** The ledger as it was before anything of this visit looked. */
  readonly seenBefore: Ledger;
}

export class Session {
  readonly #view: SessionView;
  readonly #life: GuestLife;
  readonly #disks: DiskWork;
  readonly #copies: CopyWork;
  readonly #snapshots: SnapshotWork;

  constructor(view: SessionView, { flushTimers = true, seenBefore }: SessionOptions) {
    this.#view = view;
    this.#life = new GuestLife(view, {
      flushTimers,
      restart: () => void this.restart().catch(() => undefined),
      reset: () => void this.reset().catch(() => undefined),
      open: (opening) => void this.start(opening),
      // One that was closed while the question waited is free already, and the machine is on another one.
      letGo: (disk, givenUp) =>
        turns.take(async () => {
          if (this.#life.disk === disk) await letGoOfDisk(givenUp, () => this.#life.endMachine());
        }),
    });
    const turns = new Turns({
      stop: async () => this.#life.snapshots?.stopCheckpoints(),
      start: () => this.#life.snapshots?.startCheckpoints(),
    });
    const diskTurns = new DiskTurns(turns, this.#life);
    this.#disks = new DiskWork(this.#life, diskTurns, { view, seenBefore });
    this.#copies = new CopyWork(this.#life, diskTurns);
    this.#snapshots = new SnapshotWork(this.#life, diskTurns, view);
    document.addEventListener('visibilitychange', () => this.#storeMarks());
    setInterval(() => void this.#refresh(), REFRESH_MILLISECONDS);
  }

  /** Opens the disk of this visit, or what else `opening` says, and boots from it. What goes wrong is shown, not thrown. */
  start(opening: Opening = 'wait'): Promise<void> {
    return this.#disks.start(opening);
  }

  send(text: string): void {
    this.#view.console.use('serial');
    this.#life.machine?.send(text);
  }

  /** The guest has printed its mark. */
  noteReady(): void {
    this.#life.noteReady();
  }

  /** What the guest has written so far is stable when it resolves. */
  async flush(): Promise<void> {
    await this.#life.running().machine.attachment.flush();
  }

  /** See `CopyWork` for this and what follows. */
  exportDisk(options?: DiskExport): Promise<Blob> {
    return this.#copies.export(options);
  }

  saveDisk(target: SaveTarget, options: DiskExport): Promise<void> {
    return this.#copies.save(target, options);
  }

  /** Whether the disk that is open is one that nobody keeps. */
  get isThrownAway(): boolean {
    return this.#life.isThrownAway;
  }

  /** See `backup-series.ts` for this and what follows. */
  backupSeries(): Promise<BackupSeries> {
    return backupSeries(this.#life.running().disk, this.#life.diskName);
  }

  nextBackupName(): string {
    return nextFileName(this.#life.diskName);
  }

  beginBackups<T>(fileName: string, download: () => Promise<T>): Promise<T> {
    return beginSeries(this.#life.running().disk, { name: this.#life.diskName, fileName }, download);
  }

  downloadIncrement(fileName: string, options: IncrementDownload): Promise<void> {
    return this.#copies.continueBackups(fileName, options);
  }

  #storeMarks(): void {
    const { disk, diskName } = this.#life;
    if (document.visibilityState === 'hidden' && disk !== null) storeMarks(disk, diskName);
  }

  /** Of the disk that is open. @throws Qcow2Error `CLOSED` while there is no guest. */
  openDisk(): { readonly name: string; readonly info: DiskInfo } {
    return { name: this.#life.diskName || 'throw-away', info: this.#life.running().disk.info };
  }

  /** The one that is open here comes first, then the one that was used last. */
  async disks(): Promise<DemoDisk[]> {
    const disks = await listDisks();
    const isHere = ({ name }: ListedDisk): boolean => this.#life.disk !== null && name === this.#life.diskName;
    disks.sort((a, b) => Number(isHere(b)) - Number(isHere(a)));
    return disks.map((disk) => plainDisk(disk, isHere(disk)));
  }

  /** See `DiskWork` for this and what follows. */
  startDisk(name: string, passphrase?: string): Promise<void> {
    return this.#disks.startDisk(name, passphrase);
  }

  /** It is not started. */
  async makeDisk(name: string, passphrase?: string): Promise<void> {
    await makeDisk(requireName(name), passphrase);
  }

  async duplicateDisk(name: string, newName: string, options?: CopyOptions): Promise<void> {
    await this.#copies.duplicate(name, requireName(newName), options);
  }

  async renameDisk(name: string, newName: string): Promise<void> {
    await this.#disks.rename(name, requireName(newName));
  }

  deleteDisk(name: string): Promise<void> {
    return this.#disks.delete(name);
  }

  /**
   * Makes a new disk of an image from elsewhere, and boots from it. If it is refused, or nobody has its passphrase (`ABORTED`), nothing
   * has changed, and the guest runs on.
   */
  async openImage(image: ImageSource, intake: Intake): Promise<void> {
    const name = requireName(intake.name);
    const passphrase = await takeInImage(image, { ...intake, name });
    await this.startDisk(name, passphrase);
  }

  reset(passphrase?: string): Promise<void> {
    return this.#disks.reset(passphrase);
  }

  restart(): Promise<void> {
    return this.#disks.restart();
  }

  unlock(passphrase: string): Promise<void> {
    return this.#disks.unlock(passphrase);
  }

  protect(passphrase: string, onProgress?: (fraction: number) => void): Promise<void> {
    return this.#disks.protect(passphrase, onProgress);
  }

  changePassphrase(passphrase: string, newPassphrase: string): Promise<void> {
    return this.#disks.changePassphrase(passphrase, newPassphrase);
  }

  /** See `SnapshotWork` for this and what follows. */
  listSnapshots(): Promise<MachineSnapshot[]> {
    return this.#snapshots.list();
  }

  saveSnapshot(name: string): Promise<MachineSnapshot> {
    return this.#snapshots.save(name);
  }

  loadSnapshot(choice: SnapshotRef, verb = 'Restored'): Promise<MachineSnapshot> {
    return this.#snapshots.load(choice, verb);
  }

  deleteSnapshot(choice: SnapshotRef): Promise<void> {
    return this.#snapshots.delete(choice);
  }

  checkpointEvery(seconds: CheckpointSeconds): Promise<void> {
    return this.#snapshots.checkpointEvery(seconds);
  }

  /** The base images on servers under the disk. */
  async bases(): Promise<BaseStatus[]> {
    return this.#life.running().disk.bases();
  }

  /** What the guest has read of the base since the disk was opened. */
  async bootProfile(): Promise<BootProfile> {
    return this.#life.running().disk.bootProfile();
  }

  /** Fetches the rest of the base, while the guest runs on. `signal` is the pause. */
  makeAvailableOffline(onProgress?: (progress: FetchProgress) => void, signal?: AbortSignal): Promise<void> {
    const { disk } = this.#life.running();
    return disk.makeAvailableOffline({ ...(onProgress && { onProgress }), ...(signal && { signal }) });
  }

  async stats(): Promise<DemoStats> {
    const { disk: opened, machine } = this.#life.running();
    const { disk, attachment } = machine;
    const { path, backingFile, encryption } = opened.info;
    return { guest: disk.activity, disk: await opened.stats(), path, backingFile, encryption, seam: attachment.seam };
  }

  async #refresh(): Promise<void> {
    if (document.visibilityState === 'hidden' || !this.#life.machine) return;
    this.#life.showBootProgress();
    // The disk may close while it is asked; the next refresh finds none.
    const stats = await this.stats().catch(() => null);
    if (stats) showCounters(stats);
    const bases = await this.bases().catch(() => null);
    if (bases) showBase(bases[0]);
  }
}
