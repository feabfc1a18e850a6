/** Emptied images, the fast way and the slow, judged by qemu-img. */
import { statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { makeEmpty } from '../../src/operations/make-empty.js';
import { runToEnd } from '../../src/util/steps.js';
import { expectSameBytes } from '../support/model-disk.js';
import { withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCreate, qemuImg, qemuInfo, qemuIo } from './qemu.js';

const SIZE = 0x40_0000;
const WRITES = [
  'write -P 1 0 3M',
  'write -P 2 3M 512',
  'write -z 1M 128k',
  'discard 2M 128k',
  'write -c -P 3 3584k 64k',
];

describe('an emptied image', () => {
  for (const options of [
    { cluster_size: 65536 },
    { cluster_size: 65536, lazy_refcounts: 'on' },
    { cluster_size: 512 },
    { cluster_size: 512, refcount_bits: 64 },
    { cluster_size: 4096, refcount_bits: 1 },
    { cluster_size: 4096, compat: '0.10' },
    { cluster_size: 65536, extended_l2: 'on' },
  ]) {
    it(`shows its backing file and is as small as a new one (${JSON.stringify(options)})`, async () => {
      await inTemporaryDirectory(async (path) => {
        const file = path('image.qcow2');
        qemuCreate(path('base'), { size: SIZE });
        qemuIo(path('base'), [`write -P 7 100k 1M`]);
        const base = qemuBytes(path('base'));
        qemuCreate(file, { size: SIZE, options, backing: { name: path('base'), format: 'qcow2' } });
        const { size } = statSync(file);
        qemuIo(file, options.compat === '0.10' ? WRITES.filter((write) => !write.includes('-z')) : WRITES);
        await withOurs(file, (image) => {
          runToEnd(makeEmpty(image));
          image.write(0x10_0000, new Uint8Array(1000).fill(9));
        });
        expectCleanCheck(file);
        base.fill(9, 0x10_0000, 0x10_0000 + 1000);
        expectSameBytes(qemuBytes(file), base, 'the disk');
        await withOurs(file, (image) => runToEnd(makeEmpty(image)));
        expectCleanCheck(file, 'emptied again');
        // The refcount table of the slow way stays where it has grown to.
        expect(statSync(file).size).toBeLessThan(size + 0x4_0000);
        expect(qemuInfo(file)).toMatchObject({ 'dirty-flag': false, 'backing-filename': path('base') });
      });
    });
  }

  it('keeps its snapshots', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: SIZE });
      qemuIo(file, WRITES);
      qemuImg('snapshot', '-c', 'one', file);
      const before = qemuBytes(file);
      await withOurs(file, (image) => runToEnd(makeEmpty(image)));
      expectCleanCheck(file);
      expectSameBytes(qemuBytes(file), new Uint8Array(SIZE), 'the disk');
      expectSameBytes(qemuBytes(file, { snapshot: 'one' }), before, 'the snapshot');
    });
  });

  it('empties its data file, which reads as zeroes if it is raw', async () => {
    await inTemporaryDirectory(async (path) => {
      for (const raw of ['on', 'off']) {
        const file = path('image.qcow2');
        qemuCreate(file, { size: SIZE, options: { data_file: path('data'), data_file_raw: raw } });
        qemuIo(file, ['write -P 1 0 4M']);
        await withOurs(file, (image) => runToEnd(makeEmpty(image)));
        expectCleanCheck(file);
        expectSameBytes(qemuBytes(file), new Uint8Array(SIZE), 'the disk');
        expectSameBytes(qemuBytes(path('data'), { format: 'raw' }), new Uint8Array(SIZE), 'the data file');
      }
    });
  });
});
