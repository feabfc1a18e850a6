/** The demo's guest on a fresh overlay, as the demo has it, but in memory. */
import { readFileSync } from 'node:fs';
import { createImage, MemoryStorage, openImage, ReadOnlyStorage, type Disk } from '../../src/index.js';

/** @param path the guest's image, which is only read. */
export function guestDisk(path: string): Disk {
  const bytes = new Uint8Array(readFileSync(path));
  const base = openImage(new ReadOnlyStorage(new MemoryStorage(bytes)), { readOnly: true });
  const overlay = new MemoryStorage();
  createImage(overlay, { size: base.size, backing: { name: 'linux.qcow2', format: 'qcow2' } });
  return openImage(overlay, { backing: base });
}
