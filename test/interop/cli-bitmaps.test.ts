/**
 * `qcow2-img bitmap`, and the other commands where there are bitmaps, against qemu-img, side by side: the same exit codes, the same
 * words, and images with the same bitmaps.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { newDiskFolder } from '../support/disk-folder.js';
import { rawBitmaps, sorted } from '../support/raw-bitmaps.js';
import { expectCleanCheck } from './qemu.js';
import { buildPrograms } from '../../scripts/build.mjs';

const root = newDiskFolder('cli-bitmaps-');
const folder = { theirs: join(root, 'theirs'), ours: join(root, 'ours') };

beforeAll(async () => {
  await buildPrograms({ outdir: join(root, 'program') });
  writeFileSync(join(root, 'program', 'package.json'), '{"type": "module"}');
});

afterAll(() => rmSync(root, { recursive: true }));

interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function run(side: 'ours' | 'theirs', tool: 'img' | 'io', args: readonly string[]): Ran {
  const [command, own] =
    side === 'ours' ? [process.execPath, [join(root, 'program', `qcow2-${tool}.js`)]] : [`qemu-${tool}`, []];
  const { status, stdout, stderr } = spawnSync(command, [...own, ...args], { cwd: folder[side], encoding: 'utf8' });
  // Nodes without a name are given another one each time. Where bitmaps are put in a file, and so its length, is everybody's choice.
  const out = stdout.replaceAll(/disk size: .*|"actual-size": \d+|Image end offset: \d+/g, 'some room');
  return { code: status, out, err: stderr.replaceAll(/#block\d+/g, '#block') };
}

/** The same of both; words are parted by single spaces. Returns what they said. */
function same(line: string): Ran {
  const args = line.split(' ');
  const theirs = run('theirs', 'img', args);
  expect(run('ours', 'img', args), line).toEqual(theirs);
  return theirs;
}

function both(tool: 'img' | 'io', ...args: string[]): void {
  for (const side of ['ours', 'theirs'] as const) expect(run(side, tool, args).code, args.join(' ')).toBe(0);
}

/** Made in both folders by QEMU. */
function make(tool: 'img' | 'io', ...args: string[]): void {
  for (const cwd of Object.values(folder)) {
    expect(spawnSync(`qemu-${tool}`, args, { cwd }).status, args.join(' ')).toBe(0);
  }
}

/** The bitmaps of a file in both folders. */
function sameBitmaps(file: string): void {
  const [ours, theirs] = (['ours', 'theirs'] as const).map((side) =>
    rawBitmaps(readFileSync(join(folder[side], file))).map(({ name, granularity, flags, marked }) => {
      return { name, granularity, flags, marked: sorted(marked) };
    }),
  );
  expect(ours, file).toEqual(theirs);
  expectCleanCheck(join(folder.ours, file));
}

beforeEach(() => {
  for (const side of Object.values(folder)) {
    rmSync(side, { recursive: true, force: true });
    mkdirSync(side);
    writeFileSync(join(side, 'raw'), Buffer.alloc(1_000_000, 1));
  }
  make('img', 'create', '-q', '-f', 'qcow2', 'img', '10M');
  make('img', 'create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', 'old', '10M');
});

/** A bitmap that was not closed. */
function breakBitmap(): void {
  make('img', 'bitmap', '--add', 'img', 'broken');
  for (const side of Object.values(folder)) {
    expect(spawnSync('qemu-io', ['-c', 'abort', 'img'], { cwd: side }).status).not.toBe(0);
  }
}

describe('a line of bitmap', () => {
  test.each([
    'bitmap img b',
    'bitmap --add img',
    'bitmap --add img b c',
    'bitmap --clear -g 4k img b',
    'bitmap --add -F qcow2 img b',
    'bitmap --add -b img img b',
    'bitmap --add -g x img b',
    'bitmap --add -g 100 img b',
    'bitmap --add -g 4G img b',
    'bitmap --add -g 6000 img b',
    'bitmap --add -f raw raw b',
    'bitmap --remove -f raw raw b',
    'bitmap --add old b',
    'bitmap --merge',
    'bitmap --add missing b',
    'bitmap --remove img b',
    'bitmap --clear img b',
    'bitmap --enable img b',
    'bitmap --disable img b',
    'bitmap --merge a img b',
    'bitmap --add --merge a img b',
    'bitmap --add --add img b',
    `bitmap --add img ${'x'.repeat(1024)}`,
    'bitmap --add --image-opts driver=qcow2,file.filename=img b',
    'bitmap --add -f qcow2 --image-opts driver=qcow2,file.filename=img b',
    'bitmap --add --merge b -b missing -F qcow2 img b',
    'bitmap --add -g 0 img b',
    'bitmap --add -g 2G --disable img b',
  ])('%s', (line) => {
    same(line);
    sameBitmaps('img');
  });

  test('the name is empty', () => {
    const args = ['bitmap', '--add', 'img', ''];
    expect(run('ours', 'img', args)).toEqual(run('theirs', 'img', args));
  });

  test('too much for one bitmap', () => {
    make('img', 'create', '-q', '-f', 'qcow2', 'large', '64T');
    same('bitmap --add -g 512 large b');
  });

  test('one that was not closed can be removed, and nothing else', () => {
    breakBitmap();
    for (const action of ['--clear', '--enable', '--disable', '--merge broken', '--add']) {
      same(`bitmap ${action} img broken`);
    }
    same('bitmap --add --merge broken img b');
    expect(same('info img').out).toContain('in-use');
    same('resize img 20M');
    same('bitmap --remove img broken');
    sameBitmaps('img');
  });
});

