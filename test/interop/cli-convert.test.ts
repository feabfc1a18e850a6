/**
 * `convert` against qemu-img's: whatever the format, the options and the direction, both make images with the same disk, and
 * each opens what the other has made.
 *
 * Ours is asked first, for an image that QEMU must find good and read as its own; then both read back what the other one has
 * written, byte by byte.
 */
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { useBuiltPrograms } from '../support/programs.js';
import { checkReportOf, expectCleanCheck, qemuImg, qemuIo } from './qemu.js';

const MIB = 2 ** 20;
const SIZE = 12 * MIB + 3 * 512;
const programs = useBuiltPrograms();
const { path } = programs;

/** Runs ours, which must have nothing to complain about. */
function img(...args: string[]): string {
  const { code, out, err } = programs.run('qcow2-img', ...args);
  expect([code, err], args.join(' ')).toEqual([0, '']);
  return out;
}

/** Data of three kinds with holes between: what no compression makes smaller, what any does, and zeroes that are written. */
function writeSource(): Buffer {
  const disk = Buffer.alloc(SIZE);
  for (let at = 0, x = 1; at < 3 * MIB; at += 4) {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    disk.writeUInt32LE(x, at);
  }
  disk.fill('all the same ', 4 * MIB + 300, 7 * MIB - 1000);
  disk.fill(0x5a, 9 * MIB, 9 * MIB + 512);
  disk.fill(0x17, SIZE - 700, SIZE);
  writeFileSync(path('source'), disk);
  return disk;
}

function expectSame(name: string, expected: Buffer, what: string): void {
  expect(Buffer.compare(readFileSync(path(name)), expected), what).toBe(0);
}

