/**
 * The cpio writer. What it writes is read back here by a small reader of the format, field by field, and unpacked by
 * Linux itself each time the demo guest boots.
 */
import { describe, expect, test } from 'vitest';
import { cpioArchive, type CpioEntry } from '../../demo/guest/cpio.mjs';

const HEADER_BYTES = 110;

interface ReadEntry {
  name: string;
  inode: number;
  mode: number;
  device: [number, number];
  contents: string;
}

/** Reads to the trailer, and demands that nothing but padding follows. */
function readArchive(archive: Buffer): ReadEntry[] {
  const entries: ReadEntry[] = [];
  for (let offset = 0; ;) {
    const header = archive.toString('latin1', offset, offset + HEADER_BYTES);
    expect(header.slice(0, 6)).toBe('070701');
    const fields = Array.from({ length: 13 }, (_, index) => parseInt(header.slice(6 + index * 8, 14 + index * 8), 16));
    const [inode = 0, mode = 0, , , , , size = 0, , , major = 0, minor = 0, nameBytes = 0] = fields;
    const nameEnd = offset + HEADER_BYTES + nameBytes;
    const name = archive.toString('utf8', offset + HEADER_BYTES, nameEnd - 1);
    expect(archive[nameEnd - 1]).toBe(0);
    const start = Math.ceil(nameEnd / 4) * 4;
    offset = Math.ceil((start + size) / 4) * 4;
    if (name === 'TRAILER!!!') {
      expect(offset).toBe(archive.length);
      return entries;
    }
    entries.push({
      name,
      inode,
      mode,
      device: [major, minor],
      contents: archive.toString('utf8', start, start + size),
    });
  }
}

describe('cpioArchive', () => {
  test('writes folders, files, links and devices with their type, permissions and contents', () => {
    const entries = readArchive(
      cpioArchive([
        { kind: 'folder', path: 'bin' },
        { kind: 'file', path: 'bin/tool', mode: 0o755, contents: 'text' },
        { kind: 'link', path: 'bin/sh', target: 'tool' },
        { kind: 'folder', path: 'dev' },
        { kind: 'device', path: 'dev/console', major: 5, minor: 1 },
      ]),
    );
    expect(entries.map(({ name, mode, device, contents }) => [name, mode.toString(8), device, contents])).toEqual([
      ['bin', '40755', [0, 0], ''],
      ['bin/tool', '100755', [0, 0], 'text'],
      ['bin/sh', '120777', [0, 0], 'tool'],
      ['dev', '40755', [0, 0], ''],
      ['dev/console', '20600', [5, 1], ''],
    ]);
  });

  test('gives each entry an inode of its own, so that none is taken for a hard link', () => {
    const paths = ['a', 'b', 'c'];
    const entries = readArchive(cpioArchive(paths.map((path) => ({ kind: 'file', path, contents: '' }))));
    expect(new Set(entries.map(({ inode }) => inode)).size).toBe(3);
  });

  test('keeps entries apart for every remainder of name and content lengths', () => {
    const files: CpioEntry[] = [];
    for (let nameLength = 1; nameLength <= 8; nameLength++) {
      for (let contentLength = 0; contentLength <= 4; contentLength++) {
        const path = `${contentLength}${'n'.repeat(nameLength)}`;
        files.push({ kind: 'file', path, contents: 'x'.repeat(contentLength) });
      }
    }
    const read = readArchive(cpioArchive(files));
    expect(read.map(({ name, contents }) => [name, contents.length])).toEqual(
      files.map(({ path }) => [path, Number(path[0])]),
    );
  });

  test('counts a name that is not ASCII in bytes', () => {
    const [entry] = readArchive(cpioArchive([{ kind: 'file', path: 'größe', contents: 'é' }]));
    expect(entry).toMatchObject({ name: 'größe', contents: 'é' });
  });

  test('gives the same bytes for the same entries', () => {
    const entries: CpioEntry[] = [{ kind: 'file', path: 'init', contents: new Uint8Array([1, 2, 3]) }];
    expect(cpioArchive(entries).equals(cpioArchive(entries))).toBe(true);
  });

  test.each<[string, CpioEntry[], string]>([
    ['an absolute path', [{ kind: 'folder', path: '/bin' }], 'cpio path "/bin" must be relative'],
    ['an empty path', [{ kind: 'folder', path: '' }], 'cpio path "" must be relative'],
    [
      'a path given twice',
      [
        { kind: 'folder', path: 'bin' },
        { kind: 'folder', path: 'bin' },
      ],
      'cpio path "bin" is given twice',
    ],
    ['a file before its folder', [{ kind: 'file', path: 'a/b', contents: '' }], 'comes before its folder "a"'],
  ])('refuses %s', (_what, entries, message) => {
    expect(() => cpioArchive(entries)).toThrow(message);
  });
});