test('a life of bitmaps, with writes between, ends in the same marks', () => {
  same('bitmap --add img one');
  both('io', '-c', 'write 1M 100k', '-c', 'write -z 3M 64k', 'img');
  same('bitmap --add -g 512 --disable img two');
  both('io', '-c', 'discard 5M 1M', 'img');
  same('bitmap --enable img two');
  both('io', '-c', 'write 7M 1000', '-c', 'write 64k 1', 'img');
  sameBitmaps('img');
  same('bitmap --disable --merge two img one');
  same('bitmap --clear img two');
  both('io', '-c', 'write 9M 64k', 'img');
  same('bitmap --add -g 1M --merge one --merge two img three');
  same('bitmap --remove img one');
  sameBitmaps('img');
  same('bitmap --add --merge three -b img -F qcow2 img2 b');
  both('img', 'create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', 'img2', '10M');
  both('img', 'create', '-q', '-f', 'qcow2', 'img3', '20M');
  same('bitmap --add --merge three -b img -F qcow2 img2 b');
  same('bitmap --add --merge three -b img -F qcow2 img3 b');
  sameBitmaps('img2');
  same('info img2');
  same('info --output=json img2');
  same('check img2');
  same('measure -O qcow2 -o cluster_size=4k img');
  same('measure -O qcow2 --output=json img');
  same('measure -O qcow2 -o compat=0.10 img');
  same('measure -O raw img');
  same('measure -O qcow2 old');
});

describe('convert --bitmaps', () => {
  beforeEach(() => {
    make('img', 'bitmap', '--add', 'img', 'one');
    make('img', 'bitmap', '--add', '-g', '4k', 'img', 'two');
    make('io', '-c', 'write 1M 100k', 'img');
    make('img', 'bitmap', '--disable', 'img', 'one');
  });

  test.each([
    'convert --bitmaps -O qcow2 img copy',
    'convert --bitmaps -O qcow2 -o cluster_size=512 img copy',
    'convert --bitmaps -c -O qcow2 img copy',
    'convert -O qcow2 img copy',
  ])('%s', (line) => {
    same(line);
    sameBitmaps('copy');
  });

  test.each([
    'convert --bitmaps -O raw img copy',
    'convert --bitmaps -O qcow2 -f raw raw copy',
    'convert --bitmaps -O qcow2 old copy',
    'convert --bitmaps -O qcow2 -o compat=0.10 img copy',
    'convert --bitmaps -O qcow2 img img copy',
    'convert --skip-broken-bitmaps -O qcow2 img copy',
  ])('%s', (line) => {
    same(line);
  });

  test('into an image that is there: of the same size, of another, with such a bitmap', () => {
    make('img', 'create', '-q', '-f', 'qcow2', 'copy', '10M');
    same('convert -n --bitmaps -O qcow2 img copy');
    sameBitmaps('copy');
    same('convert -n --bitmaps -O qcow2 img copy');
    make('img', 'create', '-q', '-f', 'qcow2', 'copy', '20M');
    same('convert -n --bitmaps -O qcow2 img copy');
  });

  test('with some that were not closed', () => {
    breakBitmap();
    make('img', 'bitmap', '--add', 'img', 'three');
    make('io', '-c', 'write 5M 100k', 'img');
    same('convert --bitmaps -O qcow2 img copy');
    same('convert --bitmaps --skip-broken-bitmaps -O qcow2 img copy');
    sameBitmaps('copy');
  });
});

test('what software without bitmaps has made out of date is told of, until the image is opened for writing', () => {
  make('img', 'bitmap', '--add', 'img', 'lost');
  for (const side of Object.values(folder)) {
    const path = join(side, 'img');
    const bytes = readFileSync(path);
    bytes[95] = 0;
    writeFileSync(path, bytes);
  }
  expect(same('info img').err).toContain('all bitmaps are now considered inconsistent');
  same('check img');
  same('convert --bitmaps -O qcow2 img copy');
  sameBitmaps('copy');
  expect(same('bitmap --add img b').err).toContain('considered inconsistent');
  expect(same('info img').err).toBe('');
  same('check -r leaks img');
  sameBitmaps('img');
});

test('where bitmaps stand in the way, or go along', () => {
  make('img', 'snapshot', '-c', 's', 'img');
  make('img', 'bitmap', '--add', 'img', 'b');
  same('snapshot -a s img');
  same('snapshot -d s img');
  same('amend -o lazy_refcounts=on,compat=1.1 img');
  same('rebase -u -b raw -F raw img');
  sameBitmaps('img');
  same('rebase -u -F raw -b raw img');
  make('img', 'create', '-q', '-f', 'qcow2', '-b', 'img', '-F', 'qcow2', 'top');
  make('img', 'bitmap', '--add', 'top', 't');
  make('io', '-c', 'write 2M 100k', 'top');
  same('commit top');
  sameBitmaps('img');
  sameBitmaps('top');
  same('resize --shrink img 5M');
  sameBitmaps('img');
});
