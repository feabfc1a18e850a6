import { describe, expect, test } from 'vitest';
import {
  boolOption,
  checkEntries,
  isJoinable,
  optionHelp,
  parseOptionList,
  sizeOption,
  wantsHelp,
} from '../../../src/cli/text/option-list.js';

describe('lists of options', () => {
  test('a doubled comma belongs to the value', () => {
    expect(parseOptionList('file=a,,b,,,driver=raw').entries).toEqual([
      ['file', 'a,b,'],
      ['driver', 'raw'],
    ]);
  });

  test('a key alone is on, with no before it off', () => {
    const { entries, flags } = parseOptionList('lazy,nocow');
    expect(entries).toEqual([
      ['lazy', 'on'],
      ['cow', 'off'],
    ]);
    expect(flags.map(({ written }) => written)).toEqual(['lazy', 'nocow']);
  });

  test('the first word may be the value of an implied key, the id is apart', () => {
    const { entries, id } = parseOptionList('secret,id=sec0,data=a=b', 'qom-type');
    expect(entries).toEqual([
      ['qom-type', 'secret'],
      ['data', 'a=b'],
    ]);
    expect(id).toBe('sec0');
  });

  test('an empty value, and an empty list', () => {
    expect(parseOptionList('a=,b=').entries).toEqual([
      ['a', ''],
      ['b', ''],
    ]);
    expect(parseOptionList('').entries).toEqual([]);
  });

  test('help is wanted by a word of its own only', () => {
    expect(['help', '?', 'size=1,help', 'help,size=1'].map(wantsHelp)).toEqual([true, true, true, true]);
    expect(['backing_file=help', 'size=1,,help', 'helpful'].map(wantsHelp)).toEqual([false, false, false]);
  });

  test('lists whose commas would run together are not joined', () => {
    expect(['a=1', 'a=1,,'].map(isJoinable)).toEqual([true, true]);
    expect(['', ',a=1', 'a=1,', 'a=1,,,'].map(isJoinable)).toEqual([false, false, false, false]);
  });
});

describe('values', () => {
  test('each type refuses what is none of it, in the words of QEMU', () => {
    expect(boolOption('x', 'yes')).toBe(true);
    expect(() => boolOption('x', 'maybe')).toThrow("Parameter 'x' expects 'on' or 'off'");
    expect(() => sizeOption('x', '-1')).toThrow("Parameter 'x' expects a non-negative number below 2^64");
    expect(() => sizeOption('x', '16E')).toThrow("Value '16E' is out of range for parameter 'x'");
  });

  test('an unknown option is refused before the values behind it', () => {
    const table = { size: { type: 'size' } } as const;
    expect(() => checkEntries([['foo', '1'], ['size', 'x']], table)).toThrow("Invalid parameter 'foo'"); // prettier-ignore
    expect(() => checkEntries([['toString', '1']], table)).toThrow("Invalid parameter 'toString'");
  });

  test('help is sorted, and its texts begin in one column', () => {
    const help = optionHelp({ size: { type: 'size', help: 'Bytes' }, a: { type: 'bool', help: 'A switch' } });
    expect(help).toBe('  a=<bool (on/off)>      - A switch\n  size=<size>            - Bytes\n');
  });
});
