/** The LUKS header inside an image (spec, "Full disk encryption header pointer"). */
import { cryptoAreaOf, type Header } from '../format/header.js';
import { LUKS_HEADER_BYTES, decodeLuksHeader, type LuksHeader } from '../format/luks-header.js';
import type { Storage } from '../storage/storage.js';
import { assert } from '../util/assert.js';

/** The LUKS header of an image that has one, without its key material. Throws `BAD_IMAGE` or `UNSUPPORTED`. */
export function readLuksHeaderOf(storage: Storage, header: Header): LuksHeader {
  const area = cryptoAreaOf(header);
  assert(area !== null, 'the header of an image with LUKS says where its LUKS header is, or it is refused');
  const bytes = new Uint8Array(LUKS_HEADER_BYTES);
  storage.read(area.offset, bytes);
  return decodeLuksHeader(bytes, area.length);
}