const SECRET = ['--object', 'secret,id=key,data=correct horse'];
const LUKS = ['-o', 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10'];

interface Kind {
  readonly name: string;
  /** For a target of this kind. */
  readonly options: readonly string[];
  /** For a source or a target of it. */
  readonly objects?: readonly string[];
  /** The source as options, where a name is not enough. */
  readonly imageOpts?: (file: string) => string;
}

const encrypted = {
  objects: SECRET,
  imageOpts: (file: string) => `driver=qcow2,encrypt.key-secret=key,file.filename=${file}`,
};

const KINDS: readonly Kind[] = [
  { name: 'plain', options: [] },
  { name: 'compressed with zlib', options: ['-c'] },
  { name: 'compressed with zstd', options: ['-c', '-o', 'compression_type=zstd'] },
  { name: 'in version 2', options: ['-o', 'compat=0.10'] },
  { name: 'compressed in clusters of 4 KiB', options: ['-c', '-o', 'cluster_size=4k'] },
  { name: 'in clusters of 2 MiB', options: ['-o', 'cluster_size=2M'] },
  { name: 'with subclusters', options: ['-o', 'extended_l2=on'] },
  { name: 'with all its clusters', options: ['-S', '0'] },
  { name: 'with metadata for all its clusters', options: ['-o', 'preallocation=metadata'] },
  { name: 'encrypted with LUKS', options: LUKS, ...encrypted },
  { name: 'encrypted with legacy AES', options: ['-o', 'encrypt.format=aes,encrypt.key-secret=key'], ...encrypted },
];

/** The arguments that make a qcow2 of this kind out of a raw file. */
function intoQcow2({ options, objects = [] }: Kind, target: string): string[] {
  return ['convert', ...objects, '-f', 'raw', '-O', 'qcow2', ...options, path('source'), path(target)];
}

/** The arguments that name an image of this kind. */
function reference({ objects = [], imageOpts }: Kind, name: string): string[] {
  return [
    ...objects,
    ...(imageOpts === undefined ? ['-f', 'qcow2', path(name)] : ['--image-opts', imageOpts(path(name))]),
  ];
}

/** Demands that qemu-img opens it and finds nothing wrong. */
function expectGood(kind: Kind, name: string): void {
  const { leaks, corruptions, checkErrors, output } = checkReportOf(reference(kind, name));
  expect({ leaks, corruptions, checkErrors }, output).toEqual({ leaks: 0, corruptions: 0, checkErrors: 0 });
}

/** The arguments that make a raw file out of a qcow2 of this kind. */
function intoRaw(kind: Kind, source: string, target: string): string[] {
  return ['convert', '-O', 'raw', ...reference(kind, source), path(target)];
}

describe('raw to qcow2 and back', () => {
  test.each(KINDS)('$name: each reads what the other has made', (kind) => {
    const disk = writeSource();
    img(...intoQcow2(kind, 'ours'));
    qemuImg(...intoQcow2(kind, 'theirs'));
    expectGood(kind, 'ours');
    for (const source of ['ours', 'theirs']) {
      qemuImg(...intoRaw(kind, source, 'by-them'));
      img(...intoRaw(kind, source, 'by-us'));
      expectSame('by-them', disk, `qemu-img reads ${source}`);
      expectSame('by-us', disk, `qcow2-img reads ${source}`);
    }
  });

  test('an image compressed by us is about as small as one of QEMU', () => {
    writeSource();
    for (const options of [['-c'], ['-c', '-o', 'compression_type=zstd']]) {
      const kind = { name: '', options };
      img(...intoQcow2(kind, 'ours'));
      qemuImg(...intoQcow2(kind, 'theirs'));
      expect(statSync(path('ours')).size / statSync(path('theirs')).size).toBeLessThan(1.05);
    }
  });
});

describe('qcow2 to qcow2', () => {
  test.each(KINDS)('of either, into one $name', (kind) => {
    writeSource();
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-c', path('source'), path('by-them'));
    img('convert', '-f', 'raw', '-O', 'qcow2', '-o', 'cluster_size=8k', path('source'), path('by-us'));
    for (const source of ['by-them', 'by-us']) {
      const target = [...(kind.objects ?? []), '-f', 'qcow2', '-O', 'qcow2', ...kind.options];
      img('convert', ...target, path(source), path('copy'));
      expectGood(kind, 'copy');
      qemuImg(...intoRaw(kind, 'copy', 'read'));
      expectSame('read', readFileSync(path('source')), `${source} as ${kind.name}`);
    }
  });

  test('out of an encrypted one of QEMU into an encrypted one with another passphrase', () => {
    const disk = writeSource();
    qemuImg(...intoQcow2({ name: '', options: LUKS, objects: SECRET }, 'theirs'));
    const other = [...SECRET, '--object', 'secret,id=other,data=battery staple'];
    const options = 'encrypt.format=luks,encrypt.key-secret=other,encrypt.iter-time=10';
    const source = `driver=qcow2,encrypt.key-secret=key,file.filename=${path('theirs')}`;
    img('convert', ...other, '--image-opts', source, '-O', 'qcow2', '-o', options, path('ours'));
    const target = `driver=qcow2,encrypt.key-secret=other,file.filename=${path('ours')}`;
    qemuImg('convert', ...other, '--image-opts', target, '-O', 'raw', path('read'));
    expectSame('read', disk, 'what was encrypted twice');
  });
});

describe('with backing files', () => {
  /** `base` is raw and shorter, `middle` is compressed over it, `top` has data, zeroes and holes of its own. Returns the disk. */
  function chain(): Buffer {
    const disk = writeSource();
    writeFileSync(path('base'), disk.subarray(0, 6 * MIB));
    qemuImg('create', '-q', '-f', 'qcow2', '-b', path('base'), '-F', 'raw', path('middle'), String(8 * MIB));
    qemuIo(path('middle'), ['write -c -P 0x61 1M 256k', 'write -z 2M 64k']);
    qemuImg('create', '-q', '-f', 'qcow2', '-b', path('middle'), '-F', 'qcow2', path('top'), String(10 * MIB));
    qemuIo(path('top'), ['write -P 0x62 5M 1000', 'write -z 3M 128k', 'write -P 0x63 8126464 200k', 'discard 4M 64k']);
    qemuImg('convert', '-f', 'qcow2', '-O', 'raw', path('top'), path('expected'));
    return readFileSync(path('expected'));
  }

  test('without -B a chain becomes one image', () => {
    const disk = chain();
    for (const options of [[], ['-c'], ['-S', '0']]) {
      img('convert', '-f', 'qcow2', '-O', 'qcow2', ...options, path('top'), path('flat'));
      expectCleanCheck(path('flat'));
      expect(qemuImg('info', path('flat'))).not.toContain('backing file');
      qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', path('top'), path('flat'));
      img('convert', '-f', 'qcow2', '-O', 'raw', path('flat'), path('read'));
      expectSame('read', disk, options.join(' '));
    }
    img('convert', '-f', 'qcow2', '-O', 'raw', path('top'), path('read'));
    expectSame('read', disk, 'the chain as a raw file');
  });

  test('with -B what the backing file has is left to it', () => {
    chain();
    const args = ['convert', '-f', 'qcow2', '-O', 'qcow2', '-B', path('middle'), '-F', 'qcow2', path('top')];
    img(...args, path('ours'));
    qemuImg(...args, path('theirs'));
    expectCleanCheck(path('ours'));
    qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', path('top'), path('ours'));
    qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', path('top'), path('theirs'));
    const clusters = (name: string) => {
      const check = JSON.parse(qemuImg('check', '--output=json', path(name))) as Record<string, unknown>;
      return check['allocated-clusters'];
    };
    expect(clusters('ours')).toBe(clusters('theirs'));
  });
});

describe('sparse files', () => {
  /** Room that the file takes on the host. */
  const room = (name: string) => statSync(path(name)).blocks * 512;

  test('holes stay holes, in raw files as in qcow2', () => {
    writeFileSync(path('source'), Buffer.alloc(MIB, 7));
    truncateSync(path('source'), 1024 * MIB);
    img('convert', '-f', 'raw', '-O', 'qcow2', path('source'), path('ours'));
    img('convert', '-f', 'qcow2', '-O', 'raw', path('ours'), path('by-us'));
    qemuImg('convert', '-f', 'qcow2', '-O', 'raw', path('ours'), path('by-them'));
    expect(qemuImg('compare', '-f', 'raw', '-F', 'raw', path('source'), path('by-us'))).toBe('Images are identical.\n');
    expect(statSync(path('by-us')).size).toBe(1024 * MIB);
    expect(room('by-us')).toBe(room('by-them'));
    expect(room('ours')).toBeLessThan(2 * MIB);
  });

  test('-S says from what length on zeroes are left out, as with qemu-img', () => {
    writeSource();
    for (const least of ['4k', '64k', '1M', '0']) {
      for (const format of ['raw', 'qcow2']) {
        const args = ['convert', '-f', 'raw', '-O', format, '-S', least, path('source')];
        img(...args, path('ours'));
        qemuImg(...args, path('theirs'));
        expect(qemuImg('compare', '-f', format, '-F', 'raw', path('ours'), path('source'))).toBe(
          'Images are identical.\n',
        );
        const map = (name: string) => qemuImg('map', '--output=json', '-f', 'qcow2', path(name));
        if (format === 'qcow2') expect(map('ours')).toBe(map('theirs'));
        else expect(room('ours')).toBe(room('theirs'));
      }
    }
  });
});
