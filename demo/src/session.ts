/**
 * The demo's life: a disk, a machine on it, and what replaces one by another. One change at a time; an export is one, too.
 *
 *   start -> loading -> booting -> ready        openImage, reset: stopped -> loading -> ...
 *                 \-> error                      the guest powers off: stopped
 */
import { Qcow2Error, type OpfsDisk } from 'qcow2-wasm/opfs';
import type { DiskFault } from 'qcow2-wasm/v86';
import { BootProgress } from './boot-progress.js';
import type { DiskMap } from './disk-map.js';
import { showCounters, showDiskFacts, type DemoStats } from './drive-label.js';
import { GuestMachine, type MachineEvents } from './guest-machine.js';
import { hideNotice, showFatal, showNotice } from './notice.js';
import { currentState, formatBytes, progressText, setState, showProgress } from './page.js';
import type { SerialTerminal } from './serial-terminal.js';
import { commitStagedImage, deleteStoredDisk, openStoredDisk, stageImage } from './stored-disk.js';
import type { VgaScreen } from './vga-screen.js';

const READY_MARK = 'GUEST-READY';
const REFRESH_MILLISECONDS = 250;

export interface SessionOptions {
  /** Whether the page makes writes stable after a time, besides the guest itself. True unless told. */
  readonly flushTimers?: boolean;
}

export interface SessionView {
  readonly terminal: SerialTerminal;
  readonly screen: VgaScreen;
  readonly map: DiskMap;
}

export class Session {
  readonly #view: SessionView;
  readonly #flushTimers: boolean;
  #disk: OpfsDisk | null = null;
  #machine: GuestMachine | null = null;
  #progress: BootProgress | null = null;
  #output = '';
  #decoder = new TextDecoder();
  #change: Promise<void> = Promise.resolve();

