/**
 * `null-co` and `null-aio`: a disk of nothing. What is written is gone; reads are zeroes, always, where QEMU leaves the buffer as
 * it is unless `read-zeroes` is on.
 */
import type { Driver } from './driver.js';
import { CliError } from '../text/messages.js';
import { StorageNode, type HostStorage } from './storage-node.js';

const DEFAULT_BYTES = 2 ** 30;

function nullStorage(bytes: number, readOnly: boolean): HostStorage {
  let size = bytes;
  return {
    get size() {
      return size;
    },
    readOnly,
    allocatedBytes: 0,
    read: (_offset, target) => void target.fill(0),
    write: () => {},
    writeZeroes: () => {},
    truncate: (wanted) => void (size = wanted),
    flush: () => {},
    close: () => {},
  };
}

function nullDriver(name: string): Driver {
  return {
    name,
    kind: 'protocol',
    prefix: name,
    readFileName(options) {
      const fileName = options.takeText('filename') ?? '';
      const rest = fileName.startsWith(`${name}://`) ? fileName.slice(name.length + 3) : null;
      if (rest !== '') throw new CliError(`The only allowed filename for this driver is '${name}://'`);
    },
    async open({ options, flags, nodeName }) {
      const size = options.takeBytes('size') ?? DEFAULT_BYTES;
      const zero = options.takeBool('read-zeroes') ?? false;
      options.take('latency-ns');
      const readOnly = flags.readOnly ?? false;
      const fileName = `${name}://`;
      return new StorageNode({
        driver: name,
        nodeName,
        fileName,
        storage: nullStorage(size, readOnly),
        file: null,
        readOnly,
        zero,
      });
    },
  };
}

export const nullDrivers: readonly Driver[] = [nullDriver('null-co'), nullDriver('null-aio')];
