import { expect, test } from 'vitest';
import { AUTOCLEAR_BITMAPS } from '../../src/format/features.js';
import type { Header } from '../../src/format/header.js';
import { EXTENSION_BITMAPS } from '../../src/format/header-extensions.js';
import { bitmapEntryBytes, listBitmaps } from '../../src/operations/list-bitmaps.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { viewOf } from '../../src/util/big-endian.js';

const DIRECTORY = 65536;

/** An image as far as the list looks at it. */
function imageWith(entries: readonly { name: string; flags: number; bits: number }[], count = entries.length) {
  const storage = new MemoryStorage();
  let at = DIRECTORY;
  for (const { name, flags, bits } of entries) {
    const entry = new Uint8Array(bitmapEntryBytes(name));
    const view = viewOf(entry);
    view.setUint32(12, flags);
    view.setUint8(17, bits);
    view.setUint16(18, name.length);
    entry.set(new TextEncoder().encode(name), 24);
    storage.write(at, entry);
    at += entry.length;
  }
  const data = new Uint8Array(24);
  viewOf(data).setUint32(0, count);
  viewOf(data).setBigUint64(8, BigInt(at - DIRECTORY));
  viewOf(data).setBigUint64(16, BigInt(DIRECTORY));
  const header = { autoclear: AUTOCLEAR_BITMAPS, extensions: [{ type: EXTENSION_BITMAPS, data }] };
  return { header: header as unknown as Header, storage };
}

test('bitmaps are listed in their order, with what their flags say', () => {
  const image = imageWith([
    { name: 'nightly', flags: 2, bits: 16 },
    { name: 'b', flags: 1, bits: 9 },
  ]);
  expect(listBitmaps(image)).toEqual([
    { name: 'nightly', granularity: 65536, inUse: false, auto: true },
    { name: 'b', granularity: 512, inUse: true, auto: false },
  ]);
});

test('nothing is listed that the autoclear bit does not vouch for', () => {
  const image = imageWith([{ name: 'b', flags: 0, bits: 16 }]);
  expect(listBitmaps({ ...image, header: { ...image.header, autoclear: 0n } })).toEqual([]);
});

test('a directory that does not hold what the header says is refused', () => {
  expect(() => listBitmaps(imageWith([{ name: 'b', flags: 0, bits: 16 }], 2))).toThrow('can\'t be listed'); // prettier-ignore
  expect(() => listBitmaps(imageWith([{ name: 'b', flags: 0, bits: 63 }]))).toThrow("can't be listed");
});
