/** Whole-number arithmetic on sizes and offsets up to 2^53 - 1, where the 32-bit operators of JavaScript would cut. */

export function divideUp(value: number, divisor: number): number {
  return Math.ceil(value / divisor);
}

export function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

export function alignDown(value: number, unit: number): number {
  return Math.floor(value / unit) * unit;
}

export function isAligned(value: number, unit: number): boolean {
  return value % unit === 0;
}

export function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && Number.isInteger(Math.log2(value));
}

/** For messages: `0x1f000`. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}
