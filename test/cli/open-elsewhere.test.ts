/** A file that is being read is not written over, whatever name it goes by. */
import { existsSync, linkSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { beforeEach, describe, expect, test } from 'vitest';
import { useBuiltPrograms } from '../support/programs.js';

const programs = useBuiltPrograms();
const { path } = programs;
const img = (...args: string[]) => programs.run('qcow2-img', ...args);

/** The images as they were made for the first test. */
const images = new Map<string, Buffer>();

beforeEach(() => {
  if (images.size === 0) makeImages();
  else for (const [name, bytes] of images) writeFileSync(path(name), bytes);
  writeFileSync(path('raw'), Buffer.alloc(2 ** 20, 7));
  symlinkSync('base', path('link'));
  linkSync(path('base'), path('other-name'));
});

function makeImages(): void {
  img('create', '-q', '-f', 'qcow2', 'base', '1M');
  programs.run('qcow2-io', '-c', 'write -q -P 5 0 64k', 'base');
  img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', 'top');
  img('create', '-q', '-f', 'qcow2', '-o', 'data_file=data', 'outside', '1M');
  for (const name of ['base', 'top', 'outside', 'data']) images.set(name, readFileSync(path(name)));
}

const FILES = ['base', 'top', 'outside', 'data', 'raw'];

function contents(): Buffer[] {
  return FILES.map((name) => readFileSync(path(name)));
}

function expectUnchanged(before: readonly Buffer[]): void {
  expect(contents().map((bytes, index) => bytes.equals(before[index]!))).toEqual(FILES.map(() => true));
}

const lockWords = (name: string, word = '"write"') =>
  `Failed to get ${word} lock\nIs another process using the image [${name}]?\n`;

describe('a command refuses', () => {
  test.each([
    ['convert an image onto itself', 'convert -O qcow2 base base', 'base: error while converting qcow2: '],
    ['... by a link', 'convert -O qcow2 base link', 'link: error while converting qcow2: '],
    ['... by another name', 'convert -O qcow2 base other-name', 'other-name: error while converting qcow2: '],
    ['... of a raw file', 'convert -U -f raw -O raw raw raw', 'raw: error while converting raw: '],
    ['... that is there', 'convert -n -O qcow2 base base', "Could not open 'base': "],
    ['convert an overlay onto its base', 'convert -O qcow2 top base', 'base: error while converting qcow2: '],
    ['... that is there', 'convert -n -O qcow2 top base', "Could not open 'base': "],
    ['convert an image onto its data file', 'convert -O raw outside data', 'data: error while converting raw: '],
    ['dd onto itself', 'dd if=base of=base', 'base: error while creating output image: '],
    ['dd of a raw file onto itself', 'dd -f raw if=raw of=raw', 'raw: error while creating output image: '],
    ['a data file that is the image', 'create -q -f qcow2 -o data_file=new new 1M', 'new: '],
  ])('to %s', (_what, command, prefix) => {
    const before = contents();
    const { code, out, err } = img(...command.split(' '));
    expect({ code, out, err }).toEqual({
      code: 1,
      out: '',
      err: `qemu-img: ${prefix}${lockWords(command.endsWith('1M') ? 'new' : command.split(/[ =]/).at(-1)!)}`,
    });
    expectUnchanged(before);
  });

  test('to put an image over one that stands on it', () => {
    const before = contents();
    const { code, err } = img('rebase', '-F', 'qcow2', '-b', 'top', 'base');
    const words = "Could not open new backing file 'top': Could not open backing file: ";
    expect([code, err]).toEqual([1, `qemu-img: ${words}${lockWords('base', 'shared "write"')}`]);
    expectUnchanged(before);
  });

  test.each([
    ['create -q -f qcow2 -b top -F qcow2 base', 'base'],
    ['create -q -f qcow2 -o data_file=base -b top -F qcow2 new', 'base'],
    ['convert -O qcow2 -o data_file=base base raw', 'base'],
  ])('to write over what it reads, or what that stands on, and touches no other file: %s', (command, name) => {
    const before = contents();
    const { code, err } = img(...command.split(' '));
    expect([code, err]).toEqual([
      1,
      expect.stringMatching(
        new RegExp(`Failed to get "write" lock\\nIs another process using the image \\[${name}\\]`),
      ),
    ]);
    expectUnchanged(before);
    expect(existsSync(path('new'))).toBe(false);
  });

  test.each(['./base', 'link', 'other-name'])('to make an image of the name %s over the file itself', (name) => {
    const before = contents();
    const { code, err } = img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', name);
    const words = 'Error: Trying to create an image with the same filename as the backing file';
    expect([code, err]).toEqual([1, `qemu-img: ${name}: ${words}\n`]);
    expectUnchanged(before);
  });
});

test('an image may be read twice, and an overlay goes into its base', () => {
  expect(img('compare', 'base', 'link')).toMatchObject({ code: 0 });
  expect(img('commit', 'top')).toMatchObject({ code: 0, err: '' });
});

describe('what is refused before a file is emptied', () => {
  test.each([
    ['a size that no file has', 'create -f raw base 8E'],
    ['a size that the format has not', 'create -f qcow2 -o cluster_size=512 base 1P'],
    ['an option that there is not', 'create -f qcow2 -o preallocation=some base 1M'],
    [
      'an option of a LUKS disk',
      'create -f luks --object secret,id=k,data=x -o key-secret=k,preallocation=metadata base 1M',
    ],
    ['a missing passphrase', 'create -f qcow2 -o encrypt.format=luks,encrypt.key-secret=k base 1M'],
  ])('%s', (_what, command) => {
    const before = contents();
    expect(img(...command.split(' ')).code).toBe(1);
    expectUnchanged(before);
  });
});
