/**
 * Block status through a backing chain: which node answers for a run of bytes, and how. QEMU's `bdrv_block_status_above`.
 */
import type { BlockNode, ChainStatus } from './block-node.js';

/**
 * The first run at `offset`, at most `length` bytes. `base`, where it is given, is not looked at: what the nodes above it do not
 * answer for is not allocated. What a backing file is too short for counts as zeroes that it holds.
 */
export function chainStatus(
  top: BlockNode,
  range: { readonly offset: number; readonly length: number },
  base: BlockNode | null = null,
): ChainStatus {
  const { offset } = range;
  let answer: ChainStatus = { ...top.status(offset, range.length), depth: 0, node: top };
  for (let depth = 1; !answer.allocated; depth++) {
    const below = answer.node.backing;
    if (below === null || below === base) return answer;
    const { length } = answer;
    if (offset >= below.size) {
      const zeroes = { length, allocated: true, data: false, zero: true, host: null, compressed: false };
      return { ...zeroes, depth, node: below };
    }
    answer = { ...below.status(offset, Math.min(length, below.size - offset)), depth, node: below };
  }
  return answer;
}
