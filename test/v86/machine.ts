/** v86 in Node for the tests: a machine without a guest, and a guest with a serial console to talk to. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { V86, type V86Image } from 'v86';
import { V86Disk } from '../../src/v86/v86-disk.js';

const require = createRequire(import.meta.url);

/** Where the installed v86 keeps its build. */
export const V86_BUILD = dirname(require.resolve('v86'));

export interface MachineFirmware {
  readonly bios: ArrayBuffer;
  readonly vgaBios: ArrayBuffer;
}

export function readArrayBuffer(path: string): ArrayBuffer {
  const { buffer, byteOffset, byteLength } = readFileSync(path);
  return buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer;
}

export const MEMORY_BYTES = 64 * 2 ** 20;

/** A machine with `disk` as its first drive, built but not running once `emulator-loaded` comes. */
export function createMachine(
  disk: V86Disk | V86Image,
  firmware: MachineFirmware | null = null,
  memoryBytes = MEMORY_BYTES,
): V86 {
  return new V86({
    wasm_path: join(V86_BUILD, 'v86.wasm'),
    memory_size: memoryBytes,
    vga_memory_size: 2 * 2 ** 20,
    disable_speaker: true,
    autostart: false,
    hda: disk,
    ...(firmware ? { bios: { buffer: firmware.bios }, vga_bios: { buffer: firmware.vgaBios } } : {}),
  });
}

export interface CommandResult {
  readonly output: string;
  readonly status: number;
  readonly milliseconds: number;
}

/** The guest's serial console: waits for text, runs shell commands. */
export class SerialConsole {
  text = '';
  readonly #emulator: V86;
  readonly #watchers = new Set<() => void>();
  #commands = 0;

  constructor(emulator: V86) {
    this.#emulator = emulator;
    emulator.add_listener('serial0-output-byte', (byte) => {
      this.text += String.fromCharCode(byte);
      for (const watcher of this.#watchers) watcher();
    });
  }

  /** Resolves with the match in what was printed after position `from`. */
  waitFor(pattern: RegExp, timeoutMilliseconds: number, from = 0): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#watchers.delete(look);
        reject(
          new Error(`no ${pattern} within ${timeoutMilliseconds} ms; the console ends with: ${this.text.slice(-400)}`),
        );
      }, timeoutMilliseconds);
      const look = (): void => {
        const match = pattern.exec(this.text.slice(from));
        if (!match) return;
        clearTimeout(timer);
        this.#watchers.delete(look);
        resolve(match);
      };
      this.#watchers.add(look);
      look();
    });
  }

  /** Types `command` and resolves with what it printed and its exit status. */
  async run(command: string, timeoutMilliseconds = 60_000): Promise<CommandResult> {
    const from = this.text.length;
    const mark = `m${++this.#commands}`;
    const startedAt = performance.now();
    // The empty quotes keep the echo of the typed line from looking like the marks it prints.
    this.#emulator.serial0_send(`echo BEGIN''-${mark}; ${command}; echo END''-${mark}:$?\n`);
    const match = await this.waitFor(
      new RegExp(`BEGIN-${mark}\\r?\\n([^]*?)END-${mark}:(\\d+)`),
      timeoutMilliseconds,
      from,
    );
    return {
      output: match[1]!.replaceAll('\r', '').trim(),
      status: Number(match[2]),
      milliseconds: performance.now() - startedAt,
    };
  }
}
