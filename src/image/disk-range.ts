import type { GuestOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';

/** Throws `OUT_OF_RANGE` unless `length` bytes from `offset` lie inside a disk of `size` bytes. */
export function checkRange(size: number, offset: GuestOffset, length: number): void {
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length);
  if (whole && offset >= 0 && length >= 0 && offset + length <= size) return;
  throw new Qcow2Error(
    'OUT_OF_RANGE',
    `the range of ${length} bytes at offset ${offset} is not inside the disk of ${size}`,
  );
}
