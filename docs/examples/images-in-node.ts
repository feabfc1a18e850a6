/** Images in Node: makes one, writes to it, takes a snapshot, and says what is in it. `qemu-img` reads it. */
import { createImage, createSnapshot, imageInfo, openImage } from 'qcow2-wasm';
import { NodeFileStorage } from 'qcow2-wasm/node';

export function makeImage(path: string): void {
  const file = NodeFileStorage.open(path, { create: true });
  createImage(file, { size: 64 * 2 ** 20, clusterSize: 65536, compressionType: 'zstd' });
  const image = openImage(file);
  image.write(2 ** 20, new TextEncoder().encode('hello'));
  image.writeCompressed(2 * 2 ** 20, new Uint8Array(65536).fill(7));
  createSnapshot(image, { name: 'first' });
  image.writeZeroes(2 ** 20, 65536);
  image.close();
}

export function describeImage(path: string): void {
  const file = NodeFileStorage.open(path, { readOnly: true });
  const image = openImage(file, { readOnly: true });
  console.log(imageInfo(image));
  image.close();
}
