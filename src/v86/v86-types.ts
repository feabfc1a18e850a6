/**
 * The slice of v86 this package leans on. None of it is in v86's own `v86.d.ts`; it was read from its build (0.5.462) and
 * `test/v86/contract.test.ts` says so in plain words when a new version moves it.
 *
 * Three parts: the object v86 takes as `hda`, the emulator as its embedder holds it, and the ATA interface behind
 * `emulator.v86.cpu.devices.ide`, which is what the flush hook changes. Register names are v86's, so they are spelled its way.
 */

/** v86 cancels a read (a reset of the guest's controller) through this signal; it ignores the answer then. */
export interface V86ReadOptions {
  readonly signal?: AbortSignal;
}

/** What v86 asks of a disk. Offsets and lengths are in bytes, multiples of 256. */
export interface V86DiskContract {
  /** Bytes. v86 divides it by the sector size of 512. */
  readonly byteLength: number;
  /** Set by v86 before `load()`; to be called when the disk can answer. */
  onload: ((event: object) => void) | undefined;
  onprogress: ((event: object) => void) | undefined;
  load(): void;
  get(offset: number, length: number, answer: (data: Uint8Array) => void, options?: V86ReadOptions): void;
  /** `data` may be a live view of the controller's buffer: it is only right until `set` returns. */
  set(offset: number, data: Uint8Array, answer: () => void): void;
  /** Called for sector 0 before the machine is built; v86 waits for the answer. */
  get_and_cache(offset: number, length: number, answer: (data: Uint8Array) => void, options?: V86ReadOptions): void;
  /** The disk's first sector, from which v86 takes the geometry for the BIOS. */
  get_from_cache(offset: number, length: number): Uint8Array | undefined;
  get_buffer(answer: (buffer?: ArrayBuffer) => void): void;
  /** What goes into `save_state()`: numbers, strings, booleans, null, arrays, typed arrays. Synchronous. */
  get_state(): unknown[];
  set_state(state: unknown): void;
}

/** One of the two channels of the IDE controller. */
export interface AtaChannel {
  readonly irq: number;
  /** Bus master status: bit 0 active, bit 1 error, bit 2 interrupt. */
  dma_status: number;
}

/** One drive position of a channel. Instances are sealed; only the prototype can be changed. */
export interface AtaInterface {
  readonly buffer: unknown;
  /** Undefined for a hard disk. */
  readonly is_atapi: boolean | undefined;
  readonly channel: AtaChannel;
  readonly cpu: { device_lower_irq(irq: number): void };
  /** The sector buffer of PIO transfers and of IDENTIFY. */
  readonly data: Uint8Array;
  status_reg: number;
  error_reg: number;
  current_command: number;
  ata_command(command: number): void;
  create_identify_packet(): void;
  do_write(): void;
  device_reset(): void;
  cancel_io_operations(): void;
  push_irq(): void;
}

export interface IdeController {
  readonly primary?: { readonly master?: unknown; readonly slave?: unknown };
  readonly secondary?: { readonly master?: unknown; readonly slave?: unknown };
}

export type V86Event = 'emulator-loaded' | 'emulator-started' | 'emulator-stopped';

export interface V86Processor {
  readonly devices?: { readonly ide?: IdeController };
  /** Puts the time stamp counter into `current_tsc`, the low word first. */
  store_current_tsc?(): void;
  readonly current_tsc?: Uint32Array;
  set_tsc?(low: number, high: number): void;
}

/** The emulator as `new V86()` gives it. */
export interface V86Emulator {
  add_listener(event: V86Event, listener: () => void): void;
  remove_listener(event: V86Event, listener: () => void): void;
  run(): Promise<void>;
  stop(): Promise<void>;
  is_running(): boolean;
  /** RAM, processor and devices, in the format that `saved-state.ts` reads. */
  save_state(): Promise<ArrayBuffer>;
  /** Fails halfway, the machine then being of no use, if the state does not fit the machine. */
  restore_state(state: ArrayBuffer): Promise<void>;
  /** Instructions that the processor has executed, in 32 bits. */
  get_instruction_counter(): number;
  /** Absent until the WASM is there; `devices.ide` is absent until `emulator-loaded`. */
  readonly v86?: { readonly cpu?: V86Processor };
}
