/**
 * Puts the pieces of the guest's disk into a qcow2 file, with the project's own engine. Clusters are compressed, for the file is what
 * a visitor downloads; those of zeroes are left unallocated.
 */
import { closeSync, openSync, readSync, renameSync, rmSync } from 'node:fs';
import { createImage, NodeFileStorage, openImage } from '../../dist/node.js';

const CLUSTER_BYTES = 65536;

/**
 * @param {string} path replaced by a rename once the new image is whole
 * @param {number} sizeBytes of the guest's disk
 * @param {readonly import('./partitions.mjs').DiskPiece[]} pieces
 */
export function writeQcow2(path, sizeBytes, pieces) {
  const unfinished = `${path}.unfinished`;
  rmSync(unfinished, { force: true });
  const storage = NodeFileStorage.open(unfinished, { create: true });
  createImage(storage, { size: sizeBytes, clusterSize: CLUSTER_BYTES });
  const image = openImage(storage);
  try {
    for (const piece of pieces) writePiece(image, piece);
    image.flush();
  } finally {
    image.close();
  }
  renameSync(unfinished, path);
}

/**
 * @param {import('../../src/image/qcow2-image.js').Qcow2Image} image
 * @param {import('./partitions.mjs').DiskPiece} piece begins where a cluster does; what it leaves of its last one is zero
 */
function writePiece(image, { offsetBytes, path }) {
  const file = openSync(path, 'r');
  const cluster = Buffer.alloc(CLUSTER_BYTES);
  try {
    for (let position = 0; ;) {
      const length = readSync(file, cluster, 0, CLUSTER_BYTES, position);
      if (length === 0) return;
      cluster.fill(0, length);
      if (cluster.some((byte) => byte !== 0)) image.writeCompressed(offsetBytes + position, cluster);
      position += length;
    }
  } finally {
    closeSync(file);
  }
}
