/**
 * The encryption of an open image for a copy of it: the same key behind the same passphrases, without deriving anything. A copy
 * of an encrypted disk is never plain unless it is made so on purpose. Nor is one of a plain image over an encrypted backing
 * file: it holds what that holds.
 */
import { Qcow2Error } from '../errors.js';
import { cryptoAreaOf } from '../format/header.js';
import { encryptionFormat } from '../image/image-encryption.js';
import { Qcow2Image } from '../image/qcow2-image.js';
import type { NewEncryption } from '../image/unlock-image.js';

/**
 * For `createImage`, and its `opened` to open the copy with while `image` is open: that of the image, or else of the first file
 * below it that is encrypted. Null where none is. Throws `KEY_NEEDED` for one that is locked.
 */
export function copiedEncryption(image: Qcow2Image): NewEncryption | null {
  const { header, encryption, storage, backing } = image;
  if (encryptionFormat(header) === null) return backing instanceof Qcow2Image ? copiedEncryption(backing) : null;
  if (encryption === null) throw new Qcow2Error('KEY_NEEDED', 'the image is locked; it can not be copied');
  const opened = { ...encryption, borrowed: true };
  const place = cryptoAreaOf(header);
  if (place === null) return { opened, area: null };
  const area = new Uint8Array(place.length);
  storage.read(place.offset, area);
  return { opened, area };
}
