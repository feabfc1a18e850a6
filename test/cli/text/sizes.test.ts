import { describe, expect, test } from 'vitest';
import { humanSize, parseNumber, parseSize, threeDigits, toNumber } from '../../../src/cli/text/sizes.js';

const sizeOf = (text: string) => {
  const parsed = parseSize(text);
  return parsed.kind === 'number' ? parsed.value : parsed.kind;
};

describe('sizes', () => {
  test.each([
    ['1024', 1024n],
    ['1024b', 1024n],
    ['1k', 1024n],
    ['1K', 1024n],
    ['1.5G', 1610612736n],
    ['0.5k', 512n],
    ['1024.0', 1024n],
    ['1.k', 1024n],
    ['0x400', 1024n],
    ['0x1e', 30n],
    ['7E', 7n * 2n ** 60n],
    ['18446744073709551615', 2n ** 64n - 1n],
    ['1.00001k', 1024n],
    ['1.0005k', 1025n],
  ])('%s is %d bytes', (text, bytes) => {
    expect(sizeOf(text)).toBe(bytes);
  });

  test.each(['', '-1', '1kilobyte', 'foobar', '1.5', '0x1.8', '1e3', '1 k', '0x'])('%j is none', (text) => {
    expect(sizeOf(text)).toBe('invalid');
  });

  test.each(['18446744073709551616', '16E', '99999999999999999999k'])('%s does not fit 64 bits', (text) => {
    expect(sizeOf(text)).toBe('range');
  });

  test('what a double holds exactly becomes a number', () => {
    expect(toNumber(2n ** 53n - 1n)).toBe(2 ** 53 - 1);
    expect(toNumber(2n ** 53n)).toBeNull();
  });
});

describe('numbers', () => {
  test.each([
    ['16', 16n],
    ['0x10', 16n],
    ['020', 16n],
    ['0', 0n],
    ['-1', 2n ** 64n - 1n],
  ])('%s is %d', (text, value) => {
    expect(parseNumber(text)).toEqual({ kind: 'number', value });
  });

  test.each(['', 'x', '1k', '08', '1.0'])('%j is none', (text) => {
    expect(parseNumber(text)).toEqual({ kind: 'invalid' });
  });
});

describe('sizes for people', () => {
  test.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '0.977 KiB'],
    [65536, '64 KiB'],
    [1610612736, '1.5 GiB'],
    [200704, '196 KiB'],
    [2297856, '2.19 MiB'],
    [1048576000, '0.977 GiB'],
    [2 ** 63, '8 EiB'],
  ])('%d bytes are %s', (bytes, text) => {
    expect(humanSize(bytes)).toBe(text);
  });

  test('three digits, as %.3g has them', () => {
    expect([0, 1, 12.345, 999.6, 0.0001, 0.00001, 123456].map(threeDigits)).toEqual([
      '0',
      '1',
      '12.3',
      '1e+03',
      '0.0001',
      '1e-05',
      '1.23e+05',
    ]);
  });
});
