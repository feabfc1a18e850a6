/**
 * Reports: how many bytes an operation moved, and how fast.
 *
 *   read 65536/65536 bytes at offset 0
 *   64 KiB, 1 ops; 00.00 sec (1.234 GiB/sec and 20000.1234 ops/sec)
 *   65536,1,0:00:00.00,1324997632.000,20217.858             with -C
 */
import type { Session } from './session.js';

export interface Moved {
  /** "read", "wrote", "discard". */
  readonly what: string;
  readonly offset: number;
  /** Bytes that were asked for. */
  readonly length: number;
  readonly seconds: number;
  /** One line for programs to read. */
  readonly terse: boolean;
}

export function printReport(session: Session, { what, offset, length, seconds, terse }: Moved): void {
  const rate = length / seconds;
  const operations = 1 / seconds;
  if (terse) {
    const values = [length, 1, clock(seconds), rate.toFixed(3), operations.toFixed(3)];
    session.console.out(`${values.join(',')}\n`);
    return;
  }
  const time = seconds >= 1 ? clock(seconds) : `${seconds.toFixed(2).padStart(5, '0')} sec`;
  session.console.out(`${what} ${length}/${length} bytes at offset ${offset}\n`);
  const speed = `${units(rate)}/sec and ${operations.toFixed(4)} ops/sec`;
  session.console.out(`${units(length)}, 1 ops; ${time} (${speed})\n`);
}

/** "1.500 MiB", "64 KiB", "512 bytes". */
export function units(value: number): string {
  const names = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
  let power = 0;
  while (power < names.length && value >= 1024 ** (power + 1)) power++;
  const [digits, name] =
    power === 0 ? [value.toFixed(6), 'bytes'] : [threeDecimals(value / 1024 ** power), names[power - 1]!];
  return `${digits.replace(/\.000.*$/, '')} ${name}`;
}

/** C's `%.3f`: what lies just between two is rounded to the even one. Only sixteenths can lie so. */
function threeDecimals(value: number): string {
  const isBetween = Number.isInteger(value * 16) && (value * 2000) % 2 === 1;
  return isBetween ? ((Math.round(value * 500) * 2) / 1000).toFixed(3) : value.toFixed(3);
}

/** h:mm:ss.ss */
function clock(seconds: number): string {
  const whole = Math.floor(seconds);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const rest = (seconds - whole + (whole % 60)).toFixed(2).padStart(5, '0');
  return `${hours}:${String(minutes).padStart(2, '0')}:${rest}`;
}

/** How long `work` takes. Seconds, never 0. */
export function timed(work: () => void): number {
  const start = process.hrtime.bigint();
  work();
  return Math.max(1, Number(process.hrtime.bigint() - start)) / 1e9;
}

/** Bytes in hex and as letters, 16 a line. */
export function dump(session: Session, bytes: Uint8Array, offset: number): void {
  for (let at = 0; at < bytes.length; at += 16) {
    const line = bytes.subarray(at, at + 16);
    const hex = Array.from(line, (byte) => `${byte.toString(16).padStart(2, '0')} `).join('');
    const text = Array.from(line, (byte) => letterOf(byte)).join('');
    session.console.out(`${(offset + at).toString(16).padStart(8, '0')}:  ${hex} ${text}\n`);
  }
}

function letterOf(byte: number): string {
  const character = String.fromCharCode(byte);
  return /[0-9A-Za-z]/.test(character) ? character : '.';
}
