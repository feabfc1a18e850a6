import { describe, expect, test } from 'vitest';
import { parseOptions } from '../../../src/cli/text/getopt.js';

const SPECS = [
  { name: 'quiet', short: 'q', long: 'quiet' },
  { name: 'format', short: 'f', long: 'format', argument: true },
  { name: 'force', long: 'force' },
  { name: 'output', long: 'output', argument: true },
];

const given = (args: string[]) => {
  const { options, operands, problem } = parseOptions(args, SPECS, { command: 'info' });
  return { options: options.map(({ name, value }) => `${name}=${value}`), operands, problem };
};

describe('what is understood', () => {
  test('options come before, between and behind operands', () => {
    expect(given(['a', '-q', 'b', '--output', 'json', 'c'])).toEqual({
      options: ['quiet=', 'output=json'],
      operands: ['a', 'b', 'c'],
      problem: null,
    });
  });

  test('a cluster of letters ends with the argument of the last', () => {
    expect(given(['-qfraw', '-qf', 'qcow2']).options).toEqual(['quiet=', 'format=raw', 'quiet=', 'format=qcow2']);
  });

  test('a long name may be cut where it stays the only one', () => {
    expect(given(['--out=json', '--qui']).options).toEqual(['output=json', 'quiet=']);
  });

  test('a whole name is taken although it begins another', () => {
    const specs = [
      { name: 'b', long: 'backing' },
      { name: 'c', long: 'backing-chain' },
    ];
    expect(parseOptions(['--backing'], specs).options).toEqual([{ name: 'b', value: '' }]);
  });

  test('two dashes end the options, and one alone is an operand', () => {
    expect(given(['-', '--', '-q', '--force']).operands).toEqual(['-', '-q', '--force']);
  });

  test('an argument may look like an option', () => {
    expect(given(['-f', '-q'])).toMatchObject({ options: ['format=-q'], operands: [] });
  });

  test('with stopAtOperand the first operand ends the options', () => {
    const parsed = parseOptions(['-q', 'info', '-f', 'raw'], SPECS, { stopAtOperand: true });
    expect(parsed.operands).toEqual(['info', '-f', 'raw']);
  });
});

describe('what is not', () => {
  const problemOf = (args: string[]) => given(args).problem;

  test('an unknown option is named, with the words of the C library', () => {
    expect(problemOf(['--bogus=1'])).toEqual({
      kind: 'unknown',
      word: '--bogus=1',
      message: "unrecognized option '--bogus'",
    });
    expect(problemOf(['-x'])).toEqual({ kind: 'unknown', word: '-x', message: "invalid option -- 'x'" });
  });

  test('in the midst of a cluster it is the word before that is named, as getopt_long does', () => {
    expect(problemOf(['-xq'])?.word).toBe('info');
    expect(problemOf(['-q', '-xq'])?.word).toBe('-q');
    expect(problemOf(['a', '-q', '-xq'])?.word).toBe('a');
    expect(problemOf(['-qx'])?.word).toBe('-qx');
  });

  test('an ambiguous beginning lists what it may be', () => {
    expect(problemOf(['--fo'])?.message).toBe("option '--fo' is ambiguous; possibilities: '--format' '--force'");
  });

  test('a missing argument, and one too many', () => {
    expect(problemOf(['--output'])).toEqual({
      kind: 'missing-argument',
      word: '--output',
      message: "option '--output' requires an argument",
    });
    expect(problemOf(['-qf'])?.message).toBe("option requires an argument -- 'f'");
    expect(problemOf(['--force=1'])?.message).toBe("option '--force' doesn't allow an argument");
  });

  test('the options before it are kept', () => {
    expect(given(['-q', '--bogus', '-f', 'raw']).options).toEqual(['quiet=']);
  });
});
