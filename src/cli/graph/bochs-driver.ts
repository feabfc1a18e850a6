/**
 * `bochs`: growing images of the Bochs emulator, to be read (and converted) only. All numbers are little endian.
 *
 *   header     0 magic (32)  32 type (16)  48 subtype (16)  64 version  68 header bytes  72 catalog entries
 *             76 bitmap bytes  80 extent bytes  84 disk bytes (version 1) or reserved, then 88 disk bytes (version 2)
 *   catalog    one number an extent: which of the stored ones it is; all ones for none
 *   extent     | bitmap: one bit a sector, set if it is stored | its sectors |
 */
import { Qcow2Error } from '../../errors.js';
import type { Storage } from '../../storage/storage.js';
import { viewOf } from '../../util/big-endian.js';
import { divideUp, isPowerOfTwo } from '../../util/integers.js';
import { CliError } from '../text/messages.js';
import type { Driver } from './driver.js';
import { StorageNode, type HostStorage } from './storage-node.js';

const HEADER_BYTES = 512;
const SECTOR = 512;
const VERSION_1 = 0x10000;
const VERSION_2 = 0x20000;
const NOT_STORED = 0xffff_ffff;
/** As QEMU's limits. */
const MOST_EXTENTS = 0x100000;
const LARGEST_EXTENT = 0x800000;

export const bochsDriver: Driver = {
  name: 'bochs',
  kind: 'format',
  async open({ file, flags }) {
    if (flags.readOnly !== true) throw new CliError('Image is read-only', { errno: 'EACCES' });
    const storage = growingDisk(file!.storage);
    return new StorageNode({ driver: 'bochs', fileName: file!.fileName, storage, file, readOnly: true });
  },
};

/** Whether a file that begins with `start` is one. */
export function isBochs(start: Uint8Array): boolean {
  if (start.length < HEADER_BYTES) return false;
  const word = (at: number, length: number): string =>
    Buffer.from(start.subarray(at, at + length))
      .toString('latin1')
      .replace(/\0.*$/s, '');
  if (word(0, 32) !== 'Bochs Virtual HD Image' || word(32, 16) !== 'Redolog' || word(48, 16) !== 'Growing')
    return false;
  return [VERSION_1, VERSION_2].includes(viewOf(start).getUint32(64, true));
}

interface Layout {
  readonly size: number;
  readonly extentBytes: number;
  /** Of the first stored extent. */
  readonly dataOffset: number;
  /** Of a stored extent with its bitmap. */
  readonly storedBytes: number;
  readonly bitmapBytes: number;
  readonly catalog: DataView;
}

function readLayout(storage: Storage): Layout {
  const header = new Uint8Array(HEADER_BYTES);
  storage.read(0, header);
  if (!isBochs(header)) throw new CliError('Image not in Bochs format');
  const view = viewOf(header);
  const field = (at: number): number => view.getUint32(at, true);
  const sizeAt = field(64) === VERSION_1 ? 84 : 88;
  const size = Number(view.getBigUint64(sizeAt, true));
  const entries = field(72);
  const extentBytes = field(80);
  if (entries > MOST_EXTENTS) throw new CliError('Catalog size is too large', { errno: 'EFBIG' });
  if (extentBytes < SECTOR) throw new CliError('Extent size must be at least 512');
  if (!isPowerOfTwo(extentBytes)) throw new CliError(`Extent size ${extentBytes} is not a power of two`);
  if (extentBytes > LARGEST_EXTENT) throw new CliError(`Extent size ${extentBytes} is too large`);
  const usedSize = Math.floor(size / SECTOR) * SECTOR;
  if (entries < divideUp(usedSize, extentBytes)) throw new CliError('Catalog size is too small for this disk size');
  const catalog = new Uint8Array(entries * 4);
  storage.read(field(68), catalog);
  const bitmapBytes = divideUp(field(76), SECTOR) * SECTOR;
  const storedBytes = bitmapBytes + extentBytes;
  return {
    size: usedSize,
    extentBytes,
    dataOffset: field(68) + entries * 4,
    storedBytes,
    bitmapBytes,
    catalog: viewOf(catalog),
  };
}

function growingDisk(inner: Storage): HostStorage {
  const layout = readLayout(inner);
  const refuse = (): never => {
    throw new Qcow2Error('READ_ONLY', 'images of Bochs can only be read');
  };
  return {
    size: layout.size,
    readOnly: true,
    read: (offset, target) => read(inner, layout, offset, target),
    write: refuse,
    truncate: refuse,
    flush: () => {},
    close: () => inner.close(),
  };
}

/** Sector by sector; what lies past the end is zeroes. */
function read(inner: Storage, layout: Layout, offset: number, target: Uint8Array): void {
  target.fill(0);
  const end = Math.min(layout.size, offset + target.length);
  for (let at = offset; at < end;) {
    const stop = Math.min(end, (Math.floor(at / SECTOR) + 1) * SECTOR);
    const host = placeOf(inner, layout, at);
    if (host !== null) inner.read(host, target.subarray(at - offset, stop - offset));
    at = stop;
  }
}

/** Null for a sector that is not stored. */
function placeOf(
  inner: Storage,
  { extentBytes, dataOffset, storedBytes, bitmapBytes, catalog }: Layout,
  at: number,
): number | null {
  const stored = catalog.getUint32(Math.floor(at / extentBytes) * 4, true);
  if (stored === NOT_STORED) return null;
  const start = dataOffset + stored * storedBytes;
  const inExtent = at % extentBytes;
  const sector = Math.floor(inExtent / SECTOR);
  const bits = new Uint8Array(1);
  inner.read(start + Math.floor(sector / 8), bits);
  return ((bits[0]! >> (sector % 8)) & 1) === 0 ? null : start + bitmapBytes + inExtent;
}
