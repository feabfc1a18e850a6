/**
 * Zstd frame length: how many bytes the frame at the start of some bytes takes, found by walking its blocks without
 * decompressing them (RFC 8878, sections 3.1.1 and 3.1.2). Pure. All numbers are little endian.
 *
 *   +-------------+--------------+---------+-----+-----------------+
 *   | magic (4)   | header       | block   | ... | checksum (0, 4) |
 *   +-------------+--------------+---------+-----+-----------------+
 *   header   descriptor (1)  window (0, 1)  dictionary id (0, 1, 2, 4)  content size (0, 1, 2, 4, 8)
 *   descriptor  7 6: content size's width   5: single segment   2: checksum   1 0: dictionary id's width
 *   block    header (3): 0: last   2 1: raw, RLE, compressed, reserved   23..3: size;   then its content
 *
 * A skippable frame is a magic number, a length (4) and so many bytes.
 */
import { Qcow2Error } from '../errors.js';
import { viewOf } from '../util/big-endian.js';
import { hex } from '../util/integers.js';

const MAGIC = 0xfd2f_b528;
/** The lowest 4 bits are free. */
const SKIPPABLE_MAGIC = 0x184d_2a50;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4];
const CONTENT_SIZE_BYTES = [0, 2, 4, 8];
const BLOCK_RLE = 1;
const BLOCK_RESERVED = 3;

/** Bytes of the frame that `source` starts with. Throws `BAD_IMAGE`, naming `where`, if there is none or not all of it. */
export function zstdFrameLength(source: Uint8Array, where: string): number {
  const view = viewOf(source);
  const need = (end: number, what: string): void => {
    if (end <= source.length) return;
    throw new Qcow2Error('BAD_IMAGE', `${where}: the zstd ${what} ends at byte ${end}; there are ${source.length}`);
  };
  need(4, 'magic number');
  const magic = view.getUint32(0, true);
  if ((magic & ~0xf) >>> 0 === SKIPPABLE_MAGIC) {
    need(8, 'skippable frame');
    const end = 8 + view.getUint32(4, true);
    need(end, 'skippable frame');
    return end;
  }
  if (magic !== MAGIC) throw new Qcow2Error('BAD_IMAGE', `${where}: ${hex(magic)} is not the magic number of zstd`);
  need(5, 'frame descriptor');
  const descriptor = source[4]!;
  let at = 5 + headerFieldBytes(descriptor);
  for (let last = false; !last;) {
    need(at + 3, 'block header');
    const header = source[at]! | (source[at + 1]! << 8) | (source[at + 2]! << 16);
    const type = (header >> 1) & 3;
    if (type === BLOCK_RESERVED) throw new Qcow2Error('BAD_IMAGE', `${where}: a zstd block has the reserved type 3`);
    at += 3 + (type === BLOCK_RLE ? 1 : header >> 3);
    last = (header & 1) !== 0;
  }
  const end = at + ((descriptor & 4) !== 0 ? 4 : 0);
  need(end, 'frame');
  return end;
}

/** Bytes of the header's fields behind the descriptor. */
function headerFieldBytes(descriptor: number): number {
  const singleSegment = (descriptor & 0x20) !== 0;
  const window = singleSegment ? 0 : 1;
  const contentSizeFlag = descriptor >> 6;
  const contentSize = contentSizeFlag === 0 && singleSegment ? 1 : CONTENT_SIZE_BYTES[contentSizeFlag]!;
  return window + DICTIONARY_ID_BYTES[descriptor & 3]! + contentSize;
}
