/**
 * `convert` into targets where nothing may be left out: a disk that is encrypted as a whole, and images that hold something already.
 * And `compare -s`, which tells apart what reads alike.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { useBuiltPrograms } from '../support/programs.js';
import { expectCleanCheck, qemuImg, qemuIo } from './qemu.js';

const MIB = 2 ** 20;
const programs = useBuiltPrograms();
const { path } = programs;

/** Runs ours, which must have nothing to complain about. */
function img(...args: string[]): string {
  const { code, out, err } = programs.run('qcow2-img', ...args);
  expect([code, err], args.join(' ')).toEqual([0, '']);
  return out;
}

/** A disk of 4 MiB with runs of zeroes of many lengths. */
function writeHoley(name: string): Buffer {
  const disk = Buffer.alloc(4 * MIB);
  disk.fill(0x31, 5000, 70_000);
  disk.fill(0x32, MIB, MIB + 512);
  disk.fill(0x33, 3 * MIB - 100, 3 * MIB + 200_000);
  writeFileSync(path(name), disk);
  return disk;
}

const SECRET = ['--object', 'secret,id=key,data=correct horse'];
const luks = (name: string) => `driver=luks,key-secret=key,file.filename=${path(name)}`;

describe('a disk that is encrypted as a whole', () => {
  test.each([[[]], [['-S', '0']], [['-S', '64k']]])('reads as the source everywhere (convert %j)', (options) => {
    const disk = writeHoley('source');
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', path('source'), path('image'));
    const settings = ['-O', 'luks', '-o', 'key-secret=key,iter-time=10'];
    for (const [format, source] of [
      ['raw', 'source'],
      ['qcow2', 'image'],
    ] as const) {
      img('convert', ...SECRET, '-f', format, ...settings, ...options, path(source), path('ours'));
      qemuImg('convert', ...SECRET, '--image-opts', luks('ours'), '-O', 'raw', path('by-them'));
      img('convert', ...SECRET, '--image-opts', luks('ours'), '-O', 'raw', path('by-us'));
      expect(readFileSync(path('by-them')).equals(disk), `qemu-img, from ${format}`).toBe(true);
      expect(readFileSync(path('by-us')).equals(disk), `qcow2-img, from ${format}`).toBe(true);
    }
  });

  test.each(['off', 'falloc', 'full'])('takes its room as asked: preallocation=%s', (mode) => {
    const options = `key-secret=key,iter-time=10,preallocation=${mode}`;
    img('create', '-q', ...SECRET, '-f', 'luks', '-o', options, path('ours'), '8M');
    const { size, blocks } = statSync(path('ours'));
    expect(blocks * 512 >= size).toBe(mode !== 'off');
    expect(qemuImg('info', ...SECRET, '--image-opts', luks('ours'))).toContain('virtual size: 8 MiB');
  });
});

describe('an image that is there (-n)', () => {
  test.each([
    ['version 2', ['-o', 'compat=0.10']],
    ['version 3', []],
  ])('of %s loses what the source does not have, also where discards are ignored', (_name, options) => {
    const disk = writeHoley('source');
    for (const discard of ['ignore', 'unmap']) {
      qemuImg('create', '-q', '-f', 'qcow2', ...options, path('target'), '4M');
      qemuIo(path('target'), ['write -P 0x77 0 4M']);
      const target = `driver=qcow2,discard=${discard},file.filename=${path('target')}`;
      img('convert', '-n', '-f', 'raw', '--target-image-opts', path('source'), target);
      expectCleanCheck(path('target'));
      qemuImg('convert', '-f', 'qcow2', '-O', 'raw', path('target'), path('read'));
      expect(readFileSync(path('read')).equals(disk), discard).toBe(true);
    }
  });

  test('of version 2 gives clusters of zeroes back, as with qemu-img', () => {
    writeHoley('source');
    for (const name of ['ours', 'theirs']) {
      qemuImg('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', path(name), '4M');
      qemuIo(path(name), ['write -P 0x77 0 4M']);
    }
    const args = ['convert', '-n', '-f', 'raw', '-O', 'qcow2', path('source')];
    img(...args, path('ours'));
    qemuImg(...args, path('theirs'));
    const map = (name: string) =>
      (JSON.parse(qemuImg('map', '--output=json', path(name))) as Record<string, unknown>[]).map(
        ({ start, length, data, zero }) => ({ start, length, data, zero }),
      );
    expect(map('ours')).toEqual(map('theirs'));
  });
});

test.each([
  ['plain and plain', [], [], 0],
  ['plain and compressed', [], ['-c'], 1],
  ['compressed and compressed', ['-c'], ['-c'], 0],
] as const)('compare -s of %s says what qemu-img says', (_name, first, second, code) => {
  writeFileSync(path('source'), Buffer.alloc(MIB, 'the same'));
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...first, path('source'), path('a'));
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...second, path('source'), path('b'));
  const ours = programs.run('qcow2-img', 'compare', '-s', path('a'), path('b'));
  const theirs = spawnSync('qemu-img', ['compare', '-s', path('a'), path('b')], { encoding: 'utf8' });
  expect(ours.code).toBe(code);
  expect({ code: ours.code, out: ours.out }).toEqual({ code: theirs.status, out: theirs.stdout });
});
