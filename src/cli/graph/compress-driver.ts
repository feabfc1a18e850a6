/**
 * `compress`: another node whose writes are compressed. Clusters that a write covers in part are read first and written whole.
 */
import { alignDown, alignUp } from '../../util/integers.js';
import type { BlockNode } from './block-node.js';
import type { Driver } from './driver.js';
import { CliError } from '../text/messages.js';
import { StorageNode, type HostStorage } from './storage-node.js';

export const compressDriver: Driver = {
  name: 'compress',
  kind: 'format',
  async open({ flags, file, nodeName }) {
    const node = file!;
    if (node.image === null) throw new CliError(`Compression is not supported under '${node.fileName}'`);
    const storage = compressedStorage(node, node.image.clusterSize);
    return new StorageNode({
      driver: 'compress',
      nodeName,
      fileName: node.fileName,
      storage,
      file: node,
      readOnly: flags.readOnly ?? false,
    });
  },
};

function compressedStorage(node: BlockNode, clusterSize: number): HostStorage {
  return {
    get size() {
      return node.size;
    },
    get readOnly() {
      return node.readOnly;
    },
    read: (offset, target) => node.read(offset, target),
    write(offset, source) {
      const start = alignDown(offset, clusterSize);
      const end = Math.min(node.size, alignUp(offset + source.length, clusterSize));
      const whole = new Uint8Array(end - start);
      node.read(start, whole);
      whole.set(source, offset - start);
      node.writeCompressed(start, whole);
    },
    writeZeroes: (offset, length) => node.writeZeroes(offset, length),
    truncate: (size) => node.resize(size),
    flush: () => node.flush(),
    punchHole: (offset, length) => node.discard(offset, length),
    close: () => node.close(),
  };
}
