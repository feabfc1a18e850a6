/** The recorded backing file, changed by us and by `qemu-img rebase -u`. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { changeBackingFile, type NewBackingFile } from '../../src/operations/change-backing.js';
import { expectSameBytes } from '../support/model-disk.js';
import { withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCreate, qemuImg, qemuInfo, qemuIo } from './qemu.js';

const SIZE = 0x10_0000;

async function change(file: string, backing: NewBackingFile | null): Promise<void> {
  await withOurs(file, (image) => changeBackingFile(image, backing), { backing: null });
}

describe('the backing file', () => {
  for (const options of [
    { compat: '1.1', cluster_size: 65536 },
    { compat: '1.1', cluster_size: 512 },
    { compat: '0.10', cluster_size: 4096 },
  ]) {
    it(`is set, changed and removed, and the header is what qemu-img makes of it (${JSON.stringify(options)})`, async () => {
      await inTemporaryDirectory(async (path) => {
        const [ours, theirs] = [path('ours.qcow2'), path('their.qcow2')];
        for (const file of [ours, theirs]) {
          qemuCreate(file, { size: SIZE, options });
          qemuIo(file, ['write -P 1 0 64k']);
        }
        const steps: readonly (NewBackingFile | null)[] = [
          { name: 'base', format: 'raw' },
          { name: `a/longer/name/${'x'.repeat(200)}`, format: 'qcow2' },
          { name: 'b', format: 'raw' },
          null,
          { name: 'base', format: 'raw' },
        ];
        for (const backing of steps) {
          await change(ours, backing);
          const named = backing === null ? ['-b', ''] : ['-b', backing.name, '-F', backing.format];
          qemuImg('rebase', '-u', '-f', 'qcow2', ...named, theirs);
          const headers = [ours, theirs].map((file) => readFileSync(file).subarray(0, options.cluster_size));
          expectSameBytes(headers[0]!, headers[1]!, `the first cluster with ${JSON.stringify(backing)}`);
        }
      });
    });
  }

  it('then is what is read where the image holds nothing', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(path('base'), { size: SIZE });
      qemuIo(path('base'), ['write -P 7 0 1M']);
      qemuCreate(file, { size: SIZE });
      qemuIo(file, ['write -P 1 0 64k']);
      await change(file, { name: path('base'), format: 'qcow2' });
      expectSameBytes(qemuBytes(file), new Uint8Array(SIZE).fill(7).fill(1, 0, 65536), 'the disk');
      expectCleanCheck(file);
      await change(file, null);
      expect(qemuInfo(file)).not.toHaveProperty('backing-filename');
      expectSameBytes(qemuBytes(file), new Uint8Array(SIZE).fill(1, 0, 65536), 'the disk alone');
    });
  });

  it('is refused where qemu-img refuses it, and nothing changes', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: SIZE, options: { cluster_size: 512 } });
      const before = readFileSync(file);
      const cases: readonly (readonly [string, string])[] = [
        ['x'.repeat(1024), 'LIMIT'],
        ['x'.repeat(500), 'LIMIT'],
        ['', 'BAD_ARGUMENT'],
      ];
      for (const [name, code] of cases) {
        await expect(change(file, { name, format: 'raw' })).rejects.toMatchObject({ code });
      }
      expectSameBytes(readFileSync(file), before, 'the file');
      qemuCreate(file, { size: SIZE, options: { data_file: path('data'), data_file_raw: 'on' } });
      const refused = change(file, { name: 'base', format: 'raw' });
      await expect(refused).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    });
  });
});
