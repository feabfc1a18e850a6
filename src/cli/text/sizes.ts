/**
 * Sizes and numbers as QEMU reads and prints them.
 *
 * Read: `1024`, `1k`, `1.5G`, `0x400`; suffixes b K M G T P E in either case, powers of 1024; fractions with a suffix above b only;
 * hex without fraction. Below 2^64. As bigint, since a size above 2^53 has its own messages; `toNumber` is the way back.
 */

export type ParsedNumber =
  | { readonly kind: 'number'; readonly value: bigint }
  /** Not a number of this form. */
  | { readonly kind: 'invalid' }
  /** It does not fit 64 bits. */
  | { readonly kind: 'range' };

const INVALID: ParsedNumber = { kind: 'invalid' };
const RANGE: ParsedNumber = { kind: 'range' };
const MAX_UINT64 = 2n ** 64n - 1n;

export const MAX_INT64 = 2n ** 63n - 1n;

const SUFFIXES = 'BKMGTPE';

/** QEMU: `qemu_strtosz`. White space before the number is allowed, nothing after it. */
export function parseSize(text: string): ParsedNumber {
  // `b` and `e` at the end of a hex number are digits.
  const hex = /^\s*\+?0[xX]([0-9a-fA-F]+)([bBkKmMgGtTpPeE]?)$/.exec(text);
  if (hex) return scaled(BigInt(`0x${hex[1]}`), '', hex[2]!);
  const decimal = /^\s*\+?([0-9]+)(?:\.([0-9]*))?([bBkKmMgGtTpPeE]?)$/.exec(text);
  if (!decimal) return INVALID;
  return scaled(BigInt(decimal[1]!), decimal[2] ?? '', decimal[3]!);
}

function scaled(whole: bigint, fraction: string, suffix: string): ParsedNumber {
  if (whole > MAX_UINT64) return RANGE;
  const power = Math.max(0, SUFFIXES.indexOf(suffix === '' ? 'B' : suffix.toUpperCase()));
  const unit = 1024n ** BigInt(power);
  const hasFraction = /[1-9]/.test(fraction);
  if (unit === 1n && hasFraction) return INVALID;
  const denominator = 10n ** BigInt(fraction.length);
  // Half a byte is rounded up.
  const part = hasFraction ? (BigInt(fraction) * unit * 2n + denominator) / (denominator * 2n) : 0n;
  const value = whole * unit + part;
  return value > MAX_UINT64 ? RANGE : { kind: 'number', value };
}

/** QEMU: `qemu_strtou64` with base 0: decimal, `0x` hex, octal after a leading 0. A minus sign wraps around, as in C. */
export function parseNumber(text: string): ParsedNumber {
  const match = /^\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$/.exec(text);
  if (!match) return INVALID;
  const digits = match[2]!;
  const value = BigInt(/^0[0-7]+$/.test(digits) ? `0o${digits.slice(1)}` : digits);
  if (value > MAX_UINT64) return RANGE;
  return { kind: 'number', value: match[1] === '-' ? BigInt.asUintN(64, -value) : value };
}

/** Null for what no double holds exactly. */
export function toNumber(value: bigint): number | null {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : null;
}

/** QEMU: `size_to_str`. "64 KiB", "1.5 GiB", "5e+03 PiB": three digits, the next unit from 1000 on. */
export function humanSize(bytes: number | bigint): string {
  const prefixes = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'];
  const value = Number(bytes);
  let power = 0;
  while (value >= 1000 * 1024 ** power && power < prefixes.length - 1) power++;
  return `${threeDigits(value / 1024 ** power)} ${prefixes[power]}B`;
}

/** C's `%.3g`. */
export function threeDigits(value: number): string {
  if (value === 0) return '0';
  const exponent = Number(value.toExponential(2).split('e')[1]);
  if (exponent >= -4 && exponent < 3) return trimZeroes(value.toFixed(2 - exponent));
  const [mantissa, power] = value.toExponential(2).split('e');
  const digits = Math.abs(Number(power)).toString().padStart(2, '0');
  return `${trimZeroes(mantissa!)}e${Number(power) < 0 ? '-' : '+'}${digits}`;
}

function trimZeroes(text: string): string {
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}
