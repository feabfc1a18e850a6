/** An emulator without a processor: memory, a screen, a disk; states in v86's format; events as v86 sends them. */
import type { V86Disk } from '../../src/v86/v86-disk.js';
import type { V86Emulator, V86Event } from '../../src/v86/v86-types.js';
import { decodeFakeState, encodeFakeState } from './fake-state.js';

export interface FakeMachineOptions {
  readonly memoryBytes?: number;
  readonly vgaBytes?: number;
  readonly version?: number;
  readonly hasNetwork?: boolean;
}

export class FakeEmulator implements V86Emulator {
  readonly v86: { cpu: { devices: { ide: { primary: { master: { buffer: V86Disk } } } } } };
  readonly memory: Uint8Array;
  readonly vga: Uint8Array;
  readonly version: number;
  readonly hasNetwork: boolean;
  /** What was asked of it, in that order. */
  readonly calls: string[] = [];
  instructions = 0;
  failRestore = false;
  #running = false;
  readonly #disk: V86Disk;
  readonly #listeners: { event: V86Event; listener: () => void }[] = [];

  constructor(disk: V86Disk, options: FakeMachineOptions = {}) {
    const { memoryBytes = 2 ** 20, vgaBytes = 65536, version = 6, hasNetwork = false } = options;
    this.v86 = { cpu: { devices: { ide: { primary: { master: { buffer: disk } } } } } };
    this.#disk = disk;
    this.memory = new Uint8Array(memoryBytes);
    this.vga = new Uint8Array(vgaBytes);
    this.version = version;
    this.hasNetwork = hasNetwork;
  }

  add_listener(event: V86Event, listener: () => void): void {
    this.#listeners.push({ event, listener });
  }

  remove_listener(event: V86Event, listener: () => void): void {
    const index = this.#listeners.findIndex((one) => one.event === event && one.listener === listener);
    if (index >= 0) this.#listeners.splice(index, 1);
  }

  get listeners(): number {
    return this.#listeners.length;
  }

  async run(): Promise<void> {
    this.calls.push('run');
    if (this.#running) return;
    this.#running = true;
    this.#send('emulator-started');
  }

  async stop(): Promise<void> {
    this.calls.push('stop');
    if (!this.#running) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
    this.#running = false;
    this.#send('emulator-stopped');
  }

  is_running(): boolean {
    return this.#running;
  }

  async save_state(): Promise<ArrayBuffer> {
    this.calls.push('save_state');
    const { version, memory, vga, hasNetwork } = this;
    return encodeFakeState({ version, memory, vga, others: [], disk: this.#disk.get_state(), hasNetwork });
  }

  async restore_state(buffer: ArrayBuffer): Promise<void> {
    this.calls.push('restore_state');
    if (this.failRestore) throw new TypeError('a device is undefined');
    const { memory, vga, disk } = decodeFakeState(buffer);
    this.#disk.set_state(disk);
    this.memory.set(memory);
    this.vga.set(vga);
  }

  get_instruction_counter(): number {
    return this.instructions;
  }

  #send(event: V86Event): void {
    for (const one of [...this.#listeners]) if (one.event === event) one.listener();
  }
}
