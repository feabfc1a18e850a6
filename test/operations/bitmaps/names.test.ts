/** Names of bitmaps are bytes: those that read alike, or nearly so, are kept apart, and nothing is guessed. */
import { describe, expect, it } from 'vitest';
import {
  addBitmap,
  bitmapUsage,
  clearBitmap,
  dirtyBytes,
  disableBitmap,
  exportIncremental,
  listBitmaps,
  MemoryStorage,
  mergeBitmap,
  openImage,
  removeBitmap,
} from '../../../src/index.js';
import { rawBitmaps } from '../../support/raw-bitmaps.js';
import { changed, code, imageBytes } from './bitmap-files.js';

describe('names', () => {
  it('that differ by a byte order mark are two names, also when the image is opened anew', () => {
    const storage = new MemoryStorage(imageBytes([{ name: 'a' }, { name: '\ufeffa', enabled: false }]));
    const image = openImage(storage);
    image.write(0, Uint8Array.of(1));
    expect(bitmapUsage(image).map(({ name, dirtyBytes: bytes }) => [name, bytes])).toEqual([['a', 4096], ['\ufeffa', 0]]); // prettier-ignore
    removeBitmap(image, 'a');
    expect(listBitmaps(image).map(({ name }) => name)).toEqual(['\ufeffa']);
  });

  /** Two that read as U+FFFD, of which the first is enabled, and one more. */
  function alike(): Uint8Array<ArrayBuffer> {
    const bytes = imageBytes([{ name: 'x' }, { name: 'y', enabled: false }, { name: 'z' }]);
    return changed(bytes, (file, directory) => {
      file.bytes[directory + 24] = 0xff;
      file.bytes[directory + 32 + 24] = 0xfe;
    });
  }

  it('that are no UTF-8 and read alike are told apart, kept, and refused where one of them is to be meant', () => {
    const storage = new MemoryStorage(alike());
    const image = openImage(storage);
    image.write(0, Uint8Array.of(1));
    expect(bitmapUsage(image).map(({ name, dirtyBytes: bytes }) => [name, bytes])).toEqual([['\ufffd', 4096], ['\ufffd', 0], ['z', 4096]]); // prettier-ignore
    const calls: (() => unknown)[] = [
      () => removeBitmap(image, '\ufffd'),
      () => clearBitmap(image, '\ufffd'),
      () => disableBitmap(image, '\ufffd'),
      () => mergeBitmap(image, '\ufffd', { name: 'z' }),
      () => mergeBitmap(image, 'z', { name: '\ufffd' }),
      () => dirtyBytes(image, '\ufffd'),
      () => exportIncremental(image, '\ufffd', new MemoryStorage()),
      () => addBitmap(image, { name: '\ufffd' }),
    ];
    expect(calls.map(code)).toEqual(calls.map(() => 'BAD_ARGUMENT'));
    clearBitmap(image, 'z');
    image.close();
    const stored = openImage(storage, { readOnly: true });
    const names = stored.tables.bitmaps.list(stored.tables).map(({ entry }) => [...entry.nameBytes]);
    expect(names).toEqual([[0xff], [0xfe], [0x7a]]);
    expect(rawBitmaps(storage.toBytes()).map(({ marked }) => marked.size)).toEqual([1, 0, 0]);
  });

  it('that are no UTF-8 can be used as they read, while no other reads so', () => {
    const bytes = changed(imageBytes([{ name: 'x' }]), (file, directory) => (file.bytes[directory + 24] = 0xff));
    const image = openImage(new MemoryStorage(bytes));
    image.write(0, Uint8Array.of(1));
    expect(dirtyBytes(image, '\ufffd')).toBe(4096);
    removeBitmap(image, '\ufffd');
    expect(listBitmaps(image)).toEqual([]);
  });
});
