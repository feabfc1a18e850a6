import { describe, expect, test } from 'vitest';
import { firstRun } from '../../../src/cli/img/sparse.js';

const SECTOR = 512;

/** `x` is a sector of data, `.` one of zeroes. */
function buffer(pattern: string): Uint8Array {
  const bytes = new Uint8Array(pattern.length * SECTOR);
  [...pattern].forEach((kind, index) => {
    if (kind === 'x') bytes[index * SECTOR + 100] = 1;
  });
  return bytes;
}

/** The runs of a buffer that is written at sector `at`: as many letters as sectors. */
function runs(pattern: string, rules: { min: number; alignment: number }, at = 0): string[] {
  const bytes = buffer(pattern);
  const found: string[] = [];
  for (let done = 0; done < bytes.length;) {
    const { data, length } = firstRun(bytes.subarray(done), at * SECTOR + done, rules);
    found.push((data ? 'x' : '.').repeat(length / SECTOR));
    done += length;
  }
  return found;
}

describe('runs of data and of zeroes', () => {
  test('a short run of zeroes between data is data', () => {
    expect(runs('xx..xx....xx', { min: 4, alignment: 1 })).toEqual(['xxxxxx', '....', 'xx']);
  });

  test('zeroes at the end of the buffer are no data, however few', () => {
    expect(runs('xx.', { min: 4, alignment: 1 })).toEqual(['xx', '.']);
  });

  test('runs begin and end at multiples of the alignment', () => {
    expect(runs('x.......x.......', { min: 4, alignment: 4 })).toEqual(['xxxx', '....', 'xxxx', '....']);
    expect(runs('..............x.', { min: 4, alignment: 4 })).toEqual(['............', 'xxxx']);
  });

  test('the alignment is that of the disk, not of the buffer', () => {
    expect(runs('x.......', { min: 4, alignment: 4 }, 2)).toEqual(['xx', '......']);
  });

  test('a buffer of one kind is one run', () => {
    expect(runs('....', { min: 8, alignment: 8 })).toEqual(['....']);
    expect(runs('xxx', { min: 8, alignment: 8 }, 1)).toEqual(['xxx']);
  });
});
