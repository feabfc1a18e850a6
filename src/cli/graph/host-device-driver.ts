/**
 * `host_device` and `host_cdrom`: devices of the host. Node does not tell how large a block device is, so these are refused; a
 * character device (`/dev/null`) has no size at all.
 */
import { statSync } from 'node:fs';
import { NodeFileStorage } from '../../storage/node-file.js';
import { errorWords } from '../text/errno.js';
import { CliError } from '../text/messages.js';
import type { Driver } from './driver.js';
import { StorageNode } from './storage-node.js';

function deviceDriver(name: string): Driver {
  return {
    name,
    kind: 'protocol',
    prefix: name,
    readFileName(options) {
      const fileName = options.takeText('filename') ?? '';
      options.set('filename', fileName.slice(fileName.startsWith(`${name}:`) ? name.length + 1 : 0));
    },
    async open({ options, flags, nodeName }) {
      const path = options.takeText('filename');
      if (path === undefined) throw new CliError(`The '${name}' block driver requires a file name`);
      const stats = statOf(path);
      if (stats.isDirectory() && flags.readOnly !== true)
        throw new CliError(`Could not open '${path}': Is a directory`);
      options.take('locking');
      if (stats.isBlockDevice()) {
        throw new CliError(`Block devices of the host are not supported: '${path}'`, { errno: 'ENOTSUP' });
      }
      if (!stats.isCharacterDevice()) {
        throw new CliError(`'${name}' driver requires '${path}' to be either a character or block device`);
      }
      const readOnly = flags.readOnly ?? false;
      const storage = NodeFileStorage.open(path, { readOnly });
      return new StorageNode({ driver: name, nodeName, fileName: path, storage, file: null, readOnly });
    },
  };
}

function statOf(path: string) {
  try {
    return statSync(path);
  } catch (cause) {
    const { errno, words } = errorWords(cause);
    throw new CliError(`Could not open '${path}': ${words}`, { errno, cause });
  }
}

export const hostDeviceDrivers: readonly Driver[] = [deviceDriver('host_device'), deviceDriver('host_cdrom')];
