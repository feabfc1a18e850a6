/** Images created by us: qemu-img reports what was asked for, finds them clean, and refuses what we refuse. */
import { statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createImage, isQcow2Error, MemoryStorage, type CreateOptions } from '../../src/index.js';
import { createOurs, withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuCreate, qemuInfo, qemuIo } from './qemu.js';

const CASES: readonly CreateOptions[] = [
  { size: 0 },
  { size: 512 },
  { size: 0x1000_0000 },
  { size: 0x1000_0200, version: 2 },
  { size: 0x100_0000, clusterSize: 512, refcountBits: 1 },
  { size: 0x100_0000, clusterSize: 1024, refcountBits: 64 },
  { size: 0x100_0000, clusterSize: 4096, version: 2 },
  { size: 0x100_0000, clusterSize: 0x20_0000, refcountBits: 32 },
  { size: 0x100_0000, lazyRefcounts: true },
  { size: 0x100_0000, lazyRefcounts: true, refcountBits: 2, clusterSize: 8192 },
  { size: 0x100_0000, refcountBits: 4 },
  { size: 0x100_0000, refcountBits: 8, clusterSize: 0x10_0000 },
];

interface FormatSpecific {
  readonly compat: string;
  readonly 'refcount-bits': number;
  readonly 'lazy-refcounts'?: boolean;
  readonly corrupt?: boolean;
  readonly 'compression-type': string;
}

function formatSpecific(info: Readonly<Record<string, unknown>>): FormatSpecific {
  return (info['format-specific'] as { readonly data: FormatSpecific }).data;
}

describe('an image created by us', () => {
  for (const options of CASES) {
    it(`is what qemu-img reports for ${JSON.stringify(options)}`, async () => {
      await inTemporaryDirectory((path) => {
        const file = path('image.qcow2');
        createOurs(file, options);
        const { size, clusterSize = 65536, version = 3, refcountBits = 16, lazyRefcounts = false } = options;

        const info = qemuInfo(file);

        expect(info).toMatchObject({ 'virtual-size': size, 'cluster-size': clusterSize, 'dirty-flag': false });
        expect(info).not.toHaveProperty('backing-filename');
        const data = formatSpecific(info);
        expect(data.compat).toBe(version === 2 ? '0.10' : '1.1');
        expect(data['refcount-bits']).toBe(refcountBits);
        expect(data['lazy-refcounts'] ?? false).toBe(lazyRefcounts);
        expect(data.corrupt ?? false).toBe(false);
        expect(data['compression-type']).toBe('zlib');
        expectCleanCheck(file);
      });
    });
  }

  for (const format of ['qcow2', 'raw'] as const) {
    for (const [version, clusterSize] of [
      [2, 65536],
      [3, 65536],
      [3, 512],
    ] as const) {
      it(`names its ${format} backing file (version ${version}, clusters of ${clusterSize} bytes)`, async () => {
        await inTemporaryDirectory((path) => {
          const file = path('image.qcow2');
          const name = path(`base.${format}`);
          createOurs(file, { size: 0x10_0000, version, clusterSize, backing: { name, format } });
          expect(qemuInfo(file)).toMatchObject({ 'backing-filename': name, 'backing-filename-format': format });
        });
      });
    }
  }

  it('replaces what was in the storage before', async () => {
    await inTemporaryDirectory((path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: 0x100_0000, options: { cluster_size: 4096 } });
      qemuIo(file, ['write -P 7 0 16M']);
      createOurs(file, { size: 0x10_0000 });
      expect(statSync(file).size).toBeLessThan(0x10_0000);
      expectCleanCheck(file);
    });
  });

  const NONSENSE: readonly [string, CreateOptions, RegExp][] = [
    ['a size that is no whole number', { size: 512.5 }, /size/],
    ['a negative size', { size: -512 }, /size/],
    ['a cluster size that is no power of two', { size: 512, clusterSize: 5000 }, /cluster.?size.*5000/i],
    ['a cluster size below 512', { size: 512, clusterSize: 256 }, /cluster.?size.*256/i],
    ['a cluster size above 2 MiB', { size: 512, clusterSize: 0x40_0000 }, /cluster.?size.*4194304/i],
    ['version 2 with refcounts of other than 16 bits', { size: 512, version: 2, refcountBits: 8 }, /8/],
    ['version 2 with lazy refcounts', { size: 512, version: 2, lazyRefcounts: true }, /lazy/i],
    ['a size past the L1 table', { size: 2 ** 38, clusterSize: 512 }, /size.*274877906944/],
    ['a backing name too long', { size: 512, backing: { name: 'x'.repeat(1024), format: 'raw' } }, /1024.*1023/],
  ];
  for (const [what, options, message] of NONSENSE) {
    it(`is refused with ${what}, and the storage stays as it was`, () => {
      const before = Uint8Array.of(1, 2, 3);
      const storage = new MemoryStorage(before.slice());
      let caught: unknown;
      try {
        createImage(storage, options);
      } catch (error) {
        caught = error;
      }
      expect(caught).toSatisfy((error: unknown) => isQcow2Error(error, 'BAD_ARGUMENT') || isQcow2Error(error, 'LIMIT'));
      expect(String(caught)).toMatch(message);
      expect(storage.toBytes()).toEqual(before);
    });
  }

  it('can be opened by us with what it was created with', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      createOurs(file, { size: 0x10_0000, clusterSize: 8192, refcountBits: 4, lazyRefcounts: true });
      await withOurs(file, ({ size, header }) => {
        expect(size).toBe(0x10_0000);
        expect(header).toMatchObject({ version: 3 });
      });
    });
  });
});
