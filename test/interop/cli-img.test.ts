/**
 * qcow2-img against qemu-img, side by side: the same command in the same kind of folder must exit with the same code, print the same,
 * and leave images that read the same.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { newDiskFolder } from '../support/disk-folder.js';
import { patiently } from './qemu.js';
import { buildPrograms } from '../../scripts/build.mjs';

const MIB = 2 ** 20;
const root = newDiskFolder('cli-img-');
const program = join(root, 'program', 'qcow2-img.js');

beforeAll(async () => {
  await buildPrograms({ outdir: join(root, 'program') });
  writeFileSync(join(root, 'program', 'package.json'), '{"type": "module"}');
});

afterAll(() => rmSync(root, { recursive: true }));

const THEIRS = join(root, 'theirs');
const OURS = join(root, 'ours');

beforeEach(() => {
  for (const folder of [THEIRS, OURS]) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    const raw = Buffer.alloc(4 * MIB);
    raw.fill(0x5a, 100_000, 300_000);
    raw.fill(0x17, 3 * MIB, 3 * MIB + 5000);
    writeFileSync(join(folder, 'a.raw'), raw);
    writeFileSync(join(folder, 'base'), Buffer.alloc(2 * MIB, 0x77));
  }
});

interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function run(folder: string, command: string, args: readonly string[]): Ran {
  const { status, stdout, stderr } = patiently(() => spawnSync(command, args, { cwd: folder, encoding: 'utf8' }));
  return { code: status, out: stdout, err: stderr };
}

/** Runs a command line in both folders. Words are parted by single spaces. */
function both(line: string): { readonly ours: Ran; readonly theirs: Ran } {
  const args = line.split(' ');
  return {
    ours: run(OURS, process.execPath, [program, ...args]),
    theirs: run(THEIRS, 'qemu-img', args),
  };
}

/** The same from both. */
function same(line: string): void {
  const { ours, theirs } = both(line);
  expect(ours, line).toEqual(theirs);
}

describe('messages and exit codes', () => {
  test.each([
    'create',
    'create -f qcow2 new',
    'create -f qcow2 new 1M extra',
    'create -f qcow2 new -- -1',
    'create -f qcow2 new 9E',
    'create -f qcow2 new 7E',
    'create -f foo new 1M',
    'create -f qcow2 nowhere/new 1M',
    'create -f qcow2 foo:new 1M',
    'create -f qcow2 blkdebug::new 1M',
    'create -f qcow2 -o size=1M new 1M',
    'create -f qcow2 -o cluster_size=1000 new 1M',
    'create -f qcow2 -o refcount_bits=7 new 1M',
    'create -f qcow2 -o compat=0.10,refcount_bits=8 new 1M',
    'create -f qcow2 -o compat=0.10,lazy_refcounts=on new 1M',
    'create -f qcow2 -o compat=0.42 new 1M',
    'create -f qcow2 -o extended_l2=on,cluster_size=4k new 1M',
    'create -f qcow2 -o data_file_raw=on new 1M',
    'create -f qcow2 -o compression_type=foo new 1M',
    'create -f qcow2 -o preallocation=foo new 1M',
    'create -f qcow2 -o lazy_refcounts=maybe new 1M',
    'create -f qcow2 -o foo=bar new 1M',
    'create -f qcow2 -o , new 1M',
    'create -f qcow2 -o encrypt.format=luks new 1M',
    'create -f qcow2 -o encrypt.cipher-alg=aes-128 new 1M',
    'create -f qcow2 -o encrypt.format=luks,encrypt.key-secret=none new 1M',
    'create -f qcow2 -o backing_fmt=raw new 1M',
    'create -f qcow2 -b base new',
    'create -f qcow2 -b missing -F raw new',
    'create -f qcow2 -b base -F foo new',
    'create -f qcow2 -u -b missing new 1M',
    'create -f raw -b base new 1M',
    'create -f raw -o preallocation=metadata new 1M',
    'create --object secret,id=x a 1M',
    'create --object foo,id=x a 1M',
    'create --object secret,data=x a 1M',
    'info',
    'info missing',
    'info --output=foo a.raw',
    'info -f foo a.raw',
    'info -f qcow2 a.raw',
    'check -f raw a.raw',
    'check -r foo a.raw',
    'map -s foo a.raw',
    'snapshot -l -c x a.raw',
    'resize a.raw',
    'resize -f raw a.raw foo',
    'resize -f raw --preallocation=foo a.raw 1M',
    'resize -f raw a.raw 1M',
    'compare a.raw',
    'convert a.raw',
    'convert -O foo a.raw b',
    'convert -m 17 a.raw b',
    'convert -S 100 a.raw b',
    'convert -c -f raw -O raw a.raw b',
    'convert -n -o size=1 a.raw b',
    'convert --target-is-zero a.raw b',
    'convert -l nope -f raw a.raw b',
    'convert -O qcow2 -f raw -o backing_file=base a.raw b',
    'convert -O qcow2 -f raw -c -o preallocation=full a.raw b',
    'amend -f qcow2',
    'amend -f raw -o help',
    'amend -o size=1M -f raw a.raw',
    'rebase -f raw a.raw',
    'commit -f raw a.raw',
    'measure',
    'measure --size 1M a.raw',
    'measure -l foo',
    'measure -O qcow2 -o cluster_size=3 --size 1M',
    'dd if=a.raw',
    'dd foo=1',
    'dd bs=0 if=a of=b',
    'dd if=missing of=b',
    'bitmap a.raw b',
  ])('%s', (line) => {
    same(line);
  });
});

