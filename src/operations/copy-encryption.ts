/**
 * The encryption of an open image for a copy of it: the same key behind the same passphrases, without deriving anything. A copy
 * of an encrypted disk is never plain unless it is made so on purpose.
 */
import { Qcow2Error } from '../errors.js';
import { cryptoAreaOf } from '../format/header.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import type { NewEncryption } from '../image/unlock-image.js';

/**
 * For `createImage`, and its `opened` to open the copy with while `image` is open. Null for an image that is not encrypted.
 * Throws `KEY_NEEDED` for one that is locked.
 */
export function copiedEncryption(image: Qcow2Image): NewEncryption | null {
  const { header, encryption, storage } = image;
  if (header.cryptMethod === 0) return null;
  if (encryption === null) throw new Qcow2Error('KEY_NEEDED', 'the image is locked; it can not be copied');
  const opened = { ...encryption, borrowed: true };
  const place = cryptoAreaOf(header);
  if (place === null) return { opened, area: null };
  const area = new Uint8Array(place.length);
  storage.read(place.offset, area);
  return { opened, area };
}
