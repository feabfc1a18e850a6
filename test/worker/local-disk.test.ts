import { describe, expect, it } from 'vitest';
import { createImage, listSnapshots, MemoryStorage, openImage } from '../../src/index.js';
import { takeMoment } from '../../src/operations/snapshots/export-moment.js';
import { openLocalDiskFile } from '../../src/worker/local-disk.js';
import { MemoryFolder } from './memory-files.js';

/** A disk whose page ended in the middle of an export. */
function interruptedDisk(): MemoryFolder {
  const storage = new MemoryStorage();
  createImage(storage, { size: 1 << 20 });
  const image = openImage(storage);
  image.write(0, new Uint8Array(65_536).fill(1));
  takeMoment(image);
  image.write(0, new Uint8Array(65_536).fill(7));
  image.close();
  const folder = new MemoryFolder();
  folder.files.set('disk.qcow2', storage.toBytes());
  return folder;
}

describe('a disk opened in the thread that uses it', () => {
  it('is rid of what an export of its last session has left, if it may be written', async () => {
    const folder = interruptedDisk();
    const reader = await openLocalDiskFile(folder, { name: 'disk.qcow2', readOnly: true, backing: [] });
    expect(listSnapshots(reader.image)).toHaveLength(1);
    reader.close();
    const disk = await openLocalDiskFile(folder, { name: 'disk.qcow2', readOnly: false, backing: [] });
    expect(listSnapshots(disk.image)).toEqual([]);
    const bytes = new Uint8Array(512);
    disk.image.read(0, bytes);
    expect(bytes).toEqual(new Uint8Array(512).fill(7));
    disk.close();
    expect(folder.claims.size).toBe(0);
  });
});
