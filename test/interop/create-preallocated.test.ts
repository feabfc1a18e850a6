/** Images created by us with preallocation, data files, extended L2 entries and zstd: as qemu-img creates them. */
import { statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createImage, MemoryStorage, type CreateOptions } from '../../src/index.js';
import { NodeFileStorage } from '../../src/node.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { createOurs, withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCreate, qemuInfo, qemuIo, qemuMap } from './qemu.js';

const SIZE = 0x50_0200;

interface Row {
  readonly title: string;
  readonly ours: Omit<CreateOptions, 'size'>;
  readonly theirs: Readonly<Record<string, string | number>>;
  readonly dataFile?: 'plain' | 'raw';
}

const ROWS: readonly Row[] = [
  { title: 'nothing', ours: {}, theirs: {} },
  { title: 'clusters of 512 bytes', ours: { clusterSize: 512 }, theirs: { cluster_size: 512 } },
  { title: 'version 2', ours: { version: 2 }, theirs: { compat: '0.10' } },
  { title: 'refcounts of one bit', ours: { refcountBits: 1 }, theirs: { refcount_bits: 1 } },
  { title: 'extended L2 entries', ours: { extendedL2: true }, theirs: { extended_l2: 'on' } },
  { title: 'zstd', ours: { compressionType: 'zstd' }, theirs: { compression_type: 'zstd' } },
  { title: 'lazy refcounts', ours: { lazyRefcounts: true }, theirs: { lazy_refcounts: 'on' } },
  { title: 'a data file', ours: {}, theirs: {}, dataFile: 'plain' },
  { title: 'a raw data file', ours: {}, theirs: {}, dataFile: 'raw' },
  {
    title: 'a data file and subclusters',
    ours: { extendedL2: true },
    theirs: { extended_l2: 'on' },
    dataFile: 'plain',
  },
];

/** Creates `file` with our `createImage`, with a data file beside it. */
function create(file: string, row: Row, preallocation: 'off' | 'metadata' | 'falloc' | 'full', data: string): void {
  const options: CreateOptions = { size: SIZE, preallocation, ...row.ours };
  if (row.dataFile === undefined) {
    createOurs(file, options);
    return;
  }
  const storage = NodeFileStorage.open(data, { create: true });
  createOurs(file, { ...options, dataFile: { name: data, storage, raw: row.dataFile === 'raw' } });
  storage.close();
}

function dataFileOptions(row: Row, data: string): Readonly<Record<string, string>> {
  if (row.dataFile === undefined) return {};
  return { data_file: data, data_file_raw: row.dataFile === 'raw' ? 'on' : 'off' };
}

describe('an image created by us', () => {
  for (const row of ROWS) {
    for (const preallocation of ['off', 'metadata', 'falloc', 'full'] as const) {
      it(`with ${row.title} and preallocation ${preallocation} is like qemu-img's`, async () => {
        await inTemporaryDirectory(async (path) => {
          const [ours, theirs] = [path('ours.qcow2'), path('their.qcow2')];
          create(ours, row, preallocation, path('ours.data'));
          const options = { ...row.theirs, ...dataFileOptions(row, path('their.data')), preallocation };
          qemuCreate(theirs, { size: SIZE, options });
          expectCleanCheck(ours);
          expectSameBytes(qemuBytes(ours), new Uint8Array(SIZE), 'the disk');
          expect(allocationOf(ours)).toBe(allocationOf(theirs));
          const format = (file: string) => JSON.stringify(qemuInfo(file)['format-specific']).replaceAll(file, '');
          expect(format(ours).replaceAll('ours', '')).toBe(format(theirs).replaceAll('their', ''));
          if (preallocation !== 'off')
            expect(statSync(ours).size).toBeGreaterThanOrEqual(statSync(theirs).size - 65536);
          qemuIo(ours, ['write -P 5 100k 4M']);
          expectCleanCheck(ours, 'written by QEMU');
          await withOurs(ours, (image) => {
            const expected = new Uint8Array(SIZE).fill(5, 102400, 102400 + 0x40_0000);
            expectSameBytes(readWhole(image), expected, 'the disk, written by QEMU');
          });
        });
      });
    }
  }

  it('over a backing file has places for its clusters with extended L2 entries, and still shows it', async () => {
    await inTemporaryDirectory((path) => {
      qemuCreate(path('base'), { size: SIZE });
      qemuIo(path('base'), ['write -P 7 0 5M']);
      const file = path('image.qcow2');
      const backing = { name: path('base'), format: 'qcow2' } as const;
      createOurs(file, { size: SIZE, backing, extendedL2: true, preallocation: 'metadata' });
      expectCleanCheck(file);
      expectSameBytes(qemuBytes(file), qemuBytes(path('base')), 'the disk');
      const { size } = statSync(file);
      expect(size).toBeGreaterThan(SIZE);
      qemuIo(file, ['write -P 1 0 5M']);
      expect(statSync(file).size).toBe(size);
    });
  });

  const backing = { name: 'base', format: 'raw' } as const;
  const dataFile = { name: 'data', storage: new MemoryStorage() };
  const CONFLICTS: readonly (readonly [string, Partial<CreateOptions>, RegExp])[] = [
    [
      'preallocation over a backing file',
      { backing, preallocation: 'metadata' },
      /over a backing file it needs extendedL2/,
    ],
    ['subclusters of small clusters', { extendedL2: true, clusterSize: 8192 }, /8192; extendedL2 needs at least 16384/],
    ['subclusters in version 2', { extendedL2: true, version: 2 }, /extendedL2 needs version 3/],
    ['a data file in version 2', { dataFile, version: 2 }, /dataFile needs version 3/],
    ['a raw data file and a backing file', { dataFile: { ...dataFile, raw: true }, backing }, /raw data file/],
    ['a data file without a name', { dataFile: { ...dataFile, name: '' } }, /dataFile.name has 0 bytes/],
    ['a backing file without a name', { backing: { ...backing, name: '' } }, /backing.name has 0 bytes/],
    ['zstd in version 2', { compressionType: 'zstd', version: 2 }, /version 2 has zlib only/],
  ];
  for (const [what, options, message] of CONFLICTS) {
    it(`is refused with ${what}`, () => {
      const storage = new MemoryStorage(Uint8Array.of(1, 2, 3));
      expect(() => createImage(storage, { size: SIZE, ...options })).toThrow(
        expect.objectContaining({ code: 'BAD_ARGUMENT', message: expect.stringMatching(message) as string }),
      );
      expect(storage.toBytes()).toEqual(Uint8Array.of(1, 2, 3));
    });
  }
});

/** Which parts of the disk have a place in a file: neighbours joined, and without what the host's file system adds. */
function allocationOf(file: string): string {
  const parts: { end: number; readonly allocated: boolean }[] = [];
  for (const { start, length, offset } of qemuMap(file)) {
    const allocated = offset !== undefined;
    const last = parts.at(-1);
    if (last?.allocated === allocated) last.end = start + length;
    else parts.push({ end: start + length, allocated });
  }
  return parts.map(({ end, allocated }) => `${allocated ? 'allocated' : 'nothing'} to ${end}`).join(', ');
}
