/**
 * `raw`: the bytes of another node as they are, all of them or a window (`offset`, `size`).
 *
 * Where the format was guessed, writes to the first sector that would make the next guess another one are refused.
 */
import { CliError, type Console } from '../text/messages.js';
import type { BlockNode } from './block-node.js';
import type { Driver } from './driver.js';
import { PROBED_BYTES, formatOf } from './probe.js';
import { shownName } from './shown-name.js';
import { StorageNode, type HostStorage } from './storage-node.js';
import { windowStorage } from './window-storage.js';

const SECTOR = 512;

export const rawDriver: Driver = {
  name: 'raw',
  kind: 'format',
  strong: ['offset', 'size'],
  async open(context) {
    const { options, flags, nodeName, probed, strong } = context;
    const file = context.file!;
    const offset = options.takeBytes('offset') ?? 0;
    const size = options.takeBytes('size');
    const readOnly = flags.readOnly ?? false;
    if (probed && !readOnly) warnOfGuess(flags.console, file);
    const storage = windowOf(file, { offset, size });
    const guard = probed ? { beforeWrite: guardOf(storage) } : {};
    return new StorageNode({
      driver: 'raw',
      nodeName,
      fileName: shownName({ driver: 'raw', file, strong }),
      storage,
      file,
      readOnly,
      unmap: flags.unmap ?? false,
      ...guard,
    });
  },
};

function windowOf(
  file: BlockNode,
  window: { readonly offset: number; readonly size: number | undefined },
): HostStorage {
  const { offset, size } = window;
  if (offset === 0 && size === undefined) return file.storage;
  if (offset > file.size) {
    throw new CliError('The size of the containing file is less than the specified offset', { errno: 'EINVAL' });
  }
  if (size !== undefined && offset + size > file.size) {
    throw new CliError(
      'The sum of offset and size has to be smaller or equal to the actual size of the containing file',
    );
  }
  if (size !== undefined && size % SECTOR !== 0) throw new CliError(`Specified size is not multiple of ${SECTOR}`);
  return windowStorage(file.storage, { offset, size: size ?? null });
}

function warnOfGuess(console: Console, file: BlockNode): void {
  console.err(
    `WARNING: Image format was not specified for '${file.fileName}' and probing guessed raw.\n` +
      '         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.\n' +
      "         Specify the 'raw' format explicitly to remove the restrictions.\n",
  );
}

function guardOf(storage: HostStorage): (offset: number, source: Uint8Array) => void {
  return (offset, source) => {
    if (offset >= PROBED_BYTES || source.length === 0) return;
    const start = new Uint8Array(PROBED_BYTES);
    storage.read(0, start);
    start.set(source.subarray(0, PROBED_BYTES - offset), offset);
    if (formatOf(start) !== 'raw') throw new CliError('Operation not permitted', { errno: 'EPERM' });
  };
}
