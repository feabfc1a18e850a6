/** Which export a confirmation speaks for: only what has left the image whole is forgotten, whatever else goes on. */
import { describe, expect, it } from 'vitest';
import {
  addBitmap,
  clearBitmap,
  confirmIncrement,
  createImage,
  dirtyBytes,
  exportIncremental,
  MemoryStorage,
  openImage,
  Qcow2Error,
  removeBitmap,
  runToEnd,
  type Qcow2Image,
} from '../../../src/index.js';
import { FailingStorage } from '../../storage/failing.js';

function newImage(): { storage: MemoryStorage; image: Qcow2Image } {
  const storage = new MemoryStorage();
  createImage(storage, { size: 2 ** 20, clusterSize: 4096 });
  return { storage, image: openImage(storage) };
}

describe('an increment', () => {
  it('is confirmed by its own token alone: a late word on one before forgets nothing', () => {
    const { image } = newImage();
    addBitmap(image, { name: 'backup' });
    image.write(0, new Uint8Array(100));
    const first = runToEnd(exportIncremental(image, 'backup', new MemoryStorage()));
    image.write(50_000, new Uint8Array(100));
    const steps = exportIncremental(image, 'backup', new MemoryStorage());
    expect(() => confirmIncrement(image, 'backup', first)).toThrow(/the token is not that of the last export/);
    const second = runToEnd(steps);
    expect(() => confirmIncrement(image, 'backup', first)).toThrow(/the token is not that of the last export/);
    expect(dirtyBytes(image, 'backup')).toBe(2 * 4096);
    confirmIncrement(image, 'backup', second);
    expect(dirtyBytes(image, 'backup')).toBe(0);
    expect(() => confirmIncrement(image, 'backup', second)).toThrow(/it was confirmed/);
  });

  it('is not confirmed before its file is whole', () => {
    const { image } = newImage();
    addBitmap(image, { name: 'backup' });
    image.write(0, new Uint8Array(100));
    const target = new FailingStorage();
    const steps = exportIncremental(image, 'backup', target);
    const { token } = image.tables.bitmaps.list(image.tables)[0]!.pending!;
    expect(() => confirmIncrement(image, 'backup', token)).toThrow(/has not ended/);
    steps.next();
    expect(() => confirmIncrement(image, 'backup', token)).toThrow(/has not ended/);
    target.failOn('flush', new Qcow2Error('IO', 'gone'));
    expect(() => runToEnd(steps)).toThrow('gone');
    expect(() => confirmIncrement(image, 'backup', token)).toThrow(/no increment/);
    expect(dirtyBytes(image, 'backup')).toBe(4096);
  });

  it('is the only one of its bitmap that is made at a time, and a second one touches neither it nor its own target', () => {
    const { image } = newImage();
    addBitmap(image, { name: 'backup' });
    addBitmap(image, { name: 'other' });
    image.write(0, new Uint8Array(100));
    const steps = exportIncremental(image, 'backup', new MemoryStorage());
    const target = new MemoryStorage(new Uint8Array(10));
    expect(() => exportIncremental(image, 'backup', target)).toThrow(/is being exported/);
    expect(target.size).toBe(10);
    const others = exportIncremental(image, 'other', new MemoryStorage());
    const token = runToEnd(steps);
    expect(() => confirmIncrement(image, 'other', token)).toThrow(/the token is not that/);
    confirmIncrement(image, 'backup', token);
    confirmIncrement(image, 'other', runToEnd(others));
    expect([dirtyBytes(image, 'backup'), dirtyBytes(image, 'other')]).toEqual([0, 0]);
  });

  it('takes the marks of its own bitmap alone, though the name of another differs by a byte order mark only', () => {
    const { image, storage } = newImage();
    addBitmap(image, { name: 'backup' });
    addBitmap(image, { name: '\ufeffbackup' });
    image.write(0, new Uint8Array(100));
    image.close();
    const again = openImage(storage);
    confirmIncrement(again, 'backup', runToEnd(exportIncremental(again, 'backup', new MemoryStorage())));
    expect([dirtyBytes(again, 'backup'), dirtyBytes(again, '\ufeffbackup')]).toEqual([0, 4096]);
  });

  it('of a bitmap that was cleared meanwhile, or removed and added anew, is not taken for one of what came after', () => {
    const { image } = newImage();
    addBitmap(image, { name: 'backup' });
    image.write(0, new Uint8Array(100));
    const old = exportIncremental(image, 'backup', new MemoryStorage());
    removeBitmap(image, 'backup');
    addBitmap(image, { name: 'backup' });
    image.write(50_000, new Uint8Array(100));
    const next = exportIncremental(image, 'backup', new MemoryStorage());
    const late = runToEnd(old);
    expect(() => confirmIncrement(image, 'backup', late)).toThrow(/the token is not that/);
    next.return?.();
    clearBitmap(image, 'backup');
    expect(() => confirmIncrement(image, 'backup', runToEnd(next))).toThrow(/no increment/);
    expect(dirtyBytes(image, 'backup')).toBe(0);
  });
});
