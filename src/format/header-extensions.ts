/**
 * Header extensions: tagged records between the header and the backing file name (spec, "Header extensions"). Pure.
 *
 *   0        4        8            8 + length
 *   +--------+--------+------------+---------+
 *   | type   | length | data       | padding |  to a multiple of 8
 *   +--------+--------+------------+---------+
 *
 * Unknown ones are kept, in their order, and written back.
 */
import { Qcow2Error } from '../errors.js';
import { viewOf } from '../util/big-endian.js';
import { alignUp, hex } from '../util/integers.js';

export const EXTENSION_END = 0x0000_0000;
export const EXTENSION_BACKING_FORMAT = 0xe279_2aca;
export const EXTENSION_FEATURE_NAMES = 0x6803_f857;
export const EXTENSION_BITMAPS = 0x2385_2875;
export const EXTENSION_ENCRYPTION = 0x0537_be77;
export const EXTENSION_DATA_FILE = 0x4441_5441;

export interface HeaderExtension {
  readonly type: number;
  readonly data: Uint8Array;
}

/**
 * Reads the extensions in `cluster` (the first cluster) from `start` up to `end`, which is the backing file name or the
 * end of the cluster. Throws `BAD_IMAGE` for one that does not fit.
 */
export function decodeExtensions(cluster: Uint8Array, start: number, end: number): HeaderExtension[] {
  const view = viewOf(cluster);
  const extensions: HeaderExtension[] = [];
  let at = start;
  while (at + 8 <= end) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === EXTENSION_END) break;
    if (length > end - at - 8) {
      throw new Qcow2Error(
        'BAD_IMAGE',
        `header extension ${hex(type)} at offset ${at} has length ${length}; only ${end - at - 8} bytes remain for it`,
      );
    }
    extensions.push({ type, data: cluster.slice(at + 8, at + 8 + length) });
    at += 8 + alignUp(length, 8);
  }
  return extensions;
}

/** All of `extensions` and the end mark. */
export function encodeExtensions(extensions: readonly HeaderExtension[]): Uint8Array {
  const total = extensions.reduce((sum, extension) => sum + 8 + alignUp(extension.data.length, 8), 0);
  const bytes = new Uint8Array(total + 8);
  const view = viewOf(bytes);
  let at = 0;
  for (const extension of extensions) {
    view.setUint32(at, extension.type);
    view.setUint32(at + 4, extension.data.length);
    bytes.set(extension.data, at + 8);
    at += 8 + alignUp(extension.data.length, 8);
  }
  return bytes;
}

/** The last one, where there are several of a type: as QEMU, which lets a later one take the place of an earlier. */
export function findExtension(extensions: readonly HeaderExtension[], type: number): HeaderExtension | undefined {
  return extensions.findLast((extension) => extension.type === type);
}
