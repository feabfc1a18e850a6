/**
 * A node as a storage of the engine: for an image in an image, or in a window of another. Past its end there are zeroes; it grows
 * when something is written there.
 */
import type { Storage } from '../../storage/storage.js';
import { alignUp } from '../../util/integers.js';
import type { BlockNode } from './block-node.js';

const SECTOR = 512;

export function nodeStorage(node: BlockNode): Storage {
  return {
    get size() {
      return node.size;
    },
    get readOnly() {
      return node.readOnly;
    },
    read(offset, target) {
      const inside = Math.max(0, Math.min(target.length, node.size - offset));
      if (inside > 0) node.read(offset, target.subarray(0, inside));
      target.fill(0, inside);
    },
    write(offset, source) {
      const end = offset + source.length;
      if (end > node.size) node.resize(alignUp(end, SECTOR));
      node.write(offset, source);
    },
    truncate: (size) => node.resize(alignUp(size, SECTOR)),
    flush: () => node.flush(),
    punchHole: (offset, length) => node.discard(offset, Math.min(length, Math.max(0, node.size - offset))),
    close: () => node.close(),
  };
}
