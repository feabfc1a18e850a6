/** Image info against `qemu-img info --output=json`, fact by fact. */
import { closeSync, openSync, readFileSync, statSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { imageInfo, type ImageInfo } from '../../src/operations/image-info.js';
import { withOurs } from './our-image.js';
import { inTemporaryDirectory, qemuCreate, qemuImg, qemuInfo } from './qemu.js';

/** Our facts under QEMU's names. QEMU tells some of version 3 only. */
function asQemuSays(info: ImageInfo): Record<string, unknown> {
  const version3 = {
    'lazy-refcounts': info.lazyRefcounts,
    corrupt: info.corrupt,
    'extended-l2': info.extendedL2,
    ...(info.dataFile && { 'data-file': info.dataFile.name, 'data-file-raw': info.dataFile.raw }),
  };
  const snapshots = info.snapshots.map(({ id, name, date, vmClock, vmStateBytes, instructionCount }) => ({
    id,
    name,
    'date-sec': date.seconds,
    'date-nsec': date.nanoseconds,
    'vm-clock-sec': Number(vmClock / 1_000_000_000n),
    'vm-clock-nsec': Number(vmClock % 1_000_000_000n),
    'vm-state-size': vmStateBytes,
    ...(instructionCount !== null && { icount: Number(instructionCount) }),
  }));
  return {
    format: 'qcow2',
    'virtual-size': info.virtualSize,
    'cluster-size': info.clusterSize,
    'dirty-flag': info.dirty,
    ...(info.backingFile && { 'backing-filename': info.backingFile.name }),
    ...(info.backingFile?.format && { 'backing-filename-format': info.backingFile.format }),
    ...(snapshots.length > 0 && { snapshots }),
    'format-specific': {
      type: 'qcow2',
      data: {
        compat: info.version === 2 ? '0.10' : '1.1',
        'compression-type': info.compressionType,
        'refcount-bits': info.refcountBits,
        ...(info.version === 3 && version3),
      },
    },
  };
}

async function expectSameInfo(path: string): Promise<ImageInfo> {
  // What the host knows of the file is none of the image's facts.
  const { filename, 'actual-size': actual, 'full-backing-filename': full, ...theirs } = qemuInfo(path);
  expect([filename, typeof actual, typeof full]).toEqual([path, 'number', full === undefined ? 'undefined' : 'string']);
  const info = await withOurs(path, imageInfo, { readOnly: true });
  expect(asQemuSays(info)).toEqual(theirs);
  expect(info.fileSize).toBe(statSync(path).size);
  return info;
}

function patchByte(path: string, at: number, value: number): void {
  const file = openSync(path, 'r+');
  writeSync(file, Uint8Array.of(value), 0, 1, at);
  closeSync(file);
}

/** Makes the backing format extension one that nobody knows. QEMU itself no longer leaves the format out. */
function forgetBackingFormat(path: string): void {
  const at = readFileSync(path).indexOf(Uint8Array.of(0xe2, 0x79, 0x2a, 0xca));
  expect(at).toBeGreaterThan(0);
  patchByte(path, at, 0x12);
}

/** The lowest byte of incompatible_features. */
const INCOMPATIBLE_AT = 79;

describe('the info of an image is what QEMU says', () => {
  it.each<Record<string, string | number>>([
    { compat: '0.10' },
    { compat: '0.10', cluster_size: 512 },
    { compat: '1.1', cluster_size: 2 ** 21 },
    { refcount_bits: 1 },
    { refcount_bits: 64, lazy_refcounts: 'on' },
    { compression_type: 'zstd' },
    { extended_l2: 'on', cluster_size: 16384 },
  ])('for %j', (options) =>
    inTemporaryDirectory(async (path) => {
      qemuCreate(path('image'), { size: 0x123_4000, options });
      await expectSameInfo(path('image'));
    }),
  );

  it('for a backing file with its format and for one without', () =>
    inTemporaryDirectory(async (path) => {
      qemuCreate(path('base'), { size: 0x10_0000 });
      qemuCreate(path('image'), { size: 0x20_0000, backing: { name: path('base'), format: 'qcow2' } });
      await expectSameInfo(path('image'));
      forgetBackingFormat(path('image'));
      const { backingFile } = await expectSameInfo(path('image'));
      expect(backingFile).toEqual({ name: path('base'), format: null });
    }));

  it.each(['on', 'off'])('for an external data file, data_file_raw=%s', (raw) =>
    inTemporaryDirectory(async (path) => {
      qemuCreate(path('image'), { size: 0x10_0000, options: { data_file: path('data'), data_file_raw: raw } });
      const { dataFile } = await expectSameInfo(path('image'));
      expect(dataFile).toEqual({ name: path('data'), raw: raw === 'on' });
    }),
  );

  it('for an image left dirty and for one marked corrupt', () =>
    inTemporaryDirectory(async (path) => {
      qemuCreate(path('image'), { size: 0x10_0000 });
      patchByte(path('image'), INCOMPATIBLE_AT, 1);
      expect(await expectSameInfo(path('image'))).toMatchObject({ dirty: true, corrupt: false });
      patchByte(path('image'), INCOMPATIBLE_AT, 2);
      expect(await expectSameInfo(path('image'))).toMatchObject({ dirty: false, corrupt: true });
    }));

  it.each(['0.10', '1.1'])('for snapshots, compat %s', (compat) =>
    inTemporaryDirectory(async (path) => {
      qemuCreate(path('image'), { size: 0x10_0000, options: { compat } });
      for (const name of ['one', 'zwei', 'trois \u00e9t\u00e9s']) qemuImg('snapshot', '-c', name, path('image'));
      qemuImg('snapshot', '-d', 'zwei', path('image'));
      const { snapshots } = await expectSameInfo(path('image'));
      expect(snapshots).toHaveLength(2);
      expect(snapshots.map(({ diskSize }) => diskSize)).toEqual([0x10_0000, 0x10_0000]);
    }),
  );
});
