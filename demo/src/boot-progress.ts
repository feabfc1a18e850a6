/**
 * How far a boot is. There is no total to go by, so the last boot here serves as one: half of the bar is the bytes it had
 * read, half is the time it took (a kernel that unpacks itself reads nothing).
 */
import { formatBytes, showProgress } from './page.js';

const STORAGE_KEY = 'qcow2-wasm-demo last boot';
const FIRST_GUESS = { bytes: 10e6, seconds: 30 };

/** The BIOS and the boot loader read less than this; then the kernel is being loaded. */
const KERNEL_BEGINS_BYTES = 256 * 1024;

export class BootProgress {
  readonly #startedAt = performance.now();
  readonly #expected = lastBoot();

  show(readBytes: number): void {
    const seconds = this.#seconds();
    const phase = readBytes < KERNEL_BEGINS_BYTES ? 'BIOS' : 'Linux is starting';
    const byBytes = Math.min(1, readBytes / this.#expected.bytes);
    const byTime = Math.min(1, seconds / this.#expected.seconds);
    showProgress(`${phase}: ${formatBytes(readBytes)} read, ${seconds.toFixed(0)} s`, 0.48 * (byBytes + byTime));
  }

  finish(readBytes: number): void {
    const seconds = this.#seconds();
    localStorage.setItem(STORAGE_KEY, `${readBytes} ${seconds}`);
    showProgress(`Booted in ${seconds.toFixed(1)} s, ${formatBytes(readBytes)} read`, 1);
  }

  #seconds(): number {
    return (performance.now() - this.#startedAt) / 1000;
  }
}

function lastBoot(): { bytes: number; seconds: number } {
  const [bytes, seconds] = (localStorage.getItem(STORAGE_KEY) ?? '').split(' ').map(Number);
  return bytes && seconds ? { bytes, seconds } : FIRST_GUESS;
}
