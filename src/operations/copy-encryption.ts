/**
 * The encryption of an open image for a copy of it: the same key behind the same passphrases, without deriving anything. A copy
 * of an encrypted disk is never plain unless it is made so on purpose. Nor is one of a plain image over an encrypted backing
 * file: it holds what that holds.
 *
 * What the same key in two files costs, as they lie in different places and go on to differ. To who has both it is as if he had
 * two versions of one file:
 *
 *   xts, ecb   that a block of 16 bytes is the same in both, at the same place of the file (ecb: anywhere)
 *   cbc        that two sectors begin with the same blocks
 *   ctr        the XOR of two contents: both, in the end. So it is refused; such a copy must have a key of its own.
 *
 * And whoever opens one of them, now or by a passphrase that it will be given, has the key of the other. A copy for somebody else
 * should have its own, by `newEncryption`; that takes a passphrase, which nobody keeps here. Legacy AES has no other key to give:
 * the passphrase is the key.
 */
import { Qcow2Error } from '../errors.js';
import { cryptoAreaOf } from '../format/header.js';
import { encryptionFormat } from '../image/image-encryption.js';
import { Qcow2Image } from '../image/qcow2-image.js';
import { encryptionOf, type NewEncryption } from '../image/unlock-image.js';

/**
 * For `createImage`, and its `opened` to open the copy with while `image` is open: that of the image, or else of the first file
 * below it that is encrypted. Null where none is. Throws `KEY_NEEDED` for one that is locked, or whose
 * cipher mode is `ctr`.
 */
export function copiedEncryption(image: Qcow2Image): NewEncryption | null {
  const { header, encryption, storage, backing } = image;
  if (encryptionFormat(header) === null) return backing instanceof Qcow2Image ? copiedEncryption(backing) : null;
  if (encryption === null) throw new Qcow2Error('KEY_NEEDED', 'the image is locked; it can not be copied');
  if (encryption.spec.mode === 'ctr') {
    const why = 'in cipher mode ctr two files with one key give away the content of both';
    throw new Qcow2Error('KEY_NEEDED', `${why}; give the copy an encryption of its own`);
  }
  const opened = { ...encryption, borrowed: true };
  const place = cryptoAreaOf(header);
  if (place === null) return encryptionOf(opened, null);
  const area = new Uint8Array(place.length);
  storage.read(place.offset, area);
  return encryptionOf(opened, area);
}
