/** One emulated machine, from power-on until it is destroyed: v86, its disk, its serial port, its screen. */
import { attach, remoteDisk, type Attachment, type DiskFault, type V86Disk } from 'qcow2-wasm/v86';
import type { OpfsDisk } from 'qcow2-wasm/opfs';
import { V86 } from 'v86';
import { GuestDisk, type OnTransfer } from './guest-disk.js';

const MEMORY_BYTES = 128 * 2 ** 20;
const VGA_MEMORY_BYTES = 4 * 2 ** 20;

/** The longest that a timer of a browser can be set to, so that it never fires here. */
const NEVER_MILLISECONDS = 2 ** 31 - 1;

export interface MachineOptions {
  /** False leaves it to the guest alone when its writes become stable. */
  readonly flushTimers: boolean;
}

export interface MachineEvents {
  readonly onSerialByte: (byte: number) => void;
  readonly onTransfer: OnTransfer;
  readonly onFault: (fault: DiskFault) => void;
  /** The guest halted its processor for good. */
  readonly onHalt: () => void;
}

export class GuestMachine {
  #isOff = false;
  #isHalted = false;

  private constructor(
    private readonly remote: GuestDisk,
    readonly disk: V86Disk,
    readonly attachment: Attachment,
    readonly emulator: V86,
  ) {}

  /** Builds the machine on `opened`; it does not run yet. */
  static async create(
    opened: OpfsDisk,
    screen: HTMLElement,
    events: MachineEvents,
    { flushTimers }: MachineOptions,
  ): Promise<GuestMachine> {
    const remote = new GuestDisk(opened, events.onTransfer);
    const disk = remoteDisk(remote, { onError: events.onFault });
    const emulator = new V86({
      wasm_path: 'v86.wasm',
      memory_size: MEMORY_BYTES,
      vga_memory_size: VGA_MEMORY_BYTES,
      bios: { url: 'guest/bios/bios.bin' },
      vga_bios: { url: 'guest/bios/vgabios-stdvga.bin' },
      screen: { container: screen },
      hda: disk,
      disable_mouse: true,
      disable_speaker: true,
      autostart: false,
    });
    emulator.add_listener('serial0-output-byte', events.onSerialByte);
    const failed = new Promise<never>((_, reject) => {
      emulator.add_listener('download-error', ({ file_name }) => reject(new Error(`${file_name} could not be loaded`)));
    });
    const never = { quietMilliseconds: NEVER_MILLISECONDS, maximumMilliseconds: NEVER_MILLISECONDS };
    const attaching = attach(emulator, disk, flushTimers ? {} : { durability: never });
    const attachment = await Promise.race([attaching, failed]);
    // The page's own keys and buttons work until the screen has the focus.
    emulator.keyboard_set_enabled(false);
    const machine = new GuestMachine(remote, disk, attachment, emulator);
    listenForHalt(emulator, () => {
      machine.#isHalted = true;
      events.onHalt();
    });
    return machine;
  }

  /** Does nothing once it is powered off. */
  async run(): Promise<void> {
    if (!this.#isOff) await this.emulator.run();
  }

  get isRunning(): boolean {
    return this.emulator.is_running();
  }

  /** Whether the guest has halted its processor for good; the emulator runs all the same. */
  get isHalted(): boolean {
    return this.#isHalted;
  }

  /** v86 tells of a halt when it happens, and nobody of one that a snapshot brought back. */
  noteRestored(isHalted: boolean): void {
    this.#isHalted = isHalted;
  }

  send(text: string): void {
    this.emulator.serial0_send(text);
  }

  /**
   * Runs `job` while the machine stands still and none of its disk requests is under way, so that the guest waits for
   * none however long the job takes. Then it goes on, whatever became of the job.
   */
  async whileStopped<T>(job: () => Promise<T>): Promise<T> {
    const wasRunning = this.emulator.is_running();
    await this.attachment.quiesce();
    try {
      return await job();
    } finally {
      if (wasRunning) await this.run();
    }
  }

  /** Puts a disk with the same content in place of its own. Only inside `whileStopped`, when all writes are stable. */
  replaceDisk(disk: OpfsDisk): void {
    this.remote.replace(disk);
  }

  /** Stops the machine, lets its last request end, and makes what it wrote stable. The remote disk stays open. */
  async powerOff(): Promise<void> {
    this.#isOff = true;
    try {
      await this.attachment.quiesce();
      await this.attachment.detach();
    } finally {
      await this.emulator.destroy();
    }
  }
}

/** Not in v86's types: sent when the processor halts with interrupts off. */
function listenForHalt(emulator: V86, listener: () => void): void {
  const untyped: { add_listener(event: string, listener: () => void): void } = emulator as never;
  untyped.add_listener('cpu-event-halt', listener);
}
