/**
 * Writing what was read of a disk to a copy of it: zeroes are told from data, and data may be compressed.
 *
 * Zeroes are looked for in units that are aligned in the disk, so that what comes out does not depend on how the content was cut into
 * pieces. What becomes of them is the caller's: a fresh copy leaves them out, one over something else has to hide it.
 */
import type { Disk, GuestOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import { SECTOR_BYTES } from '../format/limits.js';
import { Qcow2Image } from '../image/qcow2-image.js';
import { isZero } from '../util/bytes.js';
import { alignUp } from '../util/integers.js';

/** Of data that is not compressed. Bytes. */
const ZERO_UNIT = 64 * 1024;

export interface ContentWriter {
  /** Bytes. */
  readonly unit: number;
  readonly data: (offset: GuestOffset, content: Uint8Array) => void;
  readonly zeroes: (offset: GuestOffset, length: number) => void;
}

/** Writes `content` run by run, each of whole units but for the two ends. */
export function writeContent(writer: ContentWriter, offset: GuestOffset, content: Uint8Array): void {
  const { unit } = writer;
  const end = offset + content.length;
  const unitEnd = (at: GuestOffset): GuestOffset => Math.min(end, (Math.floor(at / unit) + 1) * unit);
  const zeroAt = (at: GuestOffset): boolean => isZero(content.subarray(at - offset, unitEnd(at) - offset));
  for (let at = offset; at < end;) {
    const zero = zeroAt(at);
    let stop = unitEnd(at);
    while (stop < end && zeroAt(stop) === zero) stop = unitEnd(stop);
    if (zero) writer.zeroes(at, stop - at);
    else writer.data(at, content.subarray(at - offset, stop - offset));
    at = stop;
  }
}

/** Where data goes to, and the unit that it is cut into. Throws `BAD_ARGUMENT` for a target that can't hold compressed clusters. */
export function dataWriter(target: Disk, compress: boolean): Pick<ContentWriter, 'unit' | 'data'> {
  if (!compress) {
    // Encryption knows whole sectors only.
    const data = (offset: GuestOffset, content: Uint8Array): void =>
      target.write(offset, filledUp(content, SECTOR_BYTES, { offset, size: target.size }));
    return { unit: ZERO_UNIT, data };
  }
  if (!(target instanceof Qcow2Image)) {
    throw new Qcow2Error('BAD_ARGUMENT', 'compress is true; only a qcow2 image can hold compressed clusters');
  }
  const { clusterSize } = target;
  return {
    unit: clusterSize,
    data: (offset, content) =>
      target.writeCompressed(offset, filledUp(content, clusterSize, { offset, size: target.size })),
  };
}

/** Up to whole units: a disk may end inside a sector, where the copy, of `size` bytes, does not. */
function filledUp(
  content: Uint8Array,
  unit: number,
  { offset, size }: { readonly offset: GuestOffset; readonly size: number },
): Uint8Array {
  const end = Math.min(size, alignUp(offset + content.length, unit));
  if (end === offset + content.length) return content;
  const whole = new Uint8Array(end - offset);
  whole.set(content);
  return whole;
}