describe('help for options', () => {
  test.each(['create -f qcow2 -o help', 'create -f qcow2 -o help new', 'create -o help', 'amend -f qcow2 -o help'])(
    '%s',
    (line) => {
      same(line);
    },
  );
});

describe('what is printed of an image', () => {
  test.each(['qcow2', 'qcow2 -o compat=0.10', 'qcow2 -o extended_l2=on,compression_type=zstd', 'raw'])(
    'created as %s',
    (format) => {
      same(`create -f ${format} new 64M`);
      same('map --output=json new');
      same('map new');
      same('check new');
      for (const line of ['info new', 'info --output=json new']) {
        const { ours, theirs } = both(line);
        const withoutRoom = (text: string) => text.replace(/(disk size: |"actual-size": ).*/, '$1');
        expect(withoutRoom(ours.out)).toBe(withoutRoom(theirs.out));
      }
    },
  );

  test('an image over a backing file, with data, after a conversion', () => {
    same('convert -f raw -O qcow2 a.raw low');
    same('create -f qcow2 -b low -F qcow2 top');
    for (const line of ['map --output=json top', 'map top', 'check --output=json low', 'measure -O qcow2 top'])
      same(line);
    same('info --backing-chain missing');
    same('compare -f raw -F qcow2 a.raw top');
    same('compare -s -f raw -F qcow2 a.raw top');
  });

  test.each(['-c', '-o cluster_size=4k', '-o compat=0.10', '-S 0', '-S 64k', '-o preallocation=metadata'])(
    'a conversion with %s has the same map, and the same disk',
    (options) => {
      same(`convert -f raw -O qcow2 ${options} a.raw b`);
      same('convert -O raw b c');
      expect(Buffer.compare(readFileSync(join(OURS, 'c')), readFileSync(join(THEIRS, 'c')))).toBe(0);
      const sound = run(OURS, 'qemu-img', ['check', 'b']);
      expect(sound.code).toBe(0);
      const places = (text: string) => text.replaceAll(/, "offset": \d+/g, '');
      const { ours, theirs } = both('map --output=json b');
      expect(places(ours.out)).toBe(places(theirs.out));
    },
  );

  test('dd copies the blocks that are asked for', () => {
    same('dd -f raw -O qcow2 bs=64k count=40 skip=1 if=a.raw of=b');
    same('convert -O raw b c');
    expect(Buffer.compare(readFileSync(join(OURS, 'c')), readFileSync(join(THEIRS, 'c')))).toBe(0);
    same('dd -f raw bs=1M skip=9 if=a.raw of=empty');
  });
});

describe('what changes an image', () => {
  test('sizes, amendments, snapshots and backing files', () => {
    for (const line of [
      'create -f qcow2 -b base -F raw img 4M',
      'snapshot -c one img',
      'resize img +1M',
      'resize img 1M',
      'resize --shrink img 3M',
      'resize img 1000',
      'snapshot -a one img',
      'snapshot -a two img',
      'snapshot -d two img',
      'snapshot -d one img',
      'amend -o compat=0.10 img',
      'amend -o lazy_refcounts=on img',
      'amend -o compat=1.1,lazy_refcounts=on,refcount_bits=8 img',
      'amend -o cluster_size=4k img',
      'amend -o compat=foo img',
      'amend -o backing_file=other img',
      'amend -o encrypt.state=active img',
      'amend -o data_file=x img',
      'rebase -b missing -F raw img',
      'rebase -u -b elsewhere img',
      'rebase -u -b elsewhere -F raw img',
      'rebase -u -b base -F raw img',
      'rebase -b  img',
      'commit img',
      'commit -b foo img',
    ]) {
      same(line);
    }
    expect(run(OURS, 'qemu-img', ['check', 'img']).code).toBe(0);
    const details = (folder: string) =>
      run(folder, 'qemu-img', ['info', '--output=json', 'img']).out.replace(/"actual-size": \d+/, '');
    expect(details(OURS)).toBe(details(THEIRS));
  });

  test('commit down a chain, and what the base then reads', () => {
    for (const line of [
      'create -f qcow2 -b base -F raw one 4M',
      'create -f qcow2 -b one -F qcow2 two',
      'convert -f raw -O qcow2 -n a.raw two',
      'commit -b one two',
      'commit one',
      'commit -d one',
    ]) {
      same(line);
    }
    expect(Buffer.compare(readFileSync(join(OURS, 'base')), readFileSync(join(THEIRS, 'base')))).toBe(0);
  });
});

