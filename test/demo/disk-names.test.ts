/** The names of disks: every name has a file of its own, and every file that is a disk's has one name. */
import { describe, expect, it } from 'vitest';
import {
  diskNameOf,
  fileNameOf,
  freeName,
  isSameName,
  MAXIMUM_NAME_LENGTH,
  nameFromFile,
  nameProblem,
  requireName,
  tidyName,
} from '../../demo/src/disk-names.js';
import { checkFileName } from '../../src/worker/file-names.js';

const NAMES = [
  'disk',
  'work',
  'Anna: work / home',
  '..',
  '.tmp-1',
  '100 %',
  '%41',
  'a\\b|c?<*>"',
  'für Ärzte',
  '仕事',
  '👩‍💻 at home',
  'disk-disk',
  'incoming',
  'CON',
  'x'.repeat(MAXIMUM_NAME_LENGTH),
  '👩'.repeat(MAXIMUM_NAME_LENGTH),
  '%'.repeat(MAXIMUM_NAME_LENGTH),
];

describe('the name of a disk', () => {
  it.each(NAMES)('%j has a file that is its own, and whose name any file system takes', (name) => {
    expect(nameProblem(name)).toBeNull();
    const file = fileNameOf(name);
    expect(() => checkFileName(file)).not.toThrow();
    expect(file).not.toMatch(/[\\/:*?"<>|]/);
    expect(new TextEncoder().encode(file).length).toBeLessThanOrEqual(255);
    expect(diskNameOf(file)).toBe(name);
    expect(NAMES.filter((other) => fileNameOf(other) === file)).toEqual([name]);
  });

  it('is that of the disk of earlier visits for its file', () => {
    expect(fileNameOf('disk')).toBe('disk.qcow2');
  });

  it.each([
    'incoming.qcow2',
    'base-1f.qcow2',
    'disk-.qcow2',
    'disk-disk.qcow2',
    'disk-%zz.qcow2',
    'disk-%41.qcow2',
    'disk-a  b.qcow2',
  ])('is none for %s, which no disk has', (file) => {
    expect(diskNameOf(file)).toBeNull();
  });

  it('is tidied: composed, and without superfluous spaces', () => {
    expect(tidyName('  fu\u0308r \t A\u0308rzte \n')).toBe('für Ärzte');
  });

  it.each([
    ['   ', 'A disk needs a name.'],
    ['x'.repeat(61), 'A name has at most 60 characters; this has 61.'],
    ['a\u0007b', 'A name has no control characters.'],
    ['a\ud800b', 'A name has no control characters.'],
  ])('%j is refused with what is wrong', (text, problem) => {
    expect(nameProblem(tidyName(text))).toBe(problem);
    expect(() => requireName(text)).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
  });

  it('is the same in capitals, and with letters that are composed otherwise', () => {
    expect(isSameName('Work', 'work')).toBe(true);
    expect(isSameName('u\u0308ber', 'Über')).toBe(true);
    expect(isSameName('work', 'work 2')).toBe(false);
  });

  it('gets a number where it is taken, and stays short enough', () => {
    expect(freeName('work', ['home'])).toBe('work');
    expect(freeName('work', ['WORK', 'work 2'])).toBe('work 3');
    const long = 'x'.repeat(MAXIMUM_NAME_LENGTH);
    expect(freeName(long, [long])).toBe(`${long.slice(2)} 2`);
  });

  it.each([
    ['debian-12.qcow2', 'debian-12'],
    ['C:\\images\\Old PC.IMG', 'Old PC'],
    ['/images/archive.tar.raw', 'archive.tar'],
    ['.qcow2', 'image'],
    ['', 'image'],
    [`${'x'.repeat(80)}.qcow2`, 'x'.repeat(60)],
  ])('comes from the file %j as %j', (file, name) => {
    expect(nameFromFile(file)).toBe(name);
  });
});
