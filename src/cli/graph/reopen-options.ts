/**
 * Options at a reopen that every node has: what may be given again but not changed, and what may be changed without effect here.
 */
import { CliError } from '../text/messages.js';
import type { BlockNode } from './block-node.js';
import type { OptionBag } from './option-bag.js';

const SWITCHES = ['cache.direct', 'cache.no-flush', 'auto-read-only', 'read-only', 'force-share'];

/** Takes them out of the bag. Throws `CliError` in QEMU's words for what would have to change. */
export function checkUnchanged(node: BlockNode, bag: OptionBag): void {
  for (const name of SWITCHES) bag.takeBool(name);
  checkSame(bag, 'driver', node.driver);
  checkSame(bag, 'node-name', node.nodeName);
  bag.takeText('detect-zeroes');
  bag.takeText('discard');
  for (const [name, child] of [
    ['file', node.file],
    ['backing', node.backing],
  ] as const) {
    if (child !== null) checkBelow(child, bag.takeUnder(`${name}.`));
  }
}

function checkBelow(node: BlockNode, bag: OptionBag): void {
  checkUnchanged(node, bag);
  checkSame(bag, 'filename', node.fileName);
  const { firstLeft } = bag;
  if (firstLeft !== null) throw new CliError(`Cannot change the option '${firstLeft}'`);
}

function checkSame(bag: OptionBag, name: string, value: string): void {
  const given = bag.takeText(name);
  if (given !== undefined && given !== value) throw new CliError(`Cannot change the option '${name}'`);
}