describe('what others have made', () => {
  test('bitmaps are listed and measured', () => {
    for (const folder of [THEIRS, OURS]) {
      run(folder, 'qemu-img', ['create', '-q', '-f', 'qcow2', 'img', '64M']);
      run(folder, 'qemu-img', ['bitmap', '--add', 'img', 'first']);
      run(folder, 'qemu-img', ['bitmap', '--add', '-g', '32k', '--disable', 'img', 'second']);
    }
    const { ours, theirs } = both('info img');
    expect(ours.out).toContain('name: second');
    expect(ours.out).toBe(theirs.out);
    same('measure -O qcow2 img');
    same('measure -O qcow2 --output=json -o cluster_size=4k img');
  });

  test('LUKS without qcow2, either way', () => {
    const secret = ['--object', 'secret,id=s,data=opened'];
    const options = 'driver=luks,key-secret=s,file.filename=img';
    const create = ['create', '-q', '-f', 'luks', ...secret, '-o', 'key-secret=s,iter-time=10', 'img', '1M'];
    run(THEIRS, 'qemu-img', create);
    run(OURS, process.execPath, [program, ...create]);
    const write = [...secret, '--image-opts', options, '-c', 'write -P 7 4k 64k'];
    for (const folder of [THEIRS, OURS]) {
      expect(run(folder, 'qemu-io', write).out).toContain('wrote 65536/65536 bytes at offset 4096');
      const convert = (target: string) => ['convert', ...secret, '--image-opts', '-O', 'raw', options, target];
      expect(run(folder, process.execPath, [program, ...convert('ours')])).toEqual({ code: 0, out: '', err: '' });
      run(folder, 'qemu-img', convert('theirs'));
      // What was never written is noise, and the same for both.
      const disk = readFileSync(join(folder, 'ours'));
      expect(disk.length).toBe(MIB);
      expect(Buffer.compare(disk, readFileSync(join(folder, 'theirs')))).toBe(0);
      expect(Buffer.compare(disk.subarray(4096, 4096 + 65536), Buffer.alloc(65536, 7))).toBe(0);
    }
    same('info --image-opts driver=luks,file.filename=missing');
  });

  test('a growing image of Bochs is read', () => {
    // Three extents of 4 KiB, each behind a bitmap of a sector: the second is stored first, the third second, the first not.
    const header = Buffer.alloc(512);
    header.write('Bochs Virtual HD Image', 0, 'latin1');
    header.write('Redolog', 32, 'latin1');
    header.write('Growing', 48, 'latin1');
    [0x20000, 512, 3, 512, 4096].forEach((field, index) => header.writeUInt32LE(field, 64 + index * 4));
    header.writeBigUInt64LE(12288n, 88);
    const catalog = Buffer.alloc(12);
    [0xffff_ffff, 0, 1].forEach((place, index) => catalog.writeUInt32LE(place, index * 4));
    const extent = (bits: number, byte: number) => {
      const bitmap = Buffer.alloc(512);
      bitmap[0] = bits;
      return Buffer.concat([bitmap, Buffer.alloc(4096, byte)]);
    };
    const image = Buffer.concat([header, catalog, extent(0b1000_0001, 1), extent(0xff, 2)]);
    for (const folder of [THEIRS, OURS]) writeFileSync(join(folder, 'img'), image);
    same('convert -O raw img out');
    const disk = readFileSync(join(OURS, 'out'));
    expect(Buffer.compare(disk, readFileSync(join(THEIRS, 'out')))).toBe(0);
    expect([disk[0], disk[4096], disk[4096 + 512], disk[8191], disk[8192]]).toEqual([0, 1, 0, 1, 2]);
    same('check img');
  });
});

describe('an interrupted conversion', () => {
  test('leaves no file, and the program ends by the signal', async () => {
    writeFileSync(join(OURS, 'big'), Buffer.alloc(256 * MIB, 1));
    const child = spawn(process.execPath, [program, 'convert', '-c', '-f', 'raw', '-O', 'qcow2', 'big', 'out'], {
      cwd: OURS,
    });
    while (!existsSync(join(OURS, 'out'))) await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill('SIGINT');
    const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
    expect([code, signal]).toEqual([null, 'SIGINT']);
    expect(existsSync(join(OURS, 'out'))).toBe(false);
  });
});
