import { expect, test } from 'vitest';
import { combinePath, fullBackingName, hasProtocol, withoutPrefix } from '../../../src/cli/text/file-name.js';

test('a protocol ends with a colon before the first slash', () => {
  expect(['nbd:x', 'json:{}', './a:b', '/a:b', 'a'].map(hasProtocol)).toEqual([true, true, false, false, false]);
});

test('a relative name is taken from the folder of the image', () => {
  expect(combinePath('/images/a.qcow2', 'base')).toBe('/images/base');
  expect(combinePath('a.qcow2', '../base')).toBe('../base');
  expect(combinePath('nbd:a', 'base')).toBe('nbd:base');
  expect(combinePath('/images/a', '/base')).toBe('/base');
});

test('the name of a backing file: none, whole, relative, or not to be told', () => {
  expect(fullBackingName('/images/a', '')).toBeNull();
  expect(fullBackingName('/images/a', 'nbd:base')).toBe('nbd:base');
  expect(fullBackingName('/images/a', 'base')).toBe('/images/base');
  expect(() => fullBackingName('json:{}', 'base')).toThrow("Cannot use relative backing file names for 'json:{}'");
});

test('what is left of a name without its prefix does not look like another protocol', () => {
  expect(withoutPrefix('file:a', 'file:')).toBe('a');
  expect(withoutPrefix('file:a:b', 'file:')).toBe('./a:b');
  expect(withoutPrefix('a:b', 'file:')).toBe('a:b');
});
