/** The content of a node, with accesses that fail by rules. */
import type { BlkdebugRules } from './blkdebug-rules.js';
import type { BlockNode } from './block-node.js';
import type { HostStorage } from './storage-node.js';

export function blkdebugStorage(node: BlockNode, rules: BlkdebugRules): HostStorage {
  const inner: HostStorage = node.storage;
  return {
    get size() {
      return inner.size;
    },
    get readOnly() {
      return inner.readOnly;
    },
    get allocatedBytes() {
      return node.allocatedBytes;
    },
    read(offset, target) {
      rules.check('read', offset, target.length);
      inner.read(offset, target);
    },
    write(offset, source) {
      rules.check('write', offset, source.length);
      inner.write(offset, source);
    },
    runAt(offset, length) {
      rules.check('block-status', offset, length);
      return node.status(offset, length);
    },
    writeZeroes(offset, length) {
      rules.check('write-zeroes', offset, length);
      node.writeZeroes(offset, length);
    },
    truncate: (size) => inner.truncate(size),
    flush() {
      rules.check('flush', 0, 0);
      inner.flush();
    },
    punchHole(offset, length) {
      rules.check('discard', offset, length);
      inner.punchHole?.(offset, length);
    },
    announce: (purpose) => rules.event(purpose),
    reopen: (readOnly) => node.reopen({ readOnly, options: new Map() }),
    close: () => node.close(),
  };
}
