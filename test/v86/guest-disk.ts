/** The demo's guest on a fresh overlay, as the demo has it, but in memory. */
import { existsSync, readFileSync } from 'node:fs';
import {
  createImage,
  MemoryStorage,
  openImage,
  ReadOnlyStorage,
  type Disk,
  type Qcow2Image,
  type Storage,
} from '../../src/index.js';

/** @param path the guest's image, which is only read. */
export function guestDisk(path: string): Disk {
  return openGuestOverlay(path, newGuestOverlay(path));
}

/** An overlay over the guest's image, empty. */
export function newGuestOverlay(path: string, clusterSize = 65536): MemoryStorage {
  const overlay = new MemoryStorage();
  const backing = { name: 'linux.qcow2', format: 'qcow2' } as const;
  createImage(overlay, { size: openGuest(path).size, clusterSize, backing });
  return overlay;
}

export function openGuestOverlay(path: string, overlay: Storage): Qcow2Image {
  return openImage(overlay, { backing: openGuest(path) });
}

function openGuest(path: string): Qcow2Image {
  if (!existsSync(path)) throw new Error(`${path} is missing: make it with "npm run guest"`);
  const bytes = new Uint8Array(readFileSync(path));
  return openImage(new ReadOnlyStorage(new MemoryStorage(bytes)), { readOnly: true });
}
