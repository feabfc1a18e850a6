import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { newFolder, newImage, open } from './images.js';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

/** Puts bytes into the header of a new image. */
function damaged(...pokes: readonly (readonly [offset: number, bytes: string])[]): string {
  const path = newImage(newFolder(), 'a.qcow2', { size: 64 * 2 ** 20 });
  const bytes = readFileSync(path);
  for (const [offset, text] of pokes) hex(text).copy(bytes, offset);
  writeFileSync(path, bytes);
  return path;
}

describe('an image that QEMU would not open is refused in its words', () => {
  it.each([
    ['Image is not in qcow2 format', [[0, '00']]],
    ['Unsupported qcow2 version 9', [[4, '00000009']]],
    ['Unsupported cluster size: 2^40', [[20, '00000028']]],
    ['qcow2 header too short', [[100, '00000050']]],
    ['qcow2 header exceeds cluster size', [[100, 'ffffffff']]],
    ['Invalid backing file offset', [[8, 'ffffffffffffffff']]],
    ['Backing file name too long', [[8, '0000000000001000 ffffffff']]],
    [
      'qcow2: unknown compression type: 7',
      [
        [72, '0000000000000008'],
        [104, '07'],
      ],
    ],
    ['qcow2: Compression type incompatible feature bit must not be set', [[72, '0000000000000008']]],
    ['Unsupported qcow2 feature(s): Unknown incompatible feature: 8000000000000000', [[72, '8000000000000000']]],
    ['Reference count entry width too large; may not exceed 64 bits', [[96, '00000007']]],
    ['Image does not contain a reference count table', [[56, '00000000']]],
    ['Reference count table too large', [[56, 'ffffffff']]],
    ['Reference count table offset invalid', [[48, '1234567890abcdef']]],
    ['Snapshot table too large', [[60, 'ffffffff']]],
    ['Snapshot table offset invalid', [[64, '1234567890abcdef']]],
    ['Active L1 table too large', [[36, '7fffffff']]],
    ['Active L1 table offset invalid', [[40, '1234567890abcdef']]],
    ['L1 table is too small', [[36, '00000000']]],
    ['qcow2: Image is corrupt; cannot be opened read/write', [[72, '0000000000000002']]],
  ] as const)('%s', async (message, pokes) => {
    await expect(open(damaged(...pokes), { driver: 'qcow2' })).rejects.toThrow(message);
  });

  it('but one marked corrupt may be read', async () => {
    const node = await open(damaged([72, '0000000000000002']), {}, { readOnly: true });
    expect(node.size).toBe(64 * 2 ** 20);
    node.close();
  });
});

describe("runtime options of an image are refused in QEMU's words", () => {
  it.each([
    [{ 'lazy-refcounts': '42' }, "Parameter 'lazy-refcounts' expects 'on' or 'off'"],
    [
      { 'cache-size': '1M', 'l2-cache-size': '64k', 'refcount-cache-size': '64k' },
      'cache-size, l2-cache-size and refcount-cache-size may not be set at the same time',
    ],
    [{ 'cache-size': '1M', 'l2-cache-size': '2M' }, 'l2-cache-size may not exceed cache-size'],
    [{ 'cache-size': '1M', 'refcount-cache-size': '2M' }, 'refcount-cache-size may not exceed cache-size'],
    [
      { 'l2-cache-entry-size': '33k' },
      'L2 cache entry size must be a power of two between 512 and the cluster size (65536)',
    ],
    [{ 'refcount-cache-size': '256T' }, 'Refcount cache size too big'],
    [
      { 'overlap-check': 'constant', 'overlap-check.template': 'all' },
      "Conflicting values for qcow2 options 'overlap-check' ('constant') and 'overlap-check.template' ('all')",
    ],
    [{ 'cache-clean-interval': '-1' }, 'Cache clean interval too big'],
  ])('%j', async (options, message) => {
    const path = newImage(newFolder(), 'a.qcow2', { size: 64 * 2 ** 20 });
    await expect(open(path, options)).rejects.toThrow(message);
  });

  it('lazy refcounts need version 3', async () => {
    const path = newImage(newFolder(), 'a.qcow2', { size: 2 ** 20, version: 2 });
    await expect(open(path, { 'lazy-refcounts': 'on' })).rejects.toThrow('Lazy refcounts require a qcow2 image');
  });
});
