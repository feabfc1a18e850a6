import { existsSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { DRIVERS } from '../../../src/cli/graph/drivers.js';
import { img, inFolder } from './run-img.js';

const MIB = 2 ** 20;

/** A disk of `size` bytes with some data, as a raw file. */
function writeRaw(path: string, size = 4 * MIB): Buffer {
  const bytes = Buffer.alloc(size);
  bytes.fill(0x5a, 100_000, 300_000);
  bytes.fill(0x17, 3 * MIB, 3 * MIB + 5000);
  writeFileSync(path, bytes);
  return bytes;
}

describe('the command line', () => {
  test('no arguments, unknown commands and unknown options point to the help', async () => {
    const advice = "Try 'qemu-img --help' for more information\n";
    expect(await img()).toEqual({ code: 1, out: '', err: `qemu-img: Not enough arguments\n${advice}` });
    expect((await img('foo')).err).toBe(`qemu-img: Command not found: foo\n${advice}`);
    expect((await img('info', '--bogus')).err).toBe(`qemu-img: unrecognized option '--bogus'\n${advice}`);
    expect((await img('create', '-f')).err).toBe(`qemu-img: missing argument for option '-f'\n${advice}`);
  });

  test('every command has its help', async () => {
    const { out: all } = await img('--help');
    const commands = [...all.matchAll(/^ {2}([a-z]+) [[(]/gm)].map((match) => match[1]!);
    expect(commands).toHaveLength(15);
    for (const command of commands) {
      const { code, out } = await img(command, '--help');
      expect(code).toBe(0);
      expect(out).toMatch(new RegExp(`^usage: qcow2-img ${command} `));
    }
  });

  test('the help lists the formats that can be opened', async () => {
    const formats = /^Supported formats: (.*)$/m.exec((await img('--help')).out)?.[1]?.split(' ') ?? [];
    expect(formats).toEqual([...DRIVERS.keys()].sort());
  });
});

describe('create', () => {
  test('what can not be leaves no file, and an old one as it was', () =>
    inFolder(async (path) => {
      writeFileSync(path('old'), 'precious');
      for (const options of ['cluster_size=1000', 'compat=0.42', 'encrypt.format=luks', 'data_file_raw=on', 'foo=1']) {
        expect((await img('create', '-f', 'qcow2', '-o', options, path('new'), '1M')).code).toBe(1);
        expect((await img('create', '-f', 'qcow2', '-o', options, path('old'), '1M')).code).toBe(1);
      }
      expect(existsSync(path('new'))).toBe(false);
      expect(readFileSync(path('old'), 'latin1')).toBe('precious');
    }));

  test('an image that grows too large on the way leaves no file', () =>
    inFolder(async (path) => {
      const { err } = await img('create', '-f', 'qcow2', '-o', 'cluster_size=512', path('new'), '1P');
      expect(err).toMatch(/The image size is too large for file format 'qcow2' \(try using a larger cluster size\)\n$/);
      expect(existsSync(path('new'))).toBe(false);
    }));

  test('over a backing file it takes its size', () =>
    inFolder(async (path) => {
      writeRaw(path('base'));
      await img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw', path('top'));
      expect(JSON.parse((await img('info', '--output=json', path('top'))).out)).toMatchObject({
        'virtual-size': 4 * MIB,
        'backing-filename': 'base',
        'full-backing-filename': path('base'),
        'backing-filename-format': 'raw',
      });
    }));
});

describe('convert', () => {
  test('raw to qcow2 and back, plain and compressed, is the same disk', () =>
    inFolder(async (path) => {
      const bytes = writeRaw(path('a.raw'));
      for (const options of [
        [],
        ['-c'],
        ['-c', '-o', 'compression_type=zstd'],
        ['-o', 'cluster_size=512'],
        ['-S', '0'],
      ]) {
        expect((await img('convert', '-f', 'raw', '-O', 'qcow2', ...options, path('a.raw'), path('b'))).err).toBe('');
        expect((await img('check', path('b'))).code).toBe(0);
        await img('convert', '-O', 'raw', path('b'), path('c'));
        expect(Buffer.compare(readFileSync(path('c')), bytes)).toBe(0);
      }
    }));

  test('zeroes take no room, unless they are to', () =>
    inFolder(async (path) => {
      writeRaw(path('a.raw'));
      await img('convert', '-f', 'raw', '-O', 'qcow2', path('a.raw'), path('sparse'));
      await img('convert', '-f', 'raw', '-O', 'qcow2', '-S', '0', path('a.raw'), path('full'));
      expect(statSync(path('sparse')).size).toBeLessThan(MIB);
      expect(statSync(path('full')).size).toBeGreaterThan(4 * MIB);
    }));

  test('a target that could not be finished is removed', () =>
    inFolder(async (path) => {
      writeRaw(path('a.raw'));
      await img('convert', '-f', 'raw', '-O', 'qcow2', '-c', path('a.raw'), path('b'));
      // The data of the compressed clusters is gone.
      truncateSync(path('b'), 5 * 65536);
      const { code, err } = await img('convert', '-O', 'raw', path('b'), path('c'));
      expect(code).toBe(1);
      expect(err).toMatch(/^qemu-img: error while reading/m);
      expect(existsSync(path('c'))).toBe(false);
    }));

  test('-n writes to what is there, and refuses what is too small', () =>
    inFolder(async (path) => {
      const bytes = writeRaw(path('a.raw'));
      writeFileSync(path('b'), Buffer.alloc(4 * MIB, 0xff));
      await img('convert', '-f', 'raw', '-n', '-O', 'raw', path('a.raw'), path('b'));
      expect(Buffer.compare(readFileSync(path('b')), bytes)).toBe(0);
      truncateSync(path('b'), MIB);
      expect((await img('convert', '-f', 'raw', '-n', '-O', 'raw', path('a.raw'), path('b'))).err).toBe(
        'qemu-img: output file is smaller than input file\n',
      );
      expect(statSync(path('b')).size).toBe(MIB);
    }));

  test('several images become one, in their order', () =>
    inFolder(async (path) => {
      const first = writeRaw(path('a.raw'));
      const second = Buffer.alloc(MIB, 7);
      writeFileSync(path('b.raw'), second);
      await img('convert', '-f', 'raw', '-O', 'qcow2', '-c', path('a.raw'), path('b.raw'), path('c'));
      await img('convert', '-O', 'raw', path('c'), path('d'));
      expect(Buffer.compare(readFileSync(path('d')), Buffer.concat([first, second]))).toBe(0);
    }));
});

describe('images over a backing file', () => {
  /** `base`: all 0x5a; `top`: over it, empty. */
  async function chain(path: (name: string) => string): Promise<void> {
    writeFileSync(path('base'), Buffer.alloc(MIB, 0x5a));
    await img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw', path('top'), '1M');
  }

  const content = async (path: (name: string) => string, name: string): Promise<Buffer> => {
    await img('convert', '-O', 'raw', path(name), path('content'));
    return readFileSync(path('content'));
  };

  test('a safe rebase keeps what the image reads, onto another file and onto none', () =>
    inFolder(async (path) => {
      await chain(path);
      const before = await content(path, 'top');
      const other = Buffer.alloc(MIB, 0x5a);
      other.fill(1, 200_000, 400_000);
      writeFileSync(path('other'), other);
      expect((await img('rebase', '-b', 'other', '-F', 'raw', path('top'))).err).toBe('');
      expect(Buffer.compare(await content(path, 'top'), before)).toBe(0);
      expect((await img('rebase', '-b', '', path('top'))).err).toBe('');
      expect(Buffer.compare(await content(path, 'top'), before)).toBe(0);
      expect((await img('info', path('top'))).out).not.toContain('backing file');
    }));

  test('commit writes to the backing file what the image holds, and empties the image', () =>
    inFolder(async (path) => {
      await chain(path);
      writeFileSync(path('new'), Buffer.alloc(MIB, 0x33));
      await img('convert', '-f', 'raw', '-n', '-O', 'qcow2', path('new'), path('top'));
      expect(await img('commit', path('top'))).toEqual({ code: 0, out: 'Image committed.\n', err: '' });
      expect(Buffer.compare(readFileSync(path('base')), Buffer.alloc(MIB, 0x33))).toBe(0);
      expect((await img('map', '--output=json', path('top'))).out).toContain('"depth": 1');
    }));

  test('an image without a backing file has nowhere to be committed to', () =>
    inFolder(async (path) => {
      await img('create', '-q', '-f', 'qcow2', path('a'), '1M');
      expect(await img('commit', path('a'))).toMatchObject({
        code: 1,
        err: 'qemu-img: Image does not have a backing file\n',
      });
    }));
});

describe('compare', () => {
  test('tells alike from different by its exit code, and where', () =>
    inFolder(async (path) => {
      const bytes = writeRaw(path('a'));
      bytes[123_456] = 1;
      writeFileSync(path('b'), bytes);
      expect(await img('compare', '-f', 'raw', '-F', 'raw', path('a'), path('a'))).toMatchObject({
        code: 0,
        out: 'Images are identical.\n',
      });
      expect(await img('compare', '-f', 'raw', '-F', 'raw', path('a'), path('b'))).toMatchObject({
        code: 1,
        out: 'Content mismatch at offset 123392!\n',
      });
      expect((await img('compare', path('a'), path('missing'))).code).toBe(2);
    }));

  test('a longer image is the same if the rest is zeroes, but not strictly', () =>
    inFolder(async (path) => {
      writeRaw(path('a'));
      writeRaw(path('b'));
      truncateSync(path('b'), 5 * MIB);
      const same = 'Warning: Image size mismatch!\nImages are identical.\n';
      expect((await img('compare', '-f', 'raw', '-F', 'raw', path('a'), path('b'))).out).toBe(same);
      expect(await img('compare', '-s', '-f', 'raw', '-F', 'raw', path('a'), path('b'))).toMatchObject({
        code: 1,
        out: 'Strict mode: Image size mismatch!\n',
      });
    }));
});

describe('check', () => {
  test('exits with 63 for a format that has nothing to check', () =>
    inFolder(async (path) => {
      writeRaw(path('a'));
      expect(await img('check', '-f', 'raw', path('a'))).toEqual({
        code: 63,
        out: '',
        err: 'qemu-img: This image format does not support checks\n',
      });
    }));

  test('finds a leak, exits with 3, and repairs it', () =>
    inFolder(async (path) => {
      await img('create', '-q', '-f', 'qcow2', path('a'), '1M');
      const bytes = readFileSync(path('a'));
      // The refcount block is the third cluster; the entry is that of a cluster at the end of the file.
      const file = Buffer.concat([bytes, Buffer.alloc(5 * 65536 - bytes.length)]);
      file.writeUInt16BE(1, 2 * 65536 + 4 * 2);
      writeFileSync(path('a'), file);
      const leaky = await img('check', path('a'));
      expect(leaky).toMatchObject({ code: 3, err: 'Leaked cluster 4 refcount=1 reference=0\n' });
      const repaired = await img('check', '-r', 'leaks', path('a'));
      expect(repaired).toMatchObject({ code: 0 });
      expect(repaired.err).toContain('Repairing cluster 4 refcount=1 reference=0\n');
      expect(repaired.out).toContain('    1 leaked clusters\n    0 corruptions\n');
      expect(await img('check', path('a'))).toMatchObject({ code: 0, err: '' });
    }));
});

describe('snapshots and sizes', () => {
  test('a snapshot keeps what a conversion can read', () =>
    inFolder(async (path) => {
      const bytes = writeRaw(path('a.raw'));
      await img('convert', '-f', 'raw', '-O', 'qcow2', path('a.raw'), path('b'));
      expect((await img('snapshot', '-c', 'before', path('b'))).err).toBe('');
      writeFileSync(path('new'), Buffer.alloc(4 * MIB, 9));
      await img('convert', '-f', 'raw', '-n', '-O', 'qcow2', path('new'), path('b'));
      await img('convert', '-l', 'before', '-O', 'raw', path('b'), path('c'));
      expect(Buffer.compare(readFileSync(path('c')), bytes)).toBe(0);
      await img('snapshot', '-a', 'before', path('b'));
      await img('snapshot', '-d', 'before', path('b'));
      expect((await img('snapshot', '-l', path('b'))).out).toBe('');
      await img('convert', '-O', 'raw', path('b'), path('c'));
      expect(Buffer.compare(readFileSync(path('c')), bytes)).toBe(0);
      expect((await img('check', path('b'))).code).toBe(0);
    }));

  test('shrinking needs to be asked for', () =>
    inFolder(async (path) => {
      await img('create', '-q', '-f', 'qcow2', path('a'), '4M');
      expect(await img('resize', path('a'), '--', '-1M')).toMatchObject({
        code: 1,
        err: expect.stringMatching(
          /^qemu-img: Use the --shrink option to perform a shrink operation.\nqemu-img: warning: /,
        ),
      });
      expect(await img('resize', '--shrink', path('a'), '--', '-1M')).toMatchObject({
        code: 0,
        out: 'Image resized.\n',
      });
      expect(await img('resize', path('a'), '+2M')).toMatchObject({ code: 0 });
      expect(JSON.parse((await img('info', '--output=json', path('a'))).out)).toMatchObject({
        'virtual-size': 5 * MIB,
      });
    }));
});

describe('bitmaps', () => {
  test('are added with several actions on one line, and listed; one that fails leaves those before it done', () =>
    inFolder(async (path) => {
      await img('create', '-q', '-f', 'qcow2', path('a'), '1M');
      expect(await img('bitmap', '--add', '--disable', '-g', '32k', path('a'), 'b0')).toEqual({
        code: 0,
        out: '',
        err: '',
      });
      expect(await img('bitmap', '--add', '--merge', 'none', path('a'), 'b1')).toEqual({
        code: 1,
        out: '',
        err: "qemu-img: Operation merge on bitmap b1 failed: Dirty bitmap 'none' not found\n",
      });
      const { out } = await img('info', '--output=json', path('a'));
      const info = JSON.parse(out) as { 'format-specific': { data: { bitmaps: unknown } } };
      expect(info['format-specific'].data.bitmaps).toEqual([
        { name: 'b0', granularity: 32768, flags: [] },
        { name: 'b1', granularity: 65536, flags: ['auto'] },
      ]);
    }));
});
