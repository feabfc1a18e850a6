/** Finding an image in the backing chain of another by what the user calls it. */
import { realpathSync } from 'node:fs';
import type { BlockNode } from '../graph/block-node.js';
import { combinePath, fullBackingName, hasProtocol } from '../text/file-name.js';

/** The node that `name` means; relative names are taken from the folder of each image above. Null if it is not in the chain. */
export function findBackingNode(top: BlockNode, name: string): BlockNode | null {
  for (let node = top; node.backing !== null; node = node.backing) {
    const recorded = node.image?.header.backingFile?.name;
    const above = fileNameOf(node);
    // Where options have put another one in its place, that has no name but its own.
    const isRecorded = recorded !== undefined && fileNameOf(node.backing) === fullNameOf(above, recorded);
    if (isRecorded ? isMeant(above, recorded, name) : node.backing.fileName === name) return node.backing;
  }
  return null;
}

function fullNameOf(above: string, recorded: string): string {
  return hasProtocol(above) ? recorded : (fullBackingName(above, recorded) ?? recorded);
}

/** Of the file that an image lies in: relative names in it begin there. */
export function fileNameOf(node: BlockNode): string {
  let lowest = node;
  while (lowest.file !== null) lowest = lowest.file;
  return lowest.fileName;
}

function isMeant(above: string, recorded: string, name: string): boolean {
  const full = fullNameOf(above, recorded);
  if (hasProtocol(name) || hasProtocol(recorded)) return name === recorded || name === full;
  const [wanted, found] = [realPath(combinePath(above, name)), realPath(full)];
  return wanted !== null && wanted === found;
}

function realPath(path: string): string | null {
  try {
    return realpathSync(path);
  } catch {
    return null;
  }
}
