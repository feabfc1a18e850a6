import { describe, expect, test } from 'vitest';
import { jsonText, parseJson } from '../../../src/cli/text/json-text.js';

describe('JSON as QEMU prints it', () => {
  test('keys come in the order of its hash table, whatever order they were given in', () => {
    const object = { filename: 'a', format: 'raw', 'virtual-size': 1, 'actual-size': 2, 'dirty-flag': false };
    expect(jsonText(object)).toBe(
      '{"virtual-size": 1, "filename": "a", "format": "raw", "actual-size": 2, "dirty-flag": false}',
    );
    const reversed = Object.fromEntries(Object.entries(object).reverse());
    expect(jsonText(reversed)).toBe(jsonText(object));
  });

  test('over many lines it is indented by four, and an empty list has its end on a line of its own', () => {
    expect(jsonText({ flags: [], name: 'b' }, { pretty: true })).toBe('{\n    "flags": [\n    ],\n    "name": "b"\n}');
  });

  test('what is not ASCII is escaped, beyond the first plane by two', () => {
    expect(jsonText('a"\\\n\u00e9\u{1f600}\u007f')).toBe('"a\\"\\\\\\n\\u00E9\\uD83D\\uDE00\\u007F"');
  });

  test('numbers beyond a double are whole', () => {
    expect(jsonText({ a: 2n ** 64n - 1n, b: undefined })).toBe('{"a": 18446744073709551615}');
  });
});

describe('JSON as QEMU reads it', () => {
  test('strings may be in apostrophes', () => {
    expect(parseJson(`{'driver': "qcow2", 'n': [1, -2, 0.5, true, null], 's': 'a\\'b\\u0041'}`)).toEqual({
      driver: 'qcow2',
      n: [1, -2, 0.5, true, null],
      s: "a'bA",
    });
  });

  test('a whole number that no double holds stays whole', () => {
    expect(parseJson('[9223372036854775807]')).toEqual([9223372036854775807n]);
  });

  test.each(['', '{', '{"a"}', '{"a": }', '[1', '[1,]', '{"a": 1} x', '{"a": 1, "a": 2}', 'foo', '"\\x"', '@'])(
    '%j is refused',
    (text) => {
      expect(() => parseJson(text)).toThrow('JSON parse error');
    },
  );
});
