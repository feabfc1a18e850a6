/** What is left of an image that could not be finished: nothing, and never one that looks whole. */
import { existsSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { endOf, useBuiltPrograms } from '../support/programs.js';

const MIB = 2 ** 20;
const programs = useBuiltPrograms();
const { path } = programs;
const img = (...args: string[]) => programs.run('qcow2-img', ...args);

/** A disk without a zero in it. */
function writeRaw(name: string, bytes: number): Buffer {
  const data = Buffer.alloc(bytes, 'every byte counts');
  writeFileSync(path(name), data);
  return data;
}

/** A disk that is full: no file grows beyond 4 MiB. */
const onFullDisk = (command: string) => programs.shell(`ulimit -f 4096; ${command}`);

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Leaks are what a write that ends halfway may cost. */
function expectNoCorruption(name: string): void {
  const { out, err } = img('check', '--output=json', name);
  const { corruptions, 'check-errors': errors, filename } = JSON.parse(out) as Record<string, unknown>;
  expect({ filename, errors, corruptions, err }).toEqual({
    filename: name,
    errors: 0,
    corruptions: undefined,
    err: '',
  });
}

const sizeOf = (name: string) => statSync(path(name), { throwIfNoEntry: false })?.size ?? 0;

describe('a disk that is full', () => {
  test.each([
    ['$img convert -f raw -O qcow2 a.raw b', 'error while writing at byte'],
    ['$img convert -f raw -O qcow2 -o preallocation=full a.raw b', 'b: error while converting qcow2: '],
    ['$img convert -f raw -O raw a.raw b', 'b: error while converting raw: '],
    ['$img create -q -f qcow2 -o preallocation=full b 8M', 'b: '],
    ['$img create -q -f raw -o preallocation=full b 8M', 'b: '],
    ['$img dd -f raw -O raw bs=1M if=a.raw of=b', 'b: error while creating output image: '],
  ])('%s says so, ends with 1 and leaves no file', (command, message) => {
    writeRaw('a.raw', 8 * MIB);
    const { code, err } = onFullDisk(command);
    expect([code, err.includes(message)], err).toEqual([1, true]);
    // What the system calls it, in its words and not in those of Node.
    expect(err).toMatch(/^qemu-img: [^\n]*(File too large|The image size is too large)[^\n]*\n$/);
    expect(readdirSync(programs.folder)).toEqual(['a.raw']);
  });

  test('an image that is there already stays a good one', () => {
    writeRaw('a.raw', 8 * MIB);
    img('create', '-q', '-f', 'qcow2', 'b', '8M');
    const { code, err } = onFullDisk('$img convert -n -f raw -O qcow2 a.raw b');
    expect(code).toBe(1);
    expect(err).toMatch(/^qemu-img: error while writing at byte \d+: File too large\n/);
    expect(img('check', 'b').code).toBe(0);
  });

  test('a write of qcow2-io fails, and the image stays a good one', () => {
    img('create', '-q', '-f', 'qcow2', 'b', '8M');
    const { code, out } = onFullDisk('$io -c "write -P 7 0 8M" b');
    expect([code, out]).toEqual([1, 'write failed: File too large\n']);
    expectNoCorruption('b');
  });
});

describe('Ctrl-C', () => {
  /** Starts it, presses Ctrl-C when `b` has more than `bytes`, and expects the end that a shell knows for that. */
  async function interrupt(args: readonly string[], bytes: number): Promise<void> {
    const child = programs.start('qcow2-img', ...args);
    const ended = endOf(child);
    await Promise.race([until(() => sizeOf('b') > bytes), ended]);
    child.kill('SIGINT');
    expect(await ended).toBe('SIGINT');
  }

  test.each([['-c'], ['-o', 'preallocation=metadata'], ['-S', '0']])(
    'in the middle of convert %s leaves no image',
    async (...options) => {
      writeRaw('a.raw', 192 * MIB);
      await interrupt(['convert', '-f', 'raw', '-O', 'qcow2', ...options, 'a.raw', 'b'], MIB / 4);
      expect(readdirSync(programs.folder)).toEqual(['a.raw']);
    },
  );

  test('in the middle of convert leaves no image behind a link, nor of what was there', async () => {
    writeRaw('a.raw', 192 * MIB);
    writeRaw('old', 512);
    symlinkSync('old', path('b'));
    await interrupt(['convert', '-f', 'raw', '-O', 'qcow2', '-c', 'a.raw', 'b'], MIB / 4);
    expect(existsSync(path('old'))).toBe(false);
  });

  test.each([
    ['convert', ['convert', '-r', '1k', '-f', 'raw', '-O', 'qcow2', 'a.raw', 'b'], ['a.raw']],
    ['commit', ['commit', '-r', '1k', 'top'], ['a.raw', 'b', 'top']],
  ])('ends %s while it rests to keep to a rate', async (_name, args, left) => {
    writeRaw('a.raw', 4 * MIB);
    if (args[0] === 'commit') {
      writeFileSync(path('b'), '');
      img('create', '-q', '-f', 'qcow2', '-b', 'b', '-F', 'raw', 'top', '4M');
      programs.run('qcow2-io', '-c', 'write -q -P 3 0 4M', 'top');
    }
    await interrupt(args, MIB / 4);
    expect(readdirSync(programs.folder)).toEqual(left);
  });

  test('in the middle of create leaves no image', async () => {
    await interrupt(['create', '-q', '-f', 'qcow2', '-o', 'preallocation=full', 'b', '2G'], 16 * MIB);
    expect(existsSync(path('b'))).toBe(false);
  });

  test('in the middle of convert into an image that is there leaves a good one', async () => {
    writeRaw('a.raw', 192 * MIB);
    img('create', '-q', '-f', 'qcow2', 'b', '192M');
    await interrupt(['convert', '-n', '-f', 'raw', '-O', 'qcow2', 'a.raw', 'b'], 8 * MIB);
    expectNoCorruption('b');
  });

  test('in the middle of commit loses nothing of the overlay', async () => {
    writeRaw('base', 192 * MIB);
    img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw', 'b');
    const before = readFileSync(path('base'));
    programs.run('qcow2-io', '-c', 'write -q -P 3 0 128M', 'b');
    const child = programs.start('qcow2-img', 'commit', 'b');
    const ended = endOf(child);
    await Promise.race([
      until(() => !readFileSync(path('base')).subarray(0, 16).equals(before.subarray(0, 16))),
      ended,
    ]);
    child.kill('SIGINT');
    expect(await ended).toBe('SIGINT');
    expectNoCorruption('b');
    expect(programs.run('qcow2-io', '-c', 'read -P 3 0 128M', 'b').code).toBe(0);
  });
});