  constructor(view: SessionView, { flushTimers = true }: SessionOptions = {}) {
    this.#view = view;
    this.#flushTimers = flushTimers;
    setInterval(() => void this.#refresh(), REFRESH_MILLISECONDS);
  }

  /** Opens the stored disk and boots from it. What goes wrong is shown, not thrown. */
  start(): Promise<void> {
    return this.#exclusive(() => this.#boot()).catch(() => undefined);
  }

  /** Everything the guest printed on its serial port since this boot. */
  get output(): string {
    return this.#output;
  }

  send(text: string): void {
    this.#machine?.send(text);
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
        disk.exportImage(({ done, total }) => onProgress?.(total > 0 ? done / total : 1)),
      );
    });
  }

  /** Makes `image` the disk and boots from it. If it is refused, nothing has changed and the guest runs on. */
  openImage(image: Blob): Promise<void> {
    return this.#exclusive(async () => {
      const line = progressText();
      await stageImage(image, (fraction) =>
        showProgress(`Taking the image in: ${Math.round(100 * fraction)} %`, fraction),
      ).finally(() => showProgress(line, 1));
      await this.#shutDown();
      await this.#boot(commitStagedImage);
    });
  }

  /** Throws the disk away and boots from a fresh overlay over the base. */
  reset(): Promise<void> {
    return this.#exclusive(async () => {
      await this.#shutDown();
      await this.#boot(deleteStoredDisk);
    });
  }

  /** Boots again from the same disk. */
  restart(): Promise<void> {
    return this.#exclusive(async () => {
      await this.#shutDown();
      await this.#boot();
    });
  }

  async stats(): Promise<DemoStats> {
    const { disk, attachment } = this.#running();
    const opened = this.#disk!;
    const { path, backingFile } = opened.info;
    return { guest: disk.activity, disk: await opened.stats(), path, backingFile, seam: attachment.seam };
  }

  #running(): GuestMachine {
    if (!this.#machine) throw new Qcow2Error('CLOSED', 'no guest is running');
    return this.#machine;
  }

  #exclusive<T>(change: () => Promise<T>): Promise<T> {
    const done = this.#change.then(change);
    const settled = (): void => undefined;
    this.#change = done.then(settled, settled);
    return done;
  }

  /** @param prepare what is done to the stored disk while nobody has it open. */
  async #boot(prepare?: () => Promise<void>): Promise<void> {
    try {
      setState('loading');
      showProgress('Opening the disk', null);
      hideNotice();
      await prepare?.();
      this.#disk = await openStoredDisk((done, total) => {
        const of = total === null ? '' : ` of ${formatBytes(total)}`;
        showProgress(`Downloading the base image: ${formatBytes(done)}${of}`, total === null ? null : done / total);
      });
      void this.#watch(this.#disk);
      await this.#powerOn(this.#disk);
    } catch (error) {
      await this.#fail(error);
      throw error;
    }
  }

  async #powerOn(disk: OpfsDisk): Promise<void> {
    const { terminal, screen, map } = this.#view;
    terminal.clear();
    screen.clear();
    map.start(disk.info.size);
    this.#output = '';
    this.#decoder = new TextDecoder();
    showProgress('Building the machine', 0);
    const events: MachineEvents = {
      onSerialByte: (byte) => this.#receive(byte),
      onTransfer: (kind, offset, length) => map.note(kind, offset, length),
      onFault: (fault) => this.#showFault(fault),
      onHalt: () => this.#halted(),
    };
    const machine = await GuestMachine.create(disk, screen.container, events, { flushTimers: this.#flushTimers });
    this.#machine = machine;
    screen.use(machine.emulator);
    showDiskFacts(disk, machine.attachment.seam);
    this.#progress = new BootProgress();
    setState('booting');
    await machine.run();
  }

  #receive(byte: number): void {
    this.#view.terminal.writeByte(byte);
    this.#output += this.#decoder.decode(Uint8Array.of(byte), { stream: true });
    // Looked for where a line ends: not again for every byte.
    if (byte !== 0x0a || currentState() !== 'booting' || !this.#output.includes(READY_MARK)) return;
    setState('ready');
    this.#progress?.finish(this.#machine?.disk.activity.readBytes ?? 0);
    this.#progress = null;
  }

  /** Ends machine and disk. A failing flush does not keep the disk open: what it could not save is shown by `#showFault`. */
  async #shutDown(): Promise<void> {
    setState('stopped');
    const [machine, disk] = [this.#machine, this.#disk];
    this.#machine = null;
    this.#disk = null;
    this.#view.screen.use(null);
    await machine?.powerOff().catch((error: unknown) => console.error('the machine did not stop cleanly', error));
    await disk?.close().catch((error: unknown) => console.error('the disk did not close cleanly', error));
  }

  async #fail(error: unknown): Promise<void> {
    console.error(error);
    await this.#shutDown();
    setState('error');
    showProgress('', 0);
    showFatal(error, () => void this.reset().catch(() => undefined));
  }

  /** The worker may end without our doing. */
  async #watch(disk: OpfsDisk): Promise<void> {
    const error = await disk.closed;
    if (error && this.#disk === disk) await this.#fail(error);
  }

  #halted(): void {
    if (currentState() !== 'ready' && currentState() !== 'booting') return;
    setState('stopped');
    showProgress('The guest has stopped', 0);
    const restart = { label: 'Start it again', run: () => void this.restart().catch(() => undefined) };
    showNotice({
      title: 'The guest has powered off',
      advice: 'Its disk is safe: everything it wrote is in the file.',
      actions: [restart],
      calm: true,
    });
    void this.#machine?.attachment.flush().catch(() => undefined);
  }

  #showFault({ operation, error }: DiskFault): void {
    // The end of the worker has a panel of its own.
    if (error.code === 'WORKER_DIED' || error.code === 'CLOSED') return;
    const advice =
      error.code === 'NO_SPACE' || error.code === 'POISONED'
        ? 'The guest was told, and its file system has probably turned read-only. Free some space and reload: what was flushed before is safe.'
        : 'The guest was told with an I/O error. What was flushed before is safe; download the disk if you want to look at it.';
    showNotice({
      title: `The disk could not carry out a ${operation}`,
      what: `${error.code}: ${error.message}`,
      advice,
    });
  }

  async #refresh(): Promise<void> {
    if (document.visibilityState === 'hidden' || !this.#machine) return;
    this.#progress?.show(this.#machine.disk.activity.readBytes);
    // The disk may close while it is asked; the next refresh finds none.
    const stats = await this.stats().catch(() => null);
    if (stats) showCounters(stats);
  }
}
