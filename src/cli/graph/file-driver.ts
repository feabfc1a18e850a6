/**
 * `file`: a regular file of the host.
 */
import { CliError } from '../text/messages.js';
import { withoutPrefix } from '../text/file-name.js';
import type { Driver } from './driver.js';
import { HostFile } from './host-file.js';
import { StorageNode } from './storage-node.js';

/** Of QEMU's, which choose how a host is asked: here there is one way. */
const WITHOUT_EFFECT = ['aio', 'aio-max-batch', 'locking', 'drop-cache', 'x-check-cache-dropped'];

export const fileDriver: Driver = {
  name: 'file',
  kind: 'protocol',
  prefix: 'file',
  readFileName(options) {
    options.set('filename', withoutPrefix(options.takeText('filename') ?? '', 'file:'));
  },
  async open({ options, flags, nodeName }) {
    const path = options.takeText('filename');
    if (path === undefined) throw new CliError("The 'file' block driver requires a file name");
    for (const name of WITHOUT_EFFECT) options.take(name);
    const { readOnly = false, cache, unmap = false } = flags;
    const storage = HostFile.open(path, { readOnly, noFlush: cache?.noFlush ?? false, punchHoles: unmap });
    return new StorageNode({ driver: 'file', nodeName, fileName: path, storage, file: null, readOnly, unmap });
  },
};
