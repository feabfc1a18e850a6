/**
 * `-s`: an overlay in memory over a node that is only read, so that changes are lost at the end. QEMU puts its overlay into a
 * temporary file.
 */
import { createImage } from '../../image/create.js';
import { openImage } from '../../image/open.js';
import { MemoryStorage } from '../../storage/memory.js';
import type { BlockNode, NodeReference, OpenFlags } from './block-node.js';
import { CorruptionNotes } from './corruption-notes.js';
import { openNode } from './open-node.js';
import { Qcow2Node } from './qcow2-node.js';
import { StorageNode } from './storage-node.js';

export async function openSnapshotNode(reference: NodeReference, flags: OpenFlags): Promise<BlockNode> {
  const backing = await openNode(reference, { ...flags, readOnly: true, copyOnRead: false });
  const storage = new MemoryStorage();
  createImage(storage, { size: backing.size });
  const { console, unmap = false, copyOnRead = false } = flags;
  const image = openImage(storage, { backing: backing.image ?? backing });
  const notes = new CorruptionNotes(console, image.header);
  const fileName = backing.fileName;
  const file = new StorageNode({ driver: 'file', nodeName: '', fileName, storage, file: null, readOnly: false });
  const options = new Map<string, string>();
  return new Qcow2Node({
    nodeName: '',
    fileName,
    file,
    dataFile: null,
    backing,
    image,
    console,
    notes,
    detectZeroes: 'off',
    unmap,
    copyOnRead,
    options,
  });
}
